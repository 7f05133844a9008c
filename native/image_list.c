/* Listing an image and reading files of it. */
#include "image.h"
#include "squash/squash.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool is_device(uint32_t mode)
{
	return S_ISBLK(mode) || S_ISCHR(mode);
}

struct listing {
	struct squash *sq;
	const char *start; /* the path asked for, without slashes at its ends */
	bool xattrs;       /* an 11th field of `tree` */
	char target[SQUASH_SYMLINK_MAX + 1];
};

static int read_target(struct listing *listing, const struct squash_inode *inode, struct err *err)
{
	ssize_t len = 0;

	listing->target[0] = '\0';
	if (S_ISLNK(inode->mode))
		len = squash_readlink(listing->sq, inode, listing->target, sizeof listing->target, err);
	return len < 0 ? (int)len : 0;
}

static void print_path(const struct listing *listing, const char *path, FILE *out)
{
	bool between = *path != '\0' && *listing->start != '\0';

	fprintf(out, "/%s%s%s", listing->start, between ? "/" : "", path);
}

/* A name may hold control characters, which a terminal would obey. */
static void print_visible(const char *text, FILE *out)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			putc(c, out);
	}
}

static void print_hex(const char *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		putchar(digits[(unsigned char)bytes[i] >> 4]);
		putchar(digits[bytes[i] & 15]);
	}
}

/* "NAME=VALUE," for each attribute, both in hexadecimal. */
static int print_xattrs(struct squash *sq, const struct squash_inode *inode, struct err *err)
{
	char *names cleanup_free = NULL, *value cleanup_free = NULL;
	ssize_t len, got;

	if (inode->xattrs == UINT32_MAX)
		return 0;
	names = malloc(65536);
	value = malloc(65536);
	if (names == NULL || value == NULL)
		return fail(err, ENOMEM, "list the image", "out of memory");
	len = squash_listxattr(sq, inode, NULL, names, 65536, err);
	if (len < 0)
		return (int)len;
	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		got = squash_getxattr(sq, inode, name, value, 65536, err);
		if (got < 0)
			return (int)got;
		print_hex(name, strlen(name));
		putchar('=');
		print_hex(value, (size_t)got);
		putchar(',');
	}
	return 0;
}

static int visit_tree(void *ctx, const char *path, const char *name UNUSED, const struct squash_inode *inode, struct err *err)
{
	struct listing *listing = ctx;
	bool sized = S_ISREG(inode->mode) || S_ISLNK(inode->mode);
	int rc = read_target(listing, inode, err);

	if (rc < 0)
		return rc;
	print_path(listing, path, stdout);
	printf("%c%c%c%o%c%" PRIu32 "%c%" PRIu32 "%c%" PRIu64 "%c%" PRId64 "%c%" PRIu32 "%c", 0, mode_letter(inode->mode), 0, inode->mode & 07777u, 0,
		inode->uid, 0, inode->gid, 0, sized ? inode->size : 0, 0, inode->mtime, 0, inode->ino, 0);
	if (is_device(inode->mode))
		printf("%" PRIu32 ":%" PRIu32, inode->rdev_major, inode->rdev_minor);
	printf("%c%s%c", 0, listing->target, 0);
	if (!listing->xattrs)
		return 0;
	rc = print_xattrs(listing->sq, inode, err);
	putchar(0);
	return rc;
}

static void mode_text(uint32_t mode, char text[11])
{
	static const char letters[] = "rwxrwxrwx";

	text[0] = mode_letter(mode) == 'f' ? '-' : mode_letter(mode);
	for (int i = 0; i < 9; i++)
		text[1 + i] = mode & (0400u >> i) ? letters[i] : '-';
	if (mode & S_ISUID)
		text[3] = mode & 0100 ? 's' : 'S';
	if (mode & S_ISGID)
		text[6] = mode & 0010 ? 's' : 'S';
	if (mode & S_ISVTX)
		text[9] = mode & 0001 ? 't' : 'T';
	text[10] = '\0';
}

static int visit_ls(void *ctx, const char *path, const char *name UNUSED, const struct squash_inode *inode, struct err *err)
{
	struct listing *listing = ctx;
	char mode[11], size[32], date[32] = "?";
	time_t when = (time_t)inode->mtime;
	struct tm tm;
	int rc = read_target(listing, inode, err);

	if (rc < 0)
		return rc;
	mode_text(inode->mode, mode);
	if (is_device(inode->mode))
		snprintf(size, sizeof size, "%" PRIu32 ",%" PRIu32, inode->rdev_major, inode->rdev_minor);
	else
		snprintf(size, sizeof size, "%" PRIu64, S_ISREG(inode->mode) || S_ISLNK(inode->mode) ? inode->size : 0);
	if (gmtime_r(&when, &tm) != NULL)
		strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
	printf("%s %5" PRIu32 " %5" PRIu32 " %12s %s /", mode, inode->uid, inode->gid, size, date);
	print_visible(listing->start, stdout);
	if (*path != '\0' && *listing->start != '\0')
		putchar('/');
	print_visible(path, stdout);
	if (S_ISLNK(inode->mode)) {
		fputs(" -> ", stdout);
		print_visible(listing->target, stdout);
	}
	putchar('\n');
	return ferror(stdout) ? fail(err, EPIPE, "write the listing", "stdout") : 0;
}

static int list_path(struct squash *sq, unsigned depth, bool xattrs, const char *path,
	int (*visit)(void *, const char *, const char *, const struct squash_inode *, struct err *), struct err *err)
{
	struct listing *listing cleanup_free = malloc(sizeof *listing);
	char *start cleanup_free = strdup(path + strspn(path, "/"));
	struct squash_inode inode;
	size_t len;
	int rc;

	if (listing == NULL || start == NULL)
		return fail(err, ENOMEM, "list the image", "out of memory");
	for (len = strlen(start); len > 0 && start[len - 1] == '/'; len--)
		start[len - 1] = '\0';
	listing->sq = sq;
	listing->start = start;
	listing->xattrs = xattrs;
	rc = squash_resolve(sq, start, false, &inode, err);
	if (rc == 0)
		rc = squash_walk(sq, &inode, &(struct squash_walk) { .ctx = listing, .visit = visit, .depth = depth }, err);
	return rc;
}

int image_ls(struct squash *sq, unsigned depth, char **paths, struct err *err)
{
	int rc = 0;

	for (; rc == 0 && *paths != NULL; paths++)
		rc = list_path(sq, depth, false, *paths, visit_ls, err);
	return rc;
}

int image_tree(struct squash *sq, unsigned depth, bool xattrs, char **paths, struct err *err)
{
	int rc = 0;

	for (; rc == 0 && *paths != NULL; paths++)
		rc = list_path(sq, depth, xattrs, *paths, visit_tree, err);
	return rc;
}

/* Calls `take` with the file's content in order. */
static int each_piece(struct squash *sq, const struct squash_inode *file, int (*take)(void *ctx, const void *data, size_t len), void *ctx, struct err *err)
{
	struct squash_pieces pieces;
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < file->size; at += SQUASH_READ_MAX) {
		rc = squash_read(sq, file, at, SQUASH_READ_MAX, &pieces, err);
		if (rc < 0)
			return rc;
		for (unsigned i = 0; rc == 0 && i < pieces.count; i++)
			rc = take(ctx, pieces.iov[i].iov_base, pieces.iov[i].iov_len);
		squash_release(sq, &pieces);
		if (rc < 0)
			return fail(err, -rc, "write a file's content", "stdout");
	}
	return rc;
}

static int take_to_stdout(void *ctx UNUSED, const void *data, size_t len)
{
	errno = 0;
	return fwrite(data, 1, len, stdout) == len ? 0 : -(errno != 0 ? errno : EIO);
}

static int take_to_memory(void *ctx, const void *data, size_t len)
{
	char **at = ctx;

	memcpy(*at, data, len);
	*at += len;
	return 0;
}

int image_cat(struct squash *sq, char **paths, struct err *err)
{
	for (; *paths != NULL; paths++) {
		struct squash_inode file;
		int rc = squash_resolve(sq, *paths, true, &file, err);

		if (rc == 0 && !S_ISREG(file.mode))
			rc = fail(err, S_ISDIR(file.mode) ? EISDIR : EINVAL, "read a file of the image", "%.300s", *paths);
		if (rc == 0)
			rc = each_piece(sq, &file, take_to_stdout, NULL, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int image_pour(struct squash *sq, struct err *err)
{
	char *path cleanup_free = NULL;
	size_t room = 0;
	int rc = 0;

	while (rc == 0 && getdelim(&path, &room, '\0', stdin) >= 0) {
		struct squash_inode file;

		rc = squash_resolve(sq, path, false, &file, err);
		if (rc == 0 && !S_ISREG(file.mode))
			rc = fail(err, EINVAL, "read a file of the image", "%.300s is no file", path);
		if (rc == 0)
			rc = each_piece(sq, &file, take_to_stdout, NULL, err);
	}
	return rc;
}

/* --- extended attributes --- */

#define XATTRS_MAX 65536u /* of the kernel: a list, or one value */

struct xattr_listing {
	struct squash *sq;
	char names[XATTRS_MAX], value[XATTRS_MAX];
};

static int visit_xattrs(void *ctx, const char *path, const char *file UNUSED, const struct squash_inode *inode, struct err *err)
{
	struct xattr_listing *listing = ctx;
	ssize_t len = inode->xattrs == UINT32_MAX ? 0 : squash_listxattr(listing->sq, inode, NULL, listing->names, sizeof listing->names, err);

	if (len < 0)
		return err->step[0] != '\0' ? (int)len : fail(err, (int)-len, "read the image", "the xattrs of %.300s", path);
	for (const char *name = listing->names; name < listing->names + len; name += strlen(name) + 1) {
		ssize_t value = squash_getxattr(listing->sq, inode, name, listing->value, sizeof listing->value, err);

		if (value < 0)
			return err->step[0] != '\0' ? (int)value : fail(err, (int)-value, "read the image", "xattr %.100s of %.300s", name, path);
		printf("/%s%c%s%c%zd%c", path, 0, name, 0, value, 0);
		fwrite(listing->value, 1, (size_t)value, stdout);
	}
	return ferror(stdout) ? fail(err, EPIPE, "write the listing", "stdout") : 0;
}

int image_xattrs(struct squash *sq, struct err *err)
{
	struct xattr_listing *listing cleanup_free = malloc(sizeof *listing);
	struct squash_inode root;
	int rc = listing == NULL ? fail(err, ENOMEM, "list the image", "out of memory") : squash_stat(sq, squash_root(sq), &root, err);

	if (rc < 0)
		return rc;
	listing->sq = sq;
	return squash_walk(sq, &root, &(struct squash_walk) { .ctx = listing, .visit = visit_xattrs, .depth = UINT_MAX }, err);
}

/* The content is complete in memory before its length is written. */
static int read_one(struct squash *sq, uint64_t limit, const char *path, char **content, size_t *len)
{
	struct squash_inode file;
	char *at;
	int rc = squash_resolve(sq, path, true, &file, NULL);

	if (rc < 0)
		return rc;
	if (!S_ISREG(file.mode))
		return S_ISDIR(file.mode) ? -EISDIR : -EINVAL;
	if (file.size > limit)
		return -EFBIG;
	*content = at = malloc(file.size > 0 ? file.size : 1);
	if (at == NULL)
		return -ENOMEM;
	*len = file.size;
	return each_piece(sq, &file, take_to_memory, &at, NULL);
}

int image_read(struct squash *sq, uint64_t limit, char **paths, struct err *err UNUSED)
{
	for (; *paths != NULL; paths++) {
		char *content cleanup_free = NULL;
		size_t len = 0;
		int rc = read_one(sq, limit, *paths, &content, &len);

		if (rc < 0)
			len = 0;
		printf("%s%c%d%c%zu%c", *paths, 0, -rc, 0, len, 0);
		if (len > 0)
			fwrite(content, 1, len, stdout);
	}
	return 0;
}
