/* Requests that nobody can answer yet, because all who could wait for the storage. The one who watches takes them from the kernel, so that it hears of
 * signals; the first worker that comes back answers them. */
#include "internal.h"

#include <string.h>

enum { FREE, PARKED, TAKEN };

static uint64_t unique_of(const struct imagefs_parked *parked)
{
	return ((const struct fuse_in_header *)(const void *)parked->request)->unique;
}

unsigned imagefs_parked_count(const struct imagefs_shared *shared)
{
	unsigned count = 0;

	for (unsigned i = 0; i < IMAGEFS_PARKED; i++)
		count += atomic_load(&shared->parked[i].state) != FREE;
	return count;
}

bool parking_take(struct imagefs_shared *shared, struct imagefs_slot *slot)
{
	for (unsigned i = 0; i < IMAGEFS_PARKED; i++) {
		struct imagefs_parked *parked = &shared->parked[i];
		uint32_t state = PARKED;

		if (!atomic_compare_exchange_strong(&parked->state, &state, TAKEN))
			continue;
		/* The length, which makes it a request in hand, comes last. Whoever dies before the place is free leaves it in both: the kernel takes one answer. */
		memcpy(slot->request + sizeof(uint32_t), parked->request + sizeof(uint32_t), IMAGEFS_PARKED_MAX - sizeof(uint32_t));
		atomic_store(&slot->was_parked, true);
		atomic_store((_Atomic uint32_t *)(void *)slot->request, *(const uint32_t *)(const void *)parked->request);
		atomic_store(&parked->state, FREE);
		return true;
	}
	return false;
}

void parking_recover(struct imagefs_shared *shared)
{
	for (unsigned i = 0; i < IMAGEFS_PARKED; i++) {
		uint32_t state = TAKEN;

		atomic_compare_exchange_strong(&shared->parked[i].state, &state, PARKED);
	}
}

/* --- the one who listens --- */

static void answer_error_to(uint64_t unique, int device, int error)
{
	struct fuse_out_header out = { .len = sizeof out, .error = error, .unique = unique };

	(void)!write(device, &out, sizeof out);
}

static void interrupt(struct imagefs_shared *shared, uint64_t unique, int device)
{
	imagefs_interrupt(shared, unique);
	for (unsigned i = 0; i < IMAGEFS_PARKED; i++) {
		struct imagefs_parked *parked = &shared->parked[i];
		uint32_t state = PARKED;

		if (atomic_load(&parked->state) != PARKED || unique_of(parked) != unique || !atomic_compare_exchange_strong(&parked->state, &state, TAKEN))
			continue;
		answer_error_to(unique, device, -EINTR);
		atomic_store(&parked->state, FREE);
	}
}

static struct imagefs_parked *free_place(struct imagefs_shared *shared)
{
	for (unsigned i = 0; i < IMAGEFS_PARKED; i++)
		if (atomic_load(&shared->parked[i].state) == FREE)
			return &shared->parked[i];
	return NULL;
}

static void hear(struct imagefs_shared *shared, struct imagefs_parked *place, const char *request, size_t len, int device)
{
	const struct fuse_in_header *in = (const void *)request;
	const struct fuse_interrupt_in *arg = (const void *)(request + sizeof *in);

	if (in->opcode == FUSE_INTERRUPT && len >= sizeof *in + sizeof *arg) {
		interrupt(shared, arg->unique, device);
	} else if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET) {
		return; /* no answer is expected, and nothing was kept */
	} else if (in->opcode == FUSE_FLUSH) {
		answer_error_to(in->unique, device, -ENOSYS); /* of a process that ends, maybe, which no signal interrupts any more; the storage has no part in it */
	} else if (len > IMAGEFS_PARKED_MAX) {
		answer_error_to(in->unique, device, -EIO);
	} else {
		memcpy(place->request, request, len);
		atomic_store(&place->state, PARKED);
		atomic_store(&shared->parking, true);
	}
}

void imagefs_listen(struct imagefs_shared *shared, int device)
{
	static char request[IMAGEFS_REQUEST_MAX] __attribute__((aligned(8)));
	struct imagefs_parked *place;

	/* Without a place for what may come nothing is taken. */
	while ((place = free_place(shared)) != NULL) {
		ssize_t len = read(device, request, sizeof request);

		if (len < (ssize_t)sizeof(struct fuse_in_header))
			return;
		hear(shared, place, request, (size_t)len, device);
	}
}
