#include "tree_put.h"

#include "tar_in.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define STEP "write the files"

static int make_parents(const char *path)
{
	char part[PATH_MAX];

	for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		memcpy(part, path, (size_t)(slash - path));
		part[slash - path] = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* What has the name goes; never a directory, which may be full. */
static int make_way(const char *path)
{
	if (unlink(path) == 0 || errno == ENOENT)
		return 0;
	return errno == ENOTDIR ? make_parents(path) : -errno;
}

static int make_directory(const char *path)
{
	struct stat st;

	if (mkdir(path, 0755) == 0)
		return 0;
	if (errno == ENOENT)
		return make_parents(path) < 0 || mkdir(path, 0755) < 0 ? -errno : 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return unlink(path) < 0 || mkdir(path, 0755) < 0 ? -errno : 0;
}

static int put_content(struct tar_in *in, int fd, uint64_t size)
{
	for (uint64_t left = size; left > 0;) {
		const char *bytes;
		ssize_t got = tar_in_some(in, &bytes, left > TAR_IN_BUFFER ? TAR_IN_BUFFER : (size_t)left);

		if (got <= 0)
			return got < 0 ? (int)got : -EPROTO;
		left -= (uint64_t)got;
		while (got > 0) {
			ssize_t put = RETRY(write(fd, bytes, (size_t)got));

			if (put < 0)
				return -errno;
			bytes += put;
			got -= put;
		}
	}
	return tar_in_skip_padding(in, size);
}

static int set_attribute(void *ctx, const char *key, size_t key_len, const char *value, size_t len)
{
	static const char prefix[] = "SCHILY.xattr.";
	char name[XATTR_NAME_MAX + 1];

	if (key_len <= sizeof prefix - 1 || memcmp(key, prefix, sizeof prefix - 1) != 0)
		return 0;
	key += sizeof prefix - 1;
	key_len -= sizeof prefix - 1;
	if (key_len > XATTR_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, key, key_len);
	name[key_len] = '\0';
	/* A file system without room for it has none of any file. */
	return lsetxattr(ctx, name, value, len, 0) < 0 && errno != ENOTSUP ? -errno : 0;
}

/* Owner first: it takes set-id bits and capabilities away. */
static int settle(struct tar_in *in, const struct tar_member *entry)
{
	const struct timespec times[2] = {entry->mtime, entry->mtime};

	if (lchown(entry->path, entry->uid, entry->gid) < 0)
		return -errno;
	if (entry->type != '2' && chmod(entry->path, entry->mode) < 0)
		return -errno;
	int result = tar_in_each_record(in, set_attribute, (void *)(uintptr_t)entry->path);
	if (result < 0 || entry->type == '5')
		return result;
	return utimensat(AT_FDCWD, entry->path, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int put_file(struct tar_in *in, const struct tar_member *entry)
{
	int fd = open(entry->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 && errno == ENOENT && make_parents(entry->path) == 0)
		fd = open(entry->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int result = put_content(in, fd, entry->size);
	if (close(fd) < 0 && result == 0)
		result = -errno;
	return result;
}

static int put_node(const struct tar_member *entry)
{
	mode_t kind = entry->type == '3' ? S_IFCHR : entry->type == '4' ? S_IFBLK : S_IFIFO;

	switch (entry->type) {
	case '1':
		return link(entry->link, entry->path) < 0 ? -errno : 0;
	case '2':
		return symlink(entry->link, entry->path) < 0 ? -errno : 0;
	case '3':
	case '4':
	case '6':
		return mknod(entry->path, kind | 0600, makedev(entry->major, entry->minor)) < 0 ? -errno : 0;
	default:
		return -EPROTO;
	}
}

static int put_entry(struct tar_in *in, const struct tar_member *entry)
{
	int result;

	if (entry->type == '5') {
		result = make_directory(entry->path);
		return result < 0 ? result : settle(in, entry);
	}
	result = make_way(entry->path);
	if (result < 0)
		return result;
	if (entry->type == '0') {
		result = put_file(in, entry);
	} else {
		result = put_node(entry);
		if (result == -ENOENT && make_parents(entry->path) == 0)
			result = put_node(entry);
	}
	/* A hard link has what its file has. */
	return result < 0 || entry->type == '1' ? result : settle(in, entry);
}

/* --- times of directories: theirs once all is in them --- */

struct late {
	struct late *next;
	struct timespec mtime;
	char path[];
};

static int remember(struct late **late, const struct tar_member *entry)
{
	size_t size = strlen(entry->path) + 1;
	struct late *each = malloc(sizeof *each + size);

	if (each == NULL)
		return -ENOMEM;
	memcpy(each->path, entry->path, size);
	each->mtime = entry->mtime;
	each->next = *late;
	*late = each;
	return 0;
}

static int set_late(struct late *late, int result)
{
	while (late != NULL) {
		struct late *each = late;
		const struct timespec times[2] = {each->mtime, each->mtime};

		if (result == 0 && utimensat(AT_FDCWD, each->path, times, AT_SYMLINK_NOFOLLOW) < 0)
			result = -errno;
		late = each->next;
		free(each);
	}
	return result;
}

static int put_all(struct tar_in *in, struct tar_member *entry, bool whole, struct late **late, struct err *err)
{
	int result;

	while ((result = tar_in_next(in, entry)) > 0) {
		result = put_entry(in, entry);
		if (result == 0 && whole && entry->type == '5')
			result = remember(late, entry);
		if (result < 0)
			return fail(err, -result, STEP, "/%s", entry->path);
	}
	return result < 0 ? fail(err, -result, STEP, "the archive is damaged") : 0;
}

int tree_put(int in, bool whole, struct err *err)
{
	cleanup_free struct tar_member *entry = malloc(sizeof *entry);
	struct tar_in input;
	struct late *late = NULL;
	int result = tar_in_open(&input, in);

	umask(0);
	if (result < 0 || entry == NULL)
		result = fail(err, ENOMEM, STEP, "a buffer");
	else
		result = put_all(&input, entry, whole, &late, err);
	tar_in_close(&input);
	if (result < 0)
		return set_late(late, result);
	result = set_late(late, 0);
	return result < 0 ? fail(err, -result, STEP, "the times of directories") : 0;
}
