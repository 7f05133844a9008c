/* What session.c and ops.c share: a session, its workers, one request. */
#ifndef TSRUN_IMAGEFS_INTERNAL_H
#define TSRUN_IMAGEFS_INTERNAL_H

#include "imagefs.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>

#define IMAGEFS_WORKERS_MAX 16u
/* A request: FUSE_MIN_READ_BUFFER at least, and the header with max_write. No request we can get is larger: nothing is written. */
#define IMAGEFS_REQUEST_MAX 16384u
#define IMAGEFS_DIRENTS_MAX (128u << 10)

struct imagefs_worker {
	struct imagefs *fs;
	int device; /* of its own where the kernel can clone it */
	pthread_t thread;
	char *request; /* IMAGEFS_REQUEST_MAX bytes */
	char *dirents; /* IMAGEFS_DIRENTS_MAX bytes, made at first use */
};

struct imagefs {
	struct imagefs_config config;
	bool has_xattrs;
	_Atomic bool open_refusable, opendir_refusable; /* the kernel takes ENOSYS for "never ask again" */
	_Atomic unsigned running;
	_Atomic unsigned complaints;
	unsigned count;
	struct imagefs_worker workers[IMAGEFS_WORKERS_MAX];
};

/* Answers one request; `len` is what read(2) gave. */
void imagefs_answer(struct imagefs_worker *worker, size_t len);

#endif
