/* The threads of a mounted image: each takes a request from its device descriptor, answers it, takes the next. */
#include "internal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define STACK_BYTES (256u << 10)

static void *serve(void *ctx)
{
	struct imagefs_worker *worker = ctx;
	struct imagefs *fs = worker->fs;

	for (;;) {
		ssize_t len = read(worker->device, worker->request, IMAGEFS_REQUEST_MAX);

		if (len >= 0)
			imagefs_answer(worker, (size_t)len);
		else if (errno != EINTR && errno != EAGAIN && errno != ENOENT) /* ENOENT: the request was withdrawn meanwhile */
			break;
	}
	if (errno != ENODEV) {
		char text[128];

		snprintf(text, sizeof text, "cannot read requests: %s", strerror(errno));
		fs->config.log(fs->config.ctx, text);
	}
	if (atomic_fetch_sub(&fs->running, 1) == 1)
		fs->config.ended(fs->config.ctx);
	return NULL;
}

/* A descriptor of its own for each worker: requests are then answered without a lock in common. Kernels that cannot share the one. */
static int clone_device(const char *device_path, int device)
{
	int cleanup_fd clone = open(device_path, O_RDWR | O_CLOEXEC);
	uint32_t source = (uint32_t)device;

	if (clone >= 0 && ioctl(clone, FUSE_DEV_IOC_CLONE, &source) == 0)
		return steal_fd(&clone);
	return fcntl(device, F_DUPFD_CLOEXEC, 0);
}

static unsigned worker_count(unsigned wanted)
{
	cpu_set_t cpus;
	unsigned count = wanted;

	/* More than processors: a worker may wait for a slow file system while others have what is asked for. */
	if (count == 0)
		count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? 2 * (unsigned)CPU_COUNT(&cpus) : 0;
	if (count < 8 && wanted == 0)
		count = 8;
	return count > IMAGEFS_WORKERS_MAX ? IMAGEFS_WORKERS_MAX : count;
}

static int prepare_worker(struct imagefs *fs, unsigned index, int device)
{
	struct imagefs_worker *worker = &fs->workers[index];

	worker->fs = fs;
	worker->device = index == 0 ? device : clone_device(fs->config.device_path, device);
	if (worker->device < 0)
		return -errno;
	fs->count = index + 1;
	worker->request = malloc(IMAGEFS_REQUEST_MAX);
	return worker->request == NULL ? -ENOMEM : 0;
}

static void release(struct imagefs *fs)
{
	for (unsigned i = 0; i < fs->count; i++) {
		close(fs->workers[i].device);
		free(fs->workers[i].request);
		free(fs->workers[i].dirents);
	}
	free(fs);
}

int imagefs_start(struct imagefs **out, const struct imagefs_config *config, int device, struct err *err)
{
	struct imagefs *fs = calloc(1, sizeof *fs);
	unsigned wanted = worker_count(config->workers), started = 0;
	pthread_attr_t attr;
	int rc = 0;

	if (fs == NULL) {
		close(device);
		return fail(err, ENOMEM, "serve the image", "out of memory");
	}
	fs->config = *config;
	fs->has_xattrs = squash_statfs(config->squash).has_xattrs;
	for (unsigned i = 0; rc == 0 && i < wanted; i++)
		rc = prepare_worker(fs, i, device);
	if (rc < 0) {
		release(fs);
		return fail(err, -rc, "serve the image", "preparing %u workers", wanted);
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	atomic_store(&fs->running, wanted);
	while (rc == 0 && started < wanted) {
		rc = -pthread_create(&fs->workers[started].thread, &attr, serve, &fs->workers[started]);
		started += rc == 0;
	}
	pthread_attr_destroy(&attr);
	if (started == 0) {
		release(fs);
		return fail(err, -rc, "serve the image", "starting a thread");
	}
	/* Fewer workers than wished for also do. */
	for (unsigned i = started; i < wanted; i++) {
		close(fs->workers[i].device);
		free(fs->workers[i].request);
	}
	fs->count = started;
	if (started < wanted && atomic_fetch_sub(&fs->running, wanted - started) == wanted - started)
		config->ended(config->ctx);
	*out = fs;
	return 0;
}

void imagefs_join(struct imagefs *fs)
{
	if (fs == NULL)
		return;
	for (unsigned i = 0; i < fs->count; i++)
		pthread_join(fs->workers[i].thread, NULL);
	release(fs);
}
