/* The threads of a mounted image: each takes a request from its device into its slot, answers it, takes the next. */
#include "internal.h"

#include <sys/mman.h>

#define STACK_BYTES (256u << 10)
#define TRIES_MAX 5u

/* --- slots --- */

static size_t shared_size(unsigned workers)
{
	return sizeof(struct imagefs_shared) + workers * sizeof(struct imagefs_slot);
}

struct imagefs_shared *imagefs_shared_new(unsigned workers)
{
	struct imagefs_shared *shared = mmap(NULL, shared_size(workers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return NULL;
	shared->workers = workers;
	return shared;
}

void imagefs_shared_fill(struct imagefs_shared *shared)
{
	size_t size = shared_size(shared->workers), page = (size_t)sysconf(_SC_PAGESIZE);

	if (mlock(shared, size) == 0)
		return;
	for (size_t at = 0; at < size; at += page)
		atomic_fetch_add((_Atomic uint32_t *)(void *)((char *)shared + at), 0);
}

void imagefs_shared_free(struct imagefs_shared *shared)
{
	if (shared != NULL)
		munmap(shared, shared_size(shared->workers));
}

static _Atomic uint32_t *length_of(struct imagefs_slot *slot)
{
	return (_Atomic uint32_t *)(void *)slot->request;
}

uint64_t imagefs_in_hand(const struct imagefs_shared *shared, unsigned index)
{
	const struct imagefs_slot *slot = &shared->slots[index];
	const struct fuse_in_header *header = (const void *)slot->request;

	if (atomic_load((const _Atomic uint32_t *)(const void *)slot->request) == 0)
		return 0;
	return atomic_load_explicit((const _Atomic uint64_t *)&header->unique, memory_order_relaxed);
}

void imagefs_give_up(const struct imagefs_shared *shared, unsigned index, int device, int error)
{
	struct fuse_out_header out = { .len = sizeof out, .error = error, .unique = imagefs_in_hand(shared, index) };

	/* Fails when it has been answered meanwhile. */
	if (out.unique != 0)
		(void)!write(device, &out, sizeof out);
}

void imagefs_interrupt(struct imagefs_shared *shared, uint64_t unique)
{
	for (unsigned i = 0; i < shared->workers; i++)
		if (imagefs_in_hand(shared, i) == unique)
			atomic_store(&shared->slots[i].interrupted, unique);
}

/* --- one request after the other --- */

static void done(struct imagefs_slot *slot)
{
	atomic_store(length_of(slot), 0);
	atomic_store(&slot->was_parked, false);
}

static void *serve(void *ctx);

/* Who takes a request when nobody else waits for the next one starts another thread: most runs never need more than a few. */
static void start_another(struct imagefs *fs)
{
	unsigned index = atomic_load(&fs->started);
	pthread_attr_t attr;
	pthread_t thread;

	do {
		if (index >= fs->config.shared->workers)
			return;
	} while (!atomic_compare_exchange_weak(&fs->started, &index, index + 1));
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* Counted as one that waits: until it does, nobody need start one more. Fewer than wished for also do. */
	atomic_fetch_add(&fs->idle, 1);
	if (pthread_create(&thread, &attr, serve, &fs->workers[index]) != 0)
		atomic_fetch_sub(&fs->idle, 1);
	pthread_attr_destroy(&attr);
}

/* The kernel takes an answer only by the device that the request came by. */
static int device_of(const struct imagefs_worker *worker)
{
	const struct imagefs *fs = worker->fs;

	return atomic_load(&worker->slot->was_parked) ? fs->config.listening : fs->config.devices[worker - fs->workers];
}

static void answer_slot(struct imagefs_worker *worker, size_t len)
{
	worker->device = device_of(worker);
	imagefs_answer(worker, len);
}

static void answer_parked(struct imagefs_worker *worker)
{
	/* First: what is parked from here on is for the next look. */
	atomic_store(&worker->fs->config.shared->parking, false);
	while (parking_take(worker->fs->config.shared, worker->slot)) {
		answer_slot(worker, atomic_load(length_of(worker->slot)));
		done(worker->slot);
	}
}

/* Until there is no mount any more. Whoever starts the thread has counted it as idle. */
static int serve_requests(struct imagefs_worker *worker)
{
	struct imagefs *fs = worker->fs;
	struct imagefs_shared *shared = fs->config.shared;

	for (;;) {
		ssize_t len;

		if (atomic_load(&shared->parking)) {
			atomic_fetch_sub(&fs->idle, 1);
			answer_parked(worker);
			atomic_fetch_add(&fs->idle, 1);
		}
		len = read(fs->config.devices[worker - fs->workers], worker->slot->request, IMAGEFS_REQUEST_MAX);
		if (atomic_fetch_sub(&fs->idle, 1) == 1 && len >= 0)
			start_another(fs);
		if (len >= 0) {
			if (!atomic_load(&shared->watched) && !atomic_exchange(&shared->watched, true))
				fs->config.watch(fs->config.ctx);
			answer_slot(worker, (size_t)len);
			done(worker->slot);
			imagefs_after_answer(worker);
		} else if (errno != EINTR && errno != EAGAIN && errno != ENOENT) {
			return -errno;
		} else {
			done(worker->slot); /* ENOENT: the request was withdrawn while it was copied */
		}
		atomic_fetch_add(&fs->idle, 1);
	}
}

static void *serve(void *ctx)
{
	(void)!serve_requests(ctx);
	return NULL;
}

/* What a predecessor had in hand, one at a time, so that it is known which request a process dies of: one that has been the death of two is answered
 * with EIO. (Whoever starts us clears `alone` when the death had nothing to do with it; for ever it is not tried even so.) */
static void recover(struct imagefs *fs)
{
	struct imagefs_shared *shared = fs->config.shared;
	uint32_t blamed = atomic_load(&shared->alone);

	atomic_store(&shared->reading, 0);
	parking_recover(shared);
	for (unsigned i = 0; i < shared->workers; i++) {
		struct imagefs_worker *worker = &fs->workers[i];
		uint32_t len = atomic_load(length_of(worker->slot));

		if (len == 0 || len > IMAGEFS_REQUEST_MAX) {
			done(worker->slot);
			continue;
		}
		if (blamed == i + 1 || atomic_fetch_add(&worker->slot->again, 1) >= TRIES_MAX) {
			fs->config.log(fs->config.ctx, "a request that ended two serving processes is answered with an error");
			imagefs_give_up(shared, i, device_of(worker), -EIO);
		} else {
			atomic_store(&shared->alone, i + 1);
			answer_slot(worker, len);
		}
		done(worker->slot);
		atomic_store(&shared->alone, 0);
		atomic_store(&worker->slot->again, 0);
	}
	atomic_store(&shared->alone, 0);
}

int imagefs_serve(const struct imagefs_config *config, struct err *err)
{
	struct imagefs *fs = calloc(1, sizeof *fs);
	int rc;

	if (fs == NULL)
		return fail(err, ENOMEM, "serve the image", "out of memory");
	fs->config = *config;
	fs->has_xattrs = squash_statfs(config->squash).has_xattrs;
	for (unsigned i = 0; i < config->shared->workers; i++)
		fs->workers[i] = (struct imagefs_worker) { .fs = fs, .slot = &config->shared->slots[i], .device = config->devices[i] };
	recover(fs);
	config->recovered(config->ctx);
	atomic_store(&fs->started, 1);
	atomic_store(&fs->idle, 1);
	rc = serve_requests(&fs->workers[0]);
	return rc == -ENODEV ? 0 : fail(err, -rc, "serve the image", "reading requests");
}
