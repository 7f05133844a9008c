/* Unpacking: one thread walks and makes names, others fill the files. */
#include "image.h"
#include "image_owners.h"
#include "links.h"
#include "squash/squash.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#define EXTRACT "extract the image"
#define CACHE_BYTES (64u << 20)
#define QUEUE_LEN 64u
#define WORKERS_MAX 8u

struct job {
	int fd;
	struct squash_inode inode;
};

struct extraction {
	struct squash *sq;
	const volatile sig_atomic_t *interrupted;
	struct image_owners *owners; /* NULL: everything becomes the caller's */
	int dirs[SQUASH_DEPTH_MAX + 2]; /* the directories being filled, DEST first */
	unsigned depth;
	uint64_t skipped;
	struct links links; /* by inode reference */
	char **closed; /* "MODE PATH" of directories whose mode would keep us out, children first */
	size_t closed_count, closed_cap;

	pthread_mutex_t lock;
	pthread_cond_t not_empty, not_full;
	struct job queue[QUEUE_LEN];
	unsigned head, count;
	bool no_more;
	_Atomic int failed; /* negative errno of the first failure in any thread */
	struct err err;
};

/* --- filling files --- */

static int write_pieces(int fd, uint64_t at, const struct squash_pieces *pieces)
{
	for (unsigned i = 0; i < pieces->count; i++) {
		const char *data = pieces->iov[i].iov_base;
		size_t left = pieces->iov[i].iov_len;

		if (pieces->held[i] == NULL) { /* a hole stays one */
			at += left;
			continue;
		}
		while (left > 0) {
			ssize_t put = RETRY(pwrite(fd, data, left, (off_t)at));

			if (put < 0)
				return -errno;
			data += put;
			at += (uint64_t)put;
			left -= (size_t)put;
		}
	}
	return 0;
}

static bool is_user_xattr(const char *name)
{
	return strncmp(name, "user.", 5) == 0;
}

/* Not every file system has them: what it does not take is left out. */
static int copy_xattrs(const struct extraction *x, const struct squash_inode *inode, int fd, struct err *err)
{
	struct squash *sq = x->sq;
	char *names cleanup_free = NULL;
	char *value cleanup_free = NULL;
	ssize_t len;

	if (inode->xattrs == UINT32_MAX)
		return 0;
	names = malloc(65536);
	value = malloc(65536);
	if (names == NULL || value == NULL)
		return fail(err, ENOMEM, EXTRACT, "out of memory");
	len = squash_listxattr(sq, inode, x->owners != NULL ? image_owners_wants : is_user_xattr, names, 65536, err);
	if (len < 0)
		return (int)len;
	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		ssize_t got = squash_getxattr(sq, inode, name, value, 65536, err);

		if (got < 0)
			return (int)got;
		if (x->owners != NULL) {
			int rc = image_owners_xattr(fd, name, value, (size_t)got);

			if (rc < 0)
				return fail(err, -rc, EXTRACT, "keeping the xattr %.200s", name);
		} else if (fsetxattr(fd, name, value, (size_t)got, 0) < 0 && (errno == ENOTSUP || errno == EPERM)) {
			return 0;
		}
	}
	return 0;
}

static int set_times(int fd, const struct squash_inode *inode)
{
	struct timespec times[2] = { { .tv_sec = inode->mtime }, { .tv_sec = inode->mtime } };

	return futimens(fd, times) < 0 ? -errno : 0;
}

static int fill_file(struct extraction *x, const struct job *job, struct err *err)
{
	struct squash_pieces pieces;
	int rc = 0;

	for (uint64_t at = 0; at < job->inode.size; at += SQUASH_READ_MAX) {
		if (atomic_load(&x->failed) != 0 || *x->interrupted)
			return -EINTR;
		rc = squash_read(x->sq, &job->inode, at, SQUASH_READ_MAX, &pieces, err);
		if (rc < 0)
			return rc;
		rc = write_pieces(job->fd, at, &pieces);
		squash_give(x->sq, &pieces);
		if (rc < 0)
			return fail(err, -rc, EXTRACT, "writing a file of %" PRIu64 " bytes", job->inode.size);
	}
	if (ftruncate(job->fd, (off_t)job->inode.size) < 0)
		return fail(err, errno, EXTRACT, "making a file of %" PRIu64 " bytes", job->inode.size);
	if (x->owners != NULL) {
		rc = image_owners_file(x->owners, job->fd, &job->inode);
		if (rc < 0)
			return fail(err, -rc, EXTRACT, "keeping the owner of a file (%u:%u)", job->inode.uid, job->inode.gid);
	}
	rc = copy_xattrs(x, &job->inode, job->fd, err);
	if (rc == 0 && fchmod(job->fd, job->inode.mode & (x->owners != NULL ? 07777u : 01777u)) < 0)
		rc = fail(err, errno, EXTRACT, "setting the mode of a file");
	if (rc == 0)
		rc = set_times(job->fd, &job->inode);
	return rc;
}

static void note_failure(struct extraction *x, int rc, const struct err *err)
{
	int none = 0;

	pthread_mutex_lock(&x->lock);
	if (atomic_compare_exchange_strong(&x->failed, &none, rc))
		x->err = *err;
	pthread_cond_broadcast(&x->not_full);
	pthread_mutex_unlock(&x->lock);
}

static bool take_job(struct extraction *x, struct job *job)
{
	bool got = false;

	pthread_mutex_lock(&x->lock);
	while (x->count == 0 && !x->no_more)
		pthread_cond_wait(&x->not_empty, &x->lock);
	if (x->count > 0) {
		*job = x->queue[x->head];
		x->head = (x->head + 1) % QUEUE_LEN;
		x->count--;
		pthread_cond_signal(&x->not_full);
		got = true;
	}
	pthread_mutex_unlock(&x->lock);
	return got;
}

static void *fill_files(void *ctx)
{
	struct extraction *x = ctx;
	struct job job;

	while (take_job(x, &job)) {
		struct err err = { 0 };
		int rc = atomic_load(&x->failed) != 0 ? 0 : fill_file(x, &job, &err);

		close(job.fd);
		if (rc < 0)
			note_failure(x, rc, &err);
	}
	return NULL;
}

static int give_job(struct extraction *x, int fd, const struct squash_inode *inode)
{
	int failed;

	pthread_mutex_lock(&x->lock);
	while (x->count == QUEUE_LEN && atomic_load(&x->failed) == 0)
		pthread_cond_wait(&x->not_full, &x->lock);
	failed = atomic_load(&x->failed);
	if (failed == 0) {
		x->queue[(x->head + x->count) % QUEUE_LEN] = (struct job) { fd, *inode };
		x->count++;
		pthread_cond_signal(&x->not_empty);
	}
	pthread_mutex_unlock(&x->lock);
	if (failed != 0)
		close(fd);
	return failed;
}

/* --- making names --- */

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
	return give_job(x, fd, inode);
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
	if (atomic_load(&x->failed) != 0)
		return atomic_load(&x->failed);
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
	rc = copy_xattrs(x, dir, fd, err);
	if (rc == 0 && set_times(fd, dir) < 0)
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

static unsigned worker_count(void)
{
	cpu_set_t cpus;
	unsigned count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 2;

	return count < 2 ? 2 : count > WORKERS_MAX ? WORKERS_MAX : count;
}

static int walk_and_fill(struct extraction *x, struct err *err)
{
	struct squash_walk walk = { .ctx = x, .visit = make_entry, .leave = finish_directory, .depth = UINT_MAX };
	pthread_t workers[WORKERS_MAX];
	unsigned started = 0, wanted = worker_count();
	struct squash_inode root;
	int rc = 0;

	while (rc == 0 && started < wanted) {
		rc = -pthread_create(&workers[started], NULL, fill_files, x);
		started += rc == 0;
	}
	if (rc < 0)
		fail(err, -rc, EXTRACT, "starting a thread");
	if (rc == 0)
		rc = squash_stat(x->sq, squash_root(x->sq), &root, err);
	if (rc == 0)
		rc = squash_walk(x->sq, &root, &walk, err);
	if (rc < 0)
		note_failure(x, rc, err);
	pthread_mutex_lock(&x->lock);
	x->no_more = true;
	pthread_cond_broadcast(&x->not_empty);
	pthread_mutex_unlock(&x->lock);
	while (started > 0)
		pthread_join(workers[--started], NULL);
	rc = atomic_load(&x->failed);
	if (rc < 0)
		*err = x->err;
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
	pthread_mutex_destroy(&x->lock);
	pthread_cond_destroy(&x->not_empty);
	pthread_cond_destroy(&x->not_full);
	free(x);
}

int image_unpack(int image, uint64_t offset, uint64_t size, int dest, struct image_owners *owners, const volatile sig_atomic_t *interrupted, uint64_t *skipped,
                 struct err *err)
{
	struct squash_cache *cache = squash_cache_new(CACHE_BYTES);
	struct extraction *x = calloc(1, sizeof *x);
	int rc;

	if (cache == NULL || x == NULL) {
		squash_cache_free(cache);
		free(x);
		return fail(err, ENOMEM, EXTRACT, "out of memory");
	}
	pthread_mutex_init(&x->lock, NULL);
	pthread_cond_init(&x->not_empty, NULL);
	pthread_cond_init(&x->not_full, NULL);
	x->interrupted = interrupted;
	x->owners = owners;
	x->dirs[0] = dest;
	x->depth = 1;
	rc = squash_open(&x->sq, cache, image, offset, size, err);
	if (rc == 0) {
		rc = walk_and_fill(x, err);
		*skipped = x->skipped;
		squash_close(x->sq);
	}
	extraction_end(x);
	squash_cache_free(cache);
	return rc;
}
