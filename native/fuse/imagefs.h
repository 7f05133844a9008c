/* An image as a mounted file system: the FUSE protocol (include/uapi/linux/fuse.h of the kernel), spoken on /dev/fuse without libfuse.
 *
 * An image never changes, so the kernel is told to keep everything for ever: attributes, names, also names that are not there, symbolic
 * links, directories, pages. What needs no answer (open, opendir, flush, …) is refused once, and never asked again.
 *
 * The process that answers may die: a request lies in memory shared with whoever started it from before the kernel counts it as taken until it is
 * answered, and the successor, on the same devices, begins with what it finds there. */
#ifndef TSRUN_IMAGEFS_H
#define TSRUN_IMAGEFS_H

#include "../hot.h"
#include "../squash/squash.h"

#include <stdatomic.h>
#include <sys/types.h>

/* --- mounts; the caller is in the user namespace the mount will belong to, and in a mount namespace of it. Read-only, nosuid, nodev, permissions
 * checked by the kernel, for this user and group only. --- */

/* A device, which has no mount yet: `device_path` is a fuse device in that namespace. `flags` of open(2): O_NONBLOCK for one whose reads
 * do not wait. Who has it already, a process that was forked meanwhile, has it with its mount, too. */
int WARN_UNUSED imagefs_open_device(const char *device_path, int flags, struct err *err);
/* The device's mount, attached nowhere yet (Linux 5.2). */
int WARN_UNUSED imagefs_mount(int device, uid_t uid, gid_t gid, struct err *err);
/* Its mount at `directory`, on any kernel. */
int WARN_UNUSED imagefs_mount_at(int device, uid_t uid, gid_t gid, const char *directory, struct err *err);
/* Makes a device without a mount a further one of `device`'s: requests taken from different ones are answered without a lock in common. */
int WARN_UNUSED imagefs_join_device(int further, int device, struct err *err);

/* --- what survives the serving process --- */

#define IMAGEFS_WORKERS_MAX 16u
/* A request: FUSE_MIN_READ_BUFFER at least, and the header with max_write. No request we can get is larger: nothing is written. */
#define IMAGEFS_REQUEST_MAX 8192u

enum imagefs_count { COUNT_LOOKUP, COUNT_GETATTR, COUNT_READ, COUNT_READDIR, COUNT_OTHER, COUNT_BYTES, COUNT_FAILED, IMAGEFS_COUNTS };

struct imagefs_slot {
	/* The request in hand; its first four bytes, its length, are 0 when there is none. */
	char request[IMAGEFS_REQUEST_MAX] __attribute__((aligned(8)));
	_Atomic bool was_parked; /* the request came by the listening device, and is to be answered there */
	_Atomic uint32_t again; /* how often a successor has begun to answer it */
	_Atomic uint64_t interrupted; /* the request whose asker got a signal while it waited */
	_Atomic uint64_t counts[IMAGEFS_COUNTS];
} __attribute__((aligned(64)));

/* Requests that were taken from the kernel when no worker could: they wait for one. */
#define IMAGEFS_PARKED 128u
#define IMAGEFS_PARKED_MAX 512u /* a name with its headers, and then some */
struct imagefs_parked {
	_Atomic uint32_t state; /* enum in parking.c; 0: free */
	char request[IMAGEFS_PARKED_MAX] __attribute__((aligned(8)));
};

struct imagefs_shared {
	uint32_t workers;
	_Atomic bool open_refusable, opendir_refusable; /* the kernel takes ENOSYS for "never ask again" */
	_Atomic bool watched;     /* somebody looks after slots that are not answered; else `watch` is called with the next request */
	_Atomic uint32_t reading; /* reads of the image that have not come back yet */
	_Atomic bool parking;     /* there may be parked requests */
	_Atomic uint32_t alone;   /* 1 + the slot that is being answered again with nothing beside it; 0: none */
	_Atomic uint64_t cache_bytes; /* of the block cache, a moment ago */
	_Atomic uint64_t cache_hits, cache_loads; /* of the process that serves now */
	_Atomic bool unused;      /* no run is known that uses the mount */
	_Atomic bool read;        /* content of a file has been asked for */
	_Atomic bool fetching;    /* a process that fetches has been asked for */
	_Atomic uint32_t fetcher; /* its pid: what it asks for, nobody else has asked for yet; 0: none */
	struct imagefs_parked parked[IMAGEFS_PARKED];
	struct imagefs_slot slots[];
};
/* Memory that children of the process share; NULL when there is none. */
struct imagefs_shared *imagefs_shared_new(unsigned workers);
/* Has all its pages there, and locked if that is allowed: one that is missing when the kernel copies a request into it would be that request's end. Beside a process that
 * uses it already, if need be: it changes nothing. */
void imagefs_shared_fill(struct imagefs_shared *shared);
void imagefs_shared_free(struct imagefs_shared *shared);
/* The request in slot `index`, 0 for none. From any process. */
uint64_t imagefs_in_hand(const struct imagefs_shared *shared, unsigned index);
/* Answers it with an error, on its device, if that has not been done. */
void imagefs_give_up(const struct imagefs_shared *shared, unsigned index, int device, int error);

/* When every worker hangs in the storage, nobody reads any more what the kernel has to say: also not that a waiting process has been told to end, which it
 * cannot before its request is answered. Whoever watches can listen then, on a device of its own whose reads do not wait: marks requests in slots whose askers
 * were interrupted, answers parked ones of that kind, and parks all others. */
void imagefs_listen(struct imagefs_shared *shared, int device);
/* How many requests are parked. */
unsigned imagefs_parked_count(const struct imagefs_shared *shared);

/* --- serving --- */

struct imagefs_config {
	struct squash *squash;
	struct imagefs_shared *shared;
	const int *devices; /* one for each of shared->workers */
	int listening;      /* the device that parked requests came by, or -1 */
	/* Shown as the owner of everything: these are the ids that the user namespace maps. */
	uid_t uid;
	gid_t gid;
	/* Something that a person should know (a read of the image that failed). Called by any worker, a few times at most. */
	void (*log)(void *ctx, const char *text);
	/* Requests are coming, and nobody is watching (see shared->watched). From any worker. */
	void (*watch)(void *ctx);
	/* A socket, or -1: at its other end is the process that fetches (fetch.h); and what has that started. From any worker. */
	int fetcher;
	void (*fetch)(void *ctx);
	/* Where what is touched is recorded, or NULL (hot.h). */
	struct hot_record *record;
	/* The requests that a predecessor left are answered. */
	void (*recovered)(void *ctx);
	void *ctx;
};
/* Answers what is in the slots, then the kernel's requests, with threads of its own, until the mount and every use of it are gone. Once in the life of a
 * process, which ends then: the threads may still be there. */
int WARN_UNUSED imagefs_serve(const struct imagefs_config *config, struct err *err);

#endif
