/* Unpacking: who walks through the image makes names; threads fill the files (image_fill.h). */
#include "image.h"
#include "image_fill.h"
#include "links.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define EXTRACT "extract the image"
#define CACHE_BYTES (64u << 20)

struct extraction {
	struct squash *sq;
	const _Atomic int *interrupted;
	struct image_owners *owners; /* NULL: everything becomes the caller's */
	struct image_fill *fill;
	int dirs[SQUASH_DEPTH_MAX + 2]; /* the directories being filled, DEST first */
	unsigned depth;
	uint64_t skipped;
	struct links links; /* by inode reference */
	char **closed; /* "MODE PATH" of directories whose mode would keep us out, children first */
	size_t closed_count, closed_cap;
};

static int failed_at(struct err *err, const char *doing, const char *path)
{
	return fail(err, errno, EXTRACT, "%s '/%.300s'", doing, path);
}

/* 1: linked to the name it already has. 0: this is its first name. */
static int link_or_remember(struct extraction *x, const char *path, const char *name, const struct squash_inode *inode, struct err *err)
{
	const char *first;

	if (links_find(&x->links, inode->ref, 0, path, &first) < 0)
		return fail(err, ENOMEM, EXTRACT, "out of memory");
	if (first == NULL)
		return 0;
	return linkat(x->dirs[0], first, x->dirs[x->depth - 1], name, 0) < 0 ? failed_at(err, "making the hard link", path) : 1;
}

static int make_directory(struct extraction *x, const char *path, const char *name, struct err *err)
{
	int fd;

	if (x->depth >= ARRAY_LEN(x->dirs))
		return fail(err, ENAMETOOLONG, EXTRACT, "'/%.300s' is more than %d directories deep", path, SQUASH_DEPTH_MAX);
	if (mkdirat(x->dirs[x->depth - 1], name, 0700) < 0)
		return failed_at(err, "making the directory", path);
	fd = openat(x->dirs[x->depth - 1], name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed_at(err, "opening the directory", path);
	x->dirs[x->depth++] = fd;
	return 0;
}

static int make_file(struct extraction *x, const char *path, const char *name, const struct squash_inode *inode, struct err *err)
{
	int fd = openat(x->dirs[x->depth - 1], name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return failed_at(err, "making the file", path);
	return image_fill_give(x->fill, fd, inode);
}

static int make_symlink(struct extraction *x, const char *path, const char *name, const struct squash_inode *inode, struct err *err)
{
	char *text cleanup_free = malloc(SQUASH_SYMLINK_MAX + 1);
	ssize_t len;

	if (text == NULL)
		return fail(err, ENOMEM, EXTRACT, "out of memory");
	len = squash_readlink(x->sq, inode, text, SQUASH_SYMLINK_MAX + 1, err);
	if (len < 0)
		return (int)len;
	return symlinkat(text, x->dirs[x->depth - 1], name) < 0 ? failed_at(err, "making the symbolic link", path) : 0;
}

static int set_link_times(struct extraction *x, const char *path, const char *name, const struct squash_inode *inode, struct err *err)
{
	struct timespec times[2] = { { .tv_sec = inode->mtime }, { .tv_sec = inode->mtime } };

	return utimensat(x->dirs[x->depth - 1], name, times, AT_SYMLINK_NOFOLLOW) < 0 ? failed_at(err, "setting the time of", path) : 0;
}

static int make_entry(void *ctx, const char *path, const char *name, const struct squash_inode *inode, struct err *err)
{
	struct extraction *x = ctx;
	int rc = 0;

	if (*x->interrupted)
		return -EINTR;
	if (image_fill_failed(x->fill) != 0)
		return image_fill_failed(x->fill);
	if (*path == '\0') /* DEST itself is there */
		return 0;
	if (S_ISDIR(inode->mode))
		return make_directory(x, path, name, err);
	if ((S_ISBLK(inode->mode) || S_ISCHR(inode->mode)) && x->owners == NULL) {
		x->skipped++;
		return 0;
	}
	if (inode->nlink > 1)
		rc = link_or_remember(x, path, name, inode, err);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	/* A device is an empty file with a record. */
	if (S_ISREG(inode->mode) || S_ISBLK(inode->mode) || S_ISCHR(inode->mode))
		return make_file(x, path, name, inode, err);
	if (S_ISLNK(inode->mode))
		rc = make_symlink(x, path, name, inode, err);
	else if (mknodat(x->dirs[x->depth - 1], name, inode->mode & (S_IFMT | 0777u), 0) < 0
		|| fchmodat(x->dirs[x->depth - 1], name, inode->mode & 0777u, 0) < 0)
		rc = failed_at(err, "making the pipe or socket", path);
	if (rc == 0 && x->owners != NULL && (errno = -image_owners_name(x->owners, x->dirs[x->depth - 1], name, path, inode)) != 0)
		rc = failed_at(err, "keeping the owner of", path);
	return rc < 0 ? rc : set_link_times(x, path, name, inode, err);
}

static int remember_closed(struct extraction *x, const char *path, mode_t mode)
{
	char *entry;

	if (x->closed_count == x->closed_cap) {
		size_t cap = x->closed_cap * 2 + 64;
		char **bigger = realloc(x->closed, cap * sizeof *bigger);

		if (bigger == NULL)
			return -ENOMEM;
		x->closed = bigger;
		x->closed_cap = cap;
	}
	if (asprintf(&entry, "%o %s", mode, *path != '\0' ? path : ".") < 0)
		return -ENOMEM;
	x->closed[x->closed_count++] = entry;
	return 0;
}

/* All names of the directory are made. Its mode, too, unless that would lock out ourselves while hard links may still refer to it. */
static int finish_directory(void *ctx, const char *path, const struct squash_inode *dir, struct err *err)
{
	struct extraction *x = ctx;
	int fd = x->dirs[x->depth - 1];
	int rc = 0;

	if (x->owners != NULL && (errno = -image_owners_file(x->owners, fd, dir)) != 0)
		return failed_at(err, "keeping the owner of", path);
	rc = image_fill_xattrs(x->fill, dir, fd, err);
	if (rc == 0 && image_fill_times(fd, dir) < 0)
		rc = failed_at(err, "setting the time of", path);
	if (rc == 0 && (dir->mode & S_IXUSR)) {
		if (fchmod(fd, dir->mode & 07777u) < 0)
			rc = failed_at(err, "setting the mode of", path);
	} else if (rc == 0 && remember_closed(x, path, dir->mode & 07777u) < 0) {
		rc = fail(err, ENOMEM, EXTRACT, "out of memory");
	}
	if (x->depth > 1)
		close(x->dirs[--x->depth]);
	return rc;
}

static int close_directories(struct extraction *x, struct err *err)
{
	for (size_t i = 0; i < x->closed_count; i++) {
		char *path;
		mode_t mode = (mode_t)strtoul(x->closed[i], &path, 8);

		if (fchmodat(x->dirs[0], path + 1, mode, 0) < 0)
			return failed_at(err, "setting the mode of", path + 1);
	}
	return 0;
}

static int walk_and_fill(struct extraction *x, struct err *err)
{
	struct squash_walk walk = { .ctx = x, .visit = make_entry, .leave = finish_directory, .depth = UINT_MAX };
	struct squash_inode root;
	int rc = image_fill_new(&x->fill, x->sq, x->owners, x->interrupted, err);

	if (rc < 0)
		return rc;
	rc = squash_stat(x->sq, squash_root(x->sq), &root, err);
	if (rc == 0)
		rc = squash_walk(x->sq, &root, &walk, err);
	rc = image_fill_end(x->fill, rc, err);
	return rc < 0 ? rc : close_directories(x, err);
}

static void extraction_end(struct extraction *x)
{
	while (x->depth > 1)
		close(x->dirs[--x->depth]);
	for (size_t i = 0; i < x->closed_count; i++)
		free(x->closed[i]);
	links_free(&x->links);
	free(x->closed);
}

int image_unpack(int image, uint64_t offset, uint64_t size, int dest, struct image_owners *owners, const _Atomic int *interrupted, uint64_t *skipped,
                 struct err *err)
{
	struct extraction x = { .interrupted = interrupted, .owners = owners, .dirs = { dest }, .depth = 1 };
	struct squash_cache *cache = squash_cache_new(CACHE_BYTES);
	int rc;

	if (cache == NULL)
		return fail(err, ENOMEM, EXTRACT, "out of memory");
	rc = squash_open(&x.sq, cache, image, offset, size, err);
	if (rc == 0) {
		rc = walk_and_fill(&x, err);
		*skipped = x.skipped;
		squash_close(x.sq);
	}
	extraction_end(&x);
	squash_cache_free(cache);
	return rc;
}
