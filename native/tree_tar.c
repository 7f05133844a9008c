/* It exists because Node has no calls for xattrs and decodes names. */
#include "tree_tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "links.h"
#include "tar_out.h"

#define DEPTH_MAX 1024u
#define XATTR_ROOM 65536u

struct archive {
	struct tar_out out;
	const struct tree_records *records; /* may be NULL */
	dev_t dev; /* the file system the directory is on */
	char *path; /* of the entry in hand, as in the archive */
	size_t path_len, path_cap;
	char *xattrs; /* room for their names, then for a value */
	struct links links; /* by device and inode */
	unsigned depth;
};

/* A name in a directory, as a path: there are no calls for xattrs that take both. */
struct fd_path {
	char text[64 + 256];
};

static struct fd_path fd_path_of(int dir, const char *name)
{
	struct fd_path path;

	snprintf(path.text, sizeof path.text, "/proc/self/fd/%d/%s", dir, name);
	return path;
}

/* --- what steps have recorded --- */

/* The name under which an xattr goes into the archive; NULL: not at all. */
static const char *archived_name(const struct archive *a, const char *name)
{
	/* A label of the host's policy says nothing about the image. */
	if (a->records != NULL && strncmp(name, OWNER_KEPT_PREFIX, strlen(OWNER_KEPT_PREFIX)) == 0)
		name += strlen(OWNER_KEPT_PREFIX);
	if (strcmp(name, "security.selinux") == 0)
		return NULL;
	if (a->records != NULL && (strncmp(name, OWNER_PREFIX, strlen(OWNER_PREFIX)) == 0 || strncmp(name, "user.overlay.", 13) == 0 ||
	                           strncmp(name, "trusted.overlay.", 16) == 0))
		return NULL;
	return name;
}

static bool is_deleted(const struct archive *a, const struct stat *st)
{
	return a->records != NULL && S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static bool hides_below(const struct archive *a, int dir)
{
	char value[2];

	return a->records != NULL && ((fgetxattr(dir, "user.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y') ||
	                              (fgetxattr(dir, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y'));
}

static const struct owner_record *table_record(const struct archive *a, int dir, const char *name)
{
	cleanup_fd int fd = a->records->table == NULL ? -1 : openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	const struct owner_record *found;
	struct owner_key key;

	if (fd < 0 || owner_key_of(fd, &key) < 0)
		return NULL;
	found = owner_table_find(a->records->table, &key);
	key = owner_key_of_path(a->path);
	return found != NULL ? found : owner_table_find(a->records->table, &key);
}

/* Makes `st` what the file is to be. */
static void apply_record(const struct archive *a, int dir, const char *name, struct stat *st)
{
	struct owner_record record = {0};
	char text[OWNER_TEXT_MAX];
	ssize_t len;

	if (a->records == NULL)
		return;
	len = S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) ? lgetxattr(fd_path_of(dir, name).text, OWNER_XATTR, text, sizeof text) : -1;
	/* What the payload itself has written there may be anything; then there is no record. */
	if (len < 0 || owner_parse(text, (size_t)len, &record) < 0) {
		const struct owner_record *found = table_record(a, dir, name);

		if (found != NULL)
			record = *found;
	}
	if (!a->records->real_owners) {
		st->st_uid = record.uid;
		st->st_gid = record.gid;
	}
	if (record.device != 0 && S_ISREG(st->st_mode)) {
		st->st_mode = (st->st_mode & 07777) | (record.device == 'c' ? S_IFCHR : S_IFBLK);
		st->st_rdev = makedev(record.major, record.minor);
	}
}

static int add_xattrs(struct archive *a, int dir, const char *name, struct err *err)
{
	const struct fd_path path = fd_path_of(dir, name);
	char *names = a->xattrs, *value = a->xattrs + XATTR_ROOM, key[16 + 256];
	ssize_t len = llistxattr(path.text, names, XATTR_ROOM);
	int rc = 0;

	if (len < 0 && errno == ENOTSUP)
		return 0;
	if (len < 0)
		return fail(err, errno, TAR_STEP, "listing the xattrs of %.300s", a->path);
	for (const char *at = names; rc == 0 && at < names + len; at += strlen(at) + 1) {
		const char *wanted = archived_name(a, at);
		ssize_t got = wanted == NULL ? 0 : lgetxattr(path.text, at, value, XATTR_ROOM);

		if (wanted == NULL)
			continue;
		if (got < 0)
			return fail(err, errno, TAR_STEP, "reading xattr %.100s of %.300s", at, a->path);
		snprintf(key, sizeof key, "SCHILY.xattr.%.255s", wanted);
		rc = tar_pax(&a->out, key, value, (size_t)got, err);
	}
	return rc;
}

static int put_entry(struct archive *a, int dir, const char *name, char type, const struct stat *st, const char *link, struct err *err)
{
	int rc = type == '1' ? 0 : add_xattrs(a, dir, name, err);

	return rc == 0 ? tar_entry(&a->out, a->path, type, st, link, err) : rc;
}

/* --- entries --- */

static int put_content(struct archive *a, int fd, uint64_t size, struct err *err)
{
	uint64_t left = size;

	while (left > 0) {
		size_t room = TAR_BUFFER - a->out.filled;
		ssize_t got = RETRY(read(fd, a->out.buffer + a->out.filled, left < room ? (size_t)left : room));
		int rc;

		if (got < 0)
			return fail(err, errno, TAR_STEP, "reading %.300s", a->path);
		if (got == 0)
			return fail(err, EIO, TAR_STEP, "%.300s became shorter while it was read", a->path);
		a->out.filled += (size_t)got;
		left -= (uint64_t)got;
		rc = a->out.filled == TAR_BUFFER ? tar_flush(&a->out, err) : 0;
		if (rc < 0)
			return rc;
	}
	return tar_pad(&a->out, size, err);
}

static int put_file(struct archive *a, int dir, const char *name, const struct stat *seen, struct err *err)
{
	int cleanup_fd fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int rc;

	if (fd < 0)
		return fail(err, errno, TAR_STEP, "opening %.300s", a->path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_ino != seen->st_ino || st.st_dev != seen->st_dev)
		return fail(err, EAGAIN, TAR_STEP, "%.300s was replaced while it was read", a->path);
	st.st_uid = seen->st_uid;
	st.st_gid = seen->st_gid;
	rc = put_entry(a, dir, name, '0', &st, "", err);
	return rc < 0 ? rc : put_content(a, fd, (uint64_t)st.st_size, err);
}

static int put_symlink(struct archive *a, int dir, const char *name, const struct stat *st, struct err *err)
{
	char text[4097];
	ssize_t len = readlinkat(dir, name, text, sizeof text - 1);

	if (len < 0)
		return fail(err, errno, TAR_STEP, "reading the link %.300s", a->path);
	text[len] = '\0';
	return put_entry(a, dir, name, '2', st, text, err);
}

static int put_directory(struct archive *a, int dir, const char *name, struct stat *st, struct err *err);
static int push_path(struct archive *a, const char *name, struct err *err);

/* An empty file whose name says something about those below. */
static int put_mark(struct archive *a, const char *name, struct err *err)
{
	const struct stat plain = { .st_mode = S_IFREG };
	size_t before = a->path_len;
	int rc = push_path(a, name, err);

	if (rc == 0)
		rc = tar_entry(&a->out, a->path, '0', &plain, "", err);
	a->path_len = before;
	a->path[before] = '\0';
	return rc;
}

static int put_deleted(struct archive *a, const char *name, struct err *err)
{
	char mark[8 + 256];
	int rc;

	/* In the place of the name itself. */
	a->path_len -= strlen(name);
	snprintf(mark, sizeof mark, ".wh.%s", name);
	rc = put_mark(a, mark, err);
	a->path_len += strlen(name);
	return rc;
}

static int put_any(struct archive *a, int dir, const char *name, struct err *err)
{
	const char *first = NULL;
	struct stat st;
	int rc = 0;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, TAR_STEP, "looking at %.300s", a->path);
	if (S_ISDIR(st.st_mode))
		return put_directory(a, dir, name, &st, err);
	if (S_ISSOCK(st.st_mode))
		return 0;
	if (is_deleted(a, &st))
		return put_deleted(a, name, err);
	if (st.st_nlink > 1)
		rc = links_find(&a->links, st.st_dev, st.st_ino, a->path, &first);
	if (rc < 0)
		return fail(err, -rc, TAR_STEP, "out of memory");
	apply_record(a, dir, name, &st);
	if (first != NULL)
		return put_entry(a, dir, name, '1', &st, first, err);
	if (S_ISREG(st.st_mode))
		return put_file(a, dir, name, &st, err);
	if (S_ISLNK(st.st_mode))
		return put_symlink(a, dir, name, &st, err);
	return put_entry(a, dir, name, S_ISCHR(st.st_mode) ? '3' : S_ISBLK(st.st_mode) ? '4' : '6', &st, "", err);
}

struct names {
	char **list;
	size_t count, cap;
};

static void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->list[i]);
	free(names->list);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(const char *path, int fd, struct names *names, struct err *err)
{
	DIR *listing = fdopendir(fd);
	struct dirent *entry;
	int rc = 0;

	if (listing == NULL) {
		close(fd);
		return fail(err, errno, TAR_STEP, "listing %.300s", path);
	}
	while (rc == 0 && (errno = 0, entry = readdir(listing)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (names->count == names->cap) {
			size_t cap = names->cap * 2 + 64;
			char **bigger = realloc(names->list, cap * sizeof *bigger);

			if (bigger == NULL) {
				rc = fail(err, ENOMEM, TAR_STEP, "out of memory");
				break;
			}
			names->list = bigger;
			names->cap = cap;
		}
		names->list[names->count] = strdup(entry->d_name);
		if (names->list[names->count] == NULL)
			rc = fail(err, ENOMEM, TAR_STEP, "out of memory");
		else
			names->count++;
	}
	if (rc == 0 && entry == NULL && errno != 0)
		rc = fail(err, errno, TAR_STEP, "listing %.300s", path);
	closedir(listing);
	if (names->count > 0)
		qsort(names->list, names->count, sizeof *names->list, compare_names);
	return rc;
}

static int push_path(struct archive *a, const char *name, struct err *err)
{
	size_t len = strlen(name);

	if (a->path_len + len + 2 > a->path_cap) {
		size_t cap = (a->path_len + len + 2) * 2;
		char *bigger = realloc(a->path, cap);

		if (bigger == NULL)
			return fail(err, ENOMEM, TAR_STEP, "out of memory");
		a->path = bigger;
		a->path_cap = cap;
	}
	memcpy(a->path + a->path_len, name, len + 1);
	a->path_len += len;
	return 0;
}

/* The archive's path ends with a slash for a directory. */
static int put_directory(struct archive *a, int dir, const char *name, struct stat *st, struct err *err)
{
	struct names __attribute__((cleanup(names_free))) names = { 0 };
	int cleanup_fd fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int listing, rc;

	if (fd < 0)
		return fail(err, errno, TAR_STEP, "opening %.300s", a->path);
	if (++a->depth > DEPTH_MAX)
		return fail(err, ENAMETOOLONG, TAR_STEP, "%.300s… is more than %u directories deep", a->path, DEPTH_MAX);
	apply_record(a, dir, name, st);
	rc = push_path(a, "/", err);
	if (rc == 0)
		rc = put_entry(a, dir, name, '5', st, "", err);
	if (rc == 0 && hides_below(a, fd))
		rc = put_mark(a, ".wh..wh..opq", err);
	if (rc == 0 && st->st_dev == a->dev) {
		listing = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = listing < 0 ? fail(err, errno, TAR_STEP, "listing %.300s", a->path) : read_names(a->path, listing, &names, err);
	}
	for (size_t i = 0; rc == 0 && i < names.count; i++) {
		size_t before = a->path_len;

		if (a->depth == 1 && strcmp(names.list[i], OWNER_TABLE_NAME) == 0)
			continue;
		rc = push_path(a, names.list[i], err);
		if (rc == 0)
			rc = put_any(a, fd, names.list[i], err);
		a->path_len = before;
		a->path[before] = '\0';
	}
	a->depth--;
	return rc;
}

static int put_all(struct archive *a, const char *path, struct err *err)
{
	int cleanup_fd top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int rc;

	if (top < 0 || fstat(top, &st) < 0)
		return fail(err, errno, TAR_STEP, "%.300s", path);
	a->dev = st.st_dev;
	rc = push_path(a, ".", err);
	if (rc == 0)
		rc = put_directory(a, top, ".", &st, err);
	return rc == 0 ? tar_end(&a->out, err) : rc;
}

int tree_tar(const char *path, int out, const struct tree_records *records, struct err *err)
{
	struct archive a = { .out = { .out = out, .buffer = malloc(TAR_BUFFER) }, .records = records, .xattrs = malloc(2 * XATTR_ROOM) };
	int rc = a.out.buffer == NULL || a.xattrs == NULL ? fail(err, ENOMEM, TAR_STEP, "out of memory") : put_all(&a, path, err);

	links_free(&a.links);
	free(a.out.buffer);
	free(a.out.pax);
	free(a.xattrs);
	free(a.path);
	return rc;
}
