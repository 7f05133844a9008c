#include "image_fill.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#define STEP "extract the image"
#define QUEUE_LEN 64u
#define WORKERS_MAX 8u

struct job {
	int fd;
	struct squash_inode inode;
};

struct image_fill {
	struct squash *sq;
	const _Atomic int *interrupted;
	struct image_owners *owners;
	pthread_t workers[WORKERS_MAX];
	unsigned started;

	pthread_mutex_t lock;
	pthread_cond_t not_empty, not_full;
	struct job queue[QUEUE_LEN];
	unsigned head, count;
	bool no_more;
	_Atomic int failed; /* negative errno of the first failure in any thread */
	struct err err;
};

/* --- one file --- */

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
int image_fill_xattrs(const struct image_fill *fill, const struct squash_inode *inode, int fd, struct err *err)
{
	struct squash *sq = fill->sq;
	char *names cleanup_free = NULL;
	char *value cleanup_free = NULL;
	ssize_t len;

	if (inode->xattrs == UINT32_MAX)
		return 0;
	names = malloc(65536);
	value = malloc(65536);
	if (names == NULL || value == NULL)
		return fail(err, ENOMEM, STEP, "out of memory");
	len = squash_listxattr(sq, inode, fill->owners != NULL ? image_owners_wants : is_user_xattr, names, 65536, err);
	if (len < 0)
		return (int)len;
	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		ssize_t got = squash_getxattr(sq, inode, name, value, 65536, err);

		if (got < 0)
			return (int)got;
		if (fill->owners != NULL) {
			int rc = image_owners_xattr(fd, name, value, (size_t)got);

			if (rc < 0)
				return fail(err, -rc, STEP, "keeping the xattr %.200s", name);
		} else if (fsetxattr(fd, name, value, (size_t)got, 0) < 0 && (errno == ENOTSUP || errno == EPERM)) {
			return 0;
		}
	}
	return 0;
}

int image_fill_times(int fd, const struct squash_inode *inode)
{
	struct timespec times[2] = { { .tv_sec = inode->mtime }, { .tv_sec = inode->mtime } };

	return futimens(fd, times) < 0 ? -errno : 0;
}

static int fill_file(struct image_fill *fill, const struct job *job, struct err *err)
{
	struct squash_pieces pieces;
	int rc = 0;

	for (uint64_t at = 0; at < job->inode.size; at += SQUASH_READ_MAX) {
		if (atomic_load(&fill->failed) != 0 || *fill->interrupted)
			return -EINTR;
		rc = squash_read(fill->sq, &job->inode, at, SQUASH_READ_MAX, &pieces, err);
		if (rc < 0)
			return rc;
		rc = write_pieces(job->fd, at, &pieces);
		squash_give(fill->sq, &pieces);
		if (rc < 0)
			return fail(err, -rc, STEP, "writing a file of %" PRIu64 " bytes", job->inode.size);
	}
	if (ftruncate(job->fd, (off_t)job->inode.size) < 0)
		return fail(err, errno, STEP, "making a file of %" PRIu64 " bytes", job->inode.size);
	if (fill->owners != NULL) {
		rc = image_owners_file(fill->owners, job->fd, &job->inode);
		if (rc < 0)
			return fail(err, -rc, STEP, "keeping the owner of a file (%u:%u)", job->inode.uid, job->inode.gid);
	}
	rc = image_fill_xattrs(fill, &job->inode, job->fd, err);
	if (rc == 0 && fchmod(job->fd, job->inode.mode & (fill->owners != NULL ? 07777u : 01777u)) < 0)
		rc = fail(err, errno, STEP, "setting the mode of a file");
	if (rc == 0 && (rc = image_fill_times(job->fd, &job->inode)) < 0)
		rc = fail(err, -rc, STEP, "setting the time of a file");
	return rc;
}

/* --- all of them --- */

static void note_failure(struct image_fill *fill, int rc, const struct err *err)
{
	int none = 0;

	pthread_mutex_lock(&fill->lock);
	if (atomic_compare_exchange_strong(&fill->failed, &none, rc))
		fill->err = *err;
	pthread_cond_broadcast(&fill->not_full);
	pthread_mutex_unlock(&fill->lock);
}

static bool take_job(struct image_fill *fill, struct job *job)
{
	bool got = false;

	pthread_mutex_lock(&fill->lock);
	while (fill->count == 0 && !fill->no_more)
		pthread_cond_wait(&fill->not_empty, &fill->lock);
	if (fill->count > 0) {
		*job = fill->queue[fill->head];
		fill->head = (fill->head + 1) % QUEUE_LEN;
		fill->count--;
		pthread_cond_signal(&fill->not_full);
		got = true;
	}
	pthread_mutex_unlock(&fill->lock);
	return got;
}

static void *fill_files(void *ctx)
{
	struct image_fill *fill = ctx;
	struct job job;

	while (take_job(fill, &job)) {
		struct err err = { 0 };
		int rc = atomic_load(&fill->failed) != 0 ? 0 : fill_file(fill, &job, &err);

		close(job.fd);
		if (rc < 0)
			note_failure(fill, rc, &err);
	}
	return NULL;
}

int image_fill_give(struct image_fill *fill, int fd, const struct squash_inode *inode)
{
	int failed;

	pthread_mutex_lock(&fill->lock);
	while (fill->count == QUEUE_LEN && atomic_load(&fill->failed) == 0)
		pthread_cond_wait(&fill->not_full, &fill->lock);
	failed = atomic_load(&fill->failed);
	if (failed == 0) {
		fill->queue[(fill->head + fill->count) % QUEUE_LEN] = (struct job) { fd, *inode };
		fill->count++;
		pthread_cond_signal(&fill->not_empty);
	}
	pthread_mutex_unlock(&fill->lock);
	if (failed != 0)
		close(fd);
	return failed;
}

int image_fill_failed(const struct image_fill *fill)
{
	return atomic_load(&fill->failed);
}

static unsigned worker_count(void)
{
	cpu_set_t cpus;
	unsigned count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 2;

	return count < 2 ? 2 : count > WORKERS_MAX ? WORKERS_MAX : count;
}

int image_fill_new(struct image_fill **out, struct squash *sq, struct image_owners *owners, const _Atomic int *interrupted, struct err *err)
{
	struct image_fill *fill = calloc(1, sizeof *fill);
	unsigned wanted = worker_count();
	int rc = 0;

	if (fill == NULL)
		return fail(err, ENOMEM, STEP, "out of memory");
	fill->sq = sq;
	fill->owners = owners;
	fill->interrupted = interrupted;
	pthread_mutex_init(&fill->lock, NULL);
	pthread_cond_init(&fill->not_empty, NULL);
	pthread_cond_init(&fill->not_full, NULL);
	while (rc == 0 && fill->started < wanted) {
		rc = -pthread_create(&fill->workers[fill->started], NULL, fill_files, fill);
		fill->started += rc == 0;
	}
	if (rc < 0)
		return image_fill_end(fill, fail(err, -rc, STEP, "starting a thread"), err);
	*out = fill;
	return 0;
}

int image_fill_end(struct image_fill *fill, int rc, struct err *err)
{
	if (rc < 0)
		note_failure(fill, rc, err);
	pthread_mutex_lock(&fill->lock);
	fill->no_more = true;
	pthread_cond_broadcast(&fill->not_empty);
	pthread_mutex_unlock(&fill->lock);
	while (fill->started > 0)
		pthread_join(fill->workers[--fill->started], NULL);
	rc = atomic_load(&fill->failed);
	if (rc < 0)
		*err = fill->err;
	pthread_mutex_destroy(&fill->lock);
	pthread_cond_destroy(&fill->not_empty);
	pthread_cond_destroy(&fill->not_full);
	free(fill);
	return rc;
}
