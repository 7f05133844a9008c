/* A directory of the host as a PAX archive (POSIX.1-2017, pax, "pax Interchange Format"). It exists because Node has no calls for xattrs and
 * decodes names. */
#include "image.h"
#include "links.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define ARCHIVE "archive the directory"
#define RECORD 512u
#define BUFFER (1u << 18)
#define DEPTH_MAX 1024u

struct archive {
	int out;
	dev_t dev; /* the file system the directory is on */
	char *buffer;
	size_t filled;
	char *path; /* of the entry in hand, as in the archive */
	size_t path_len, path_cap;
	char *pax; /* extended header in the making */
	size_t pax_len, pax_cap;
	struct links links; /* by device and inode */
	unsigned depth;
};

/* --- output --- */

static int flush(struct archive *a, struct err *err)
{
	int rc = write_full(a->out, a->buffer, a->filled);

	a->filled = 0;
	return rc < 0 ? fail(err, -rc, ARCHIVE, "writing the archive") : 0;
}

static int put(struct archive *a, const void *data, size_t len, struct err *err)
{
	const char *from = data;

	while (len > 0) {
		size_t take = BUFFER - a->filled < len ? BUFFER - a->filled : len;
		int rc;

		memcpy(a->buffer + a->filled, from, take);
		a->filled += take;
		from += take;
		len -= take;
		rc = a->filled == BUFFER ? flush(a, err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int pad(struct archive *a, uint64_t len, struct err *err)
{
	static const char zeros[RECORD];

	return len % RECORD == 0 ? 0 : put(a, zeros, RECORD - len % RECORD, err);
}

/* --- headers --- */

static void octal(char *field, size_t size, uint64_t value)
{
	for (field[--size] = '\0'; size > 0; value >>= 3)
		field[--size] = (char)('0' + (value & 7));
}

static bool fits_octal(uint64_t value, unsigned digits)
{
	return value >> (3 * digits) == 0;
}

/* One ustar header. Fields that do not fit are cut: the extended header before it has them whole. */
static int put_header(struct archive *a, const char *name, char type, const struct stat *st, uint64_t size, const char *link, struct err *err)
{
	char header[RECORD + 1] = { 0 };
	unsigned sum = 0;

	memcpy(header, name, strnlen(name, 100));
	octal(header + 100, 8, st->st_mode & 07777u);
	octal(header + 108, 8, fits_octal(st->st_uid, 7) ? st->st_uid : 0);
	octal(header + 116, 8, fits_octal(st->st_gid, 7) ? st->st_gid : 0);
	octal(header + 124, 12, fits_octal(size, 11) ? size : 0);
	octal(header + 136, 12, st->st_mtim.tv_sec >= 0 && fits_octal((uint64_t)st->st_mtim.tv_sec, 11) ? (uint64_t)st->st_mtim.tv_sec : 0);
	header[156] = type;
	memcpy(header + 157, link, strnlen(link, 100));
	memcpy(header + 257, "ustar\0" "00", 8);
	if (type == '3' || type == '4') {
		octal(header + 329, 8, major(st->st_rdev));
		octal(header + 337, 8, minor(st->st_rdev));
	}
	memset(header + 148, ' ', 8);
	for (unsigned i = 0; i < RECORD; i++)
		sum += (unsigned char)header[i];
	snprintf(header + 148, 8, "%06o", sum);
	header[155] = ' ';
	return put(a, header, RECORD, err);
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself too. */
static int pax_add(struct archive *a, const char *key, const void *value, size_t len, struct err *err)
{
	size_t body = strlen(key) + len + 3, total = body + 1;
	char start[32];

	while (total != body + (size_t)snprintf(start, sizeof start, "%zu", total))
		total = body + strlen(start);
	if (a->pax_len + total + 1 > a->pax_cap) {
		size_t cap = (a->pax_len + total + 1) * 2;
		char *bigger = realloc(a->pax, cap);

		if (bigger == NULL)
			return fail(err, ENOMEM, ARCHIVE, "out of memory");
		a->pax = bigger;
		a->pax_cap = cap;
	}
	a->pax_len += (size_t)sprintf(a->pax + a->pax_len, "%s %s=", start, key);
	memcpy(a->pax + a->pax_len, value, len);
	a->pax_len += len;
	a->pax[a->pax_len++] = '\n';
	return 0;
}

static int pax_add_number(struct archive *a, const char *key, uint64_t value, struct err *err)
{
	char text[24];

	return pax_add(a, key, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, value), err);
}

/* A label of the host's policy says nothing about the image. */
static bool is_wanted_xattr(const char *name)
{
	return strcmp(name, "security.selinux") != 0;
}

static int pax_add_xattrs(struct archive *a, int dir, const char *name, struct err *err)
{
	char path[64 + 256], key[16 + 256];
	char *names cleanup_free = NULL;
	char *value cleanup_free = NULL;
	ssize_t len;
	int rc = 0;

	snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir, name);
	len = llistxattr(path, NULL, 0);
	if (len == 0 || (len < 0 && errno == ENOTSUP))
		return 0;
	names = malloc(65536);
	value = malloc(65536);
	if (names == NULL || value == NULL)
		return fail(err, ENOMEM, ARCHIVE, "out of memory");
	len = llistxattr(path, names, 65536);
	if (len < 0)
		return fail(err, errno, ARCHIVE, "listing the xattrs of %.300s", a->path);
	for (const char *at = names; rc == 0 && at < names + len; at += strlen(at) + 1) {
		ssize_t got = is_wanted_xattr(at) ? lgetxattr(path, at, value, 65536) : -1;

		if (!is_wanted_xattr(at))
			continue;
		if (got < 0)
			return fail(err, errno, ARCHIVE, "reading xattr %.100s of %.300s", at, a->path);
		snprintf(key, sizeof key, "SCHILY.xattr.%.255s", at);
		rc = pax_add(a, key, value, (size_t)got, err);
	}
	return rc;
}

static int pax_add_time(struct archive *a, const struct stat *st, struct err *err)
{
	char text[48];
	int len;

	if (st->st_mtim.tv_nsec == 0 && st->st_mtim.tv_sec >= 0 && fits_octal((uint64_t)st->st_mtim.tv_sec, 11))
		return 0;
	if (st->st_mtim.tv_sec < 0 && st->st_mtim.tv_nsec > 0) /* the fraction counts towards zero */
		len = snprintf(text, sizeof text, "-%" PRId64 ".%09ld", -(int64_t)(st->st_mtim.tv_sec + 1), 1000000000L - st->st_mtim.tv_nsec);
	else
		len = snprintf(text, sizeof text, "%" PRId64 ".%09ld", (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	return pax_add(a, "mtime", text, (size_t)len, err);
}

static int put_entry(struct archive *a, int dir, const char *name, char type, const struct stat *st, const char *link, struct err *err)
{
	uint64_t size = type == '0' ? (uint64_t)st->st_size : 0;
	int rc = pax_add_time(a, st, err);

	if (rc == 0 && a->path_len > 100)
		rc = pax_add(a, "path", a->path, a->path_len, err);
	if (rc == 0 && strlen(link) > 100)
		rc = pax_add(a, "linkpath", link, strlen(link), err);
	if (rc == 0 && !fits_octal(size, 11))
		rc = pax_add_number(a, "size", size, err);
	if (rc == 0 && !fits_octal(st->st_uid, 7))
		rc = pax_add_number(a, "uid", st->st_uid, err);
	if (rc == 0 && !fits_octal(st->st_gid, 7))
		rc = pax_add_number(a, "gid", st->st_gid, err);
	if (rc == 0 && type != '1')
		rc = pax_add_xattrs(a, dir, name, err);
	if (rc == 0 && a->pax_len > 0) {
		struct stat plain = { .st_mode = 0644 };

		rc = put_header(a, "PaxHeaders/entry", 'x', &plain, a->pax_len, "", err);
		if (rc == 0)
			rc = put(a, a->pax, a->pax_len, err);
		if (rc == 0)
			rc = pad(a, a->pax_len, err);
		a->pax_len = 0;
	}
	return rc == 0 ? put_header(a, a->path, type, st, size, link, err) : rc;
}

/* --- entries --- */

static int put_content(struct archive *a, int fd, uint64_t size, struct err *err)
{
	uint64_t left = size;

	while (left > 0) {
		size_t room = BUFFER - a->filled;
		ssize_t got = RETRY(read(fd, a->buffer + a->filled, left < room ? (size_t)left : room));
		int rc;

		if (got < 0)
			return fail(err, errno, ARCHIVE, "reading %.300s", a->path);
		if (got == 0)
			return fail(err, EIO, ARCHIVE, "%.300s became shorter while it was read", a->path);
		a->filled += (size_t)got;
		left -= (uint64_t)got;
		rc = a->filled == BUFFER ? flush(a, err) : 0;
		if (rc < 0)
			return rc;
	}
	return pad(a, size, err);
}

static int put_file(struct archive *a, int dir, const char *name, const struct stat *seen, struct err *err)
{
	int cleanup_fd fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int rc;

	if (fd < 0)
		return fail(err, errno, ARCHIVE, "opening %.300s", a->path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_ino != seen->st_ino || st.st_dev != seen->st_dev)
		return fail(err, EAGAIN, ARCHIVE, "%.300s was replaced while it was read", a->path);
	rc = put_entry(a, dir, name, '0', &st, "", err);
	return rc < 0 ? rc : put_content(a, fd, (uint64_t)st.st_size, err);
}

static int put_symlink(struct archive *a, int dir, const char *name, const struct stat *st, struct err *err)
{
	char text[4097];
	ssize_t len = readlinkat(dir, name, text, sizeof text - 1);

	if (len < 0)
		return fail(err, errno, ARCHIVE, "reading the link %.300s", a->path);
	text[len] = '\0';
	return put_entry(a, dir, name, '2', st, text, err);
}

static int put_directory(struct archive *a, int dir, const char *name, struct stat *st, struct err *err);

static int put_any(struct archive *a, int dir, const char *name, struct err *err)
{
	const char *first = NULL;
	struct stat st;
	int rc = 0;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, ARCHIVE, "looking at %.300s", a->path);
	if (S_ISDIR(st.st_mode))
		return put_directory(a, dir, name, &st, err);
	if (S_ISSOCK(st.st_mode))
		return 0;
	if (st.st_nlink > 1)
		rc = links_find(&a->links, st.st_dev, st.st_ino, a->path, &first);
	if (rc < 0)
		return fail(err, -rc, ARCHIVE, "out of memory");
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
		return fail(err, errno, ARCHIVE, "listing %.300s", path);
	}
	while (rc == 0 && (errno = 0, entry = readdir(listing)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (names->count == names->cap) {
			size_t cap = names->cap * 2 + 64;
			char **bigger = realloc(names->list, cap * sizeof *bigger);

			if (bigger == NULL) {
				rc = fail(err, ENOMEM, ARCHIVE, "out of memory");
				break;
			}
			names->list = bigger;
			names->cap = cap;
		}
		names->list[names->count] = strdup(entry->d_name);
		if (names->list[names->count] == NULL)
			rc = fail(err, ENOMEM, ARCHIVE, "out of memory");
		else
			names->count++;
	}
	if (rc == 0 && entry == NULL && errno != 0)
		rc = fail(err, errno, ARCHIVE, "listing %.300s", path);
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
			return fail(err, ENOMEM, ARCHIVE, "out of memory");
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
		return fail(err, errno, ARCHIVE, "opening %.300s", a->path);
	if (++a->depth > DEPTH_MAX)
		return fail(err, ENAMETOOLONG, ARCHIVE, "%.300s… is more than %u directories deep", a->path, DEPTH_MAX);
	rc = push_path(a, "/", err);
	if (rc == 0)
		rc = put_entry(a, dir, name, '5', st, "", err);
	if (rc == 0 && st->st_dev == a->dev) {
		listing = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = listing < 0 ? fail(err, errno, ARCHIVE, "listing %.300s", a->path) : read_names(a->path, listing, &names, err);
	}
	for (size_t i = 0; rc == 0 && i < names.count; i++) {
		size_t before = a->path_len;

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
	static const char end[2 * RECORD];
	int cleanup_fd top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int rc;

	if (top < 0 || fstat(top, &st) < 0)
		return fail(err, errno, ARCHIVE, "%.300s", path);
	a->dev = st.st_dev;
	rc = push_path(a, ".", err);
	if (rc == 0)
		rc = put_directory(a, top, ".", &st, err);
	if (rc == 0)
		rc = put(a, end, sizeof end, err);
	return rc == 0 ? flush(a, err) : rc;
}

int image_tar(const char *path, int out, struct err *err)
{
	struct archive a = { .out = out, .buffer = malloc(BUFFER) };
	int rc = a.buffer == NULL ? fail(err, ENOMEM, ARCHIVE, "out of memory") : put_all(&a, path, err);

	links_free(&a.links);
	free(a.buffer);
	free(a.path);
	free(a.pax);
	return rc;
}
