#include "tree_put.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define STEP "write the files"
#define BLOCK 512u
#define BUFFER (1u << 18)
#define META_MAX (1u << 20)

struct entry {
	char type;
	char path[PATH_MAX], link[PATH_MAX];
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size;
	struct timespec mtime;
	unsigned major, minor;
};

struct input {
	int fd;
	char *buffer;
	size_t start, end;
	char *meta; /* records of the PAX header before this entry */
	size_t meta_len;
};

/* --- reading --- */

/* At most `len` bytes of what is there; 0 at the end. */
static ssize_t some(struct input *in, const char **bytes, size_t len)
{
	if (in->start == in->end) {
		ssize_t got = RETRY(read(in->fd, in->buffer, BUFFER));

		if (got <= 0)
			return got < 0 ? -errno : 0;
		in->start = 0;
		in->end = (size_t)got;
	}
	if (len > in->end - in->start)
		len = in->end - in->start;
	*bytes = in->buffer + in->start;
	in->start += len;
	return (ssize_t)len;
}

static int exactly(struct input *in, void *into, size_t len)
{
	char *to = into;

	while (len > 0) {
		const char *bytes;
		ssize_t got = some(in, &bytes, len);

		if (got <= 0)
			return got < 0 ? (int)got : -EPROTO;
		if (into != NULL) {
			memcpy(to, bytes, (size_t)got);
			to += got;
		}
		len -= (size_t)got;
	}
	return 0;
}

static size_t padding(uint64_t size)
{
	return (BLOCK - size % BLOCK) % BLOCK;
}

static int octal(const char *field, size_t len, uint64_t *value)
{
	*value = 0;
	for (size_t i = 0; i < len && field[i] != '\0' && field[i] != ' '; i++) {
		if (field[i] < '0' || field[i] > '7')
			return -EPROTO;
		*value = *value << 3 | (uint64_t)(field[i] - '0');
	}
	return 0;
}

static int decimal(const char *text, size_t len, uint64_t *value)
{
	*value = 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9' || *value > UINT64_MAX / 10 - 1)
			return -EPROTO;
		*value = *value * 10 + (uint64_t)(text[i] - '0');
	}
	return len == 0 ? -EPROTO : 0;
}

static int take_text(char into[PATH_MAX], const char *text, size_t len)
{
	if (len >= PATH_MAX || memchr(text, 0, len) != NULL)
		return -ENAMETOOLONG;
	memcpy(into, text, len);
	into[len] = '\0';
	return 0;
}

/* "-5.75" is 5.75 seconds before 1970. */
static int take_time(struct timespec *time, const char *text, size_t len)
{
	const char *dot = memchr(text, '.', len);
	bool before = len > 0 && text[0] == '-';
	size_t whole = dot == NULL ? len : (size_t)(dot - text);
	size_t digits = dot == NULL ? 0 : len - whole - 1;
	uint64_t seconds, part = 0;

	if (decimal(text + before, whole - before, &seconds) < 0 || digits > 9 || (digits > 0 && decimal(dot + 1, digits, &part) < 0))
		return -EPROTO;
	for (; digits > 0 && digits < 9; digits++)
		part *= 10;
	time->tv_sec = before ? -(time_t)seconds - (part > 0) : (time_t)seconds;
	time->tv_nsec = before && part > 0 ? (long)(1000000000 - part) : (long)part;
	return 0;
}

static int take_record(struct entry *entry, const char *key, size_t key_len, const char *value, size_t len)
{
	uint64_t number;
	int result;

#define IS(name) (key_len == sizeof(name) - 1 && memcmp(key, name, key_len) == 0)
	if (IS("path"))
		return take_text(entry->path, value, len);
	if (IS("linkpath"))
		return take_text(entry->link, value, len);
	if (IS("mtime"))
		return take_time(&entry->mtime, value, len);
	if (!IS("size") && !IS("uid") && !IS("gid"))
		return 0;
	result = decimal(value, len, &number);
	if (result < 0)
		return result;
	if (IS("size"))
		entry->size = number;
	else if (IS("uid"))
		entry->uid = (uid_t)number;
	else
		entry->gid = (gid_t)number;
#undef IS
	return 0;
}

/* Each "LENGTH KEY=VALUE\n" to `visit`; the attributes are looked at again once the file is there. */
static int each_record(struct input *in, int (*visit)(void *ctx, const char *key, size_t key_len, const char *value, size_t len), void *ctx)
{
	const char *at = in->meta, *end = in->meta + in->meta_len;

	while (at < end) {
		const char *blank = memchr(at, ' ', (size_t)(end - at));
		uint64_t len;

		if (blank == NULL || decimal(at, (size_t)(blank - at), &len) < 0 || len > (uint64_t)(end - at) || len < (uint64_t)(blank - at) + 2 || at[len - 1] != '\n')
			return -EPROTO;
		const char *key = blank + 1, *record_end = at + len - 1;
		const char *equals = memchr(key, '=', (size_t)(record_end - key));
		int result = equals == NULL ? -EPROTO : visit(ctx, key, (size_t)(equals - key), equals + 1, (size_t)(record_end - equals - 1));

		if (result < 0)
			return result;
		at += len;
	}
	return 0;
}

static int visit_fields(void *ctx, const char *key, size_t key_len, const char *value, size_t len)
{
	return take_record(ctx, key, key_len, value, len);
}

static int read_meta(struct input *in, uint64_t size)
{
	if (size > META_MAX)
		return -EFBIG;
	free(in->meta);
	in->meta = malloc((size_t)size + 1);
	in->meta_len = (size_t)size;
	if (in->meta == NULL)
		return -ENOMEM;
	int result = exactly(in, in->meta, (size_t)size);
	return result < 0 ? result : exactly(in, NULL, padding(size));
}

/* 1: an entry; 0: the end. */
static int next_entry(struct input *in, struct entry *entry)
{
	char block[BLOCK];
	uint64_t mode, uid, gid, mtime, major, minor;
	int result;

	in->meta_len = 0;
	for (;;) {
		result = exactly(in, block, BLOCK);
		if (result < 0)
			return result;
		if (block[0] == '\0')
			return 0;
		memset(entry, 0, sizeof *entry);
		entry->type = block[156];
		if (octal(block + 100, 8, &mode) < 0 || octal(block + 108, 8, &uid) < 0 || octal(block + 116, 8, &gid) < 0 || octal(block + 124, 12, &entry->size) < 0 ||
		    octal(block + 136, 12, &mtime) < 0 || octal(block + 329, 8, &major) < 0 || octal(block + 337, 8, &minor) < 0)
			return -EPROTO;
		if (entry->type != 'x')
			break;
		result = read_meta(in, entry->size);
		if (result < 0)
			return result;
	}
	entry->mode = (mode_t)mode & 07777;
	entry->uid = (uid_t)uid;
	entry->gid = (gid_t)gid;
	entry->mtime.tv_sec = (time_t)mtime;
	entry->major = (unsigned)major;
	entry->minor = (unsigned)minor;
	memcpy(entry->path, block, 100);
	memcpy(entry->link, block + 157, 100);
	result = each_record(in, visit_fields, entry);
	for (size_t len = strlen(entry->path); len > 1 && entry->path[len - 1] == '/'; len--)
		entry->path[len - 1] = '\0';
	return result < 0 ? result : entry->path[0] == '\0' || entry->path[0] == '/' ? -EPROTO : 1;
}

/* --- writing --- */

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

static int put_content(struct input *in, int fd, uint64_t size)
{
	for (uint64_t left = size; left > 0;) {
		const char *bytes;
		ssize_t got = some(in, &bytes, left > BUFFER ? BUFFER : (size_t)left);

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
	return exactly(in, NULL, padding(size));
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
static int settle(struct input *in, const struct entry *entry)
{
	const struct timespec times[2] = {entry->mtime, entry->mtime};

	if (lchown(entry->path, entry->uid, entry->gid) < 0)
		return -errno;
	if (entry->type != '2' && chmod(entry->path, entry->mode) < 0)
		return -errno;
	int result = each_record(in, set_attribute, (void *)(uintptr_t)entry->path);
	if (result < 0 || entry->type == '5')
		return result;
	return utimensat(AT_FDCWD, entry->path, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int put_file(struct input *in, const struct entry *entry)
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

static int put_node(const struct entry *entry)
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

static int put_entry(struct input *in, const struct entry *entry)
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

static int remember(struct late **late, const struct entry *entry)
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

int tree_put(int in, bool whole, struct err *err)
{
	cleanup_free char *buffer = malloc(BUFFER);
	cleanup_free struct entry *entry = malloc(sizeof *entry);
	struct input input = {.fd = in, .buffer = buffer};
	struct late *late = NULL;
	int result;

	if (buffer == NULL || entry == NULL)
		return fail(err, ENOMEM, STEP, "a buffer");
	umask(0);
	while ((result = next_entry(&input, entry)) > 0) {
		result = put_entry(&input, entry);
		if (result == 0 && whole && entry->type == '5')
			result = remember(&late, entry);
		if (result < 0) {
			free(input.meta);
			(void)set_late(late, result);
			return fail(err, -result, STEP, "/%s", entry->path);
		}
	}
	free(input.meta);
	if (result < 0) {
		(void)set_late(late, result);
		return fail(err, -result, STEP, "the archive is damaged");
	}
	result = set_late(late, 0);
	return result < 0 ? fail(err, -result, STEP, "the times of directories") : 0;
}
