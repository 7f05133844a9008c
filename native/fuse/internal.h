/* What session.c and ops.c share: a session, its workers, one request. */
#ifndef TSRUN_IMAGEFS_INTERNAL_H
#define TSRUN_IMAGEFS_INTERNAL_H

#include "imagefs.h"

#include <linux/fuse.h>
#include <pthread.h>

#define IMAGEFS_DIRENTS_MAX (128u << 10)

struct imagefs_worker {
	struct imagefs *fs;
	struct imagefs_slot *slot;
	int device;
	pthread_t thread;
	char *dirents; /* IMAGEFS_DIRENTS_MAX bytes, made at first use */
};

struct imagefs {
	struct imagefs_config config;
	bool has_xattrs;
	_Atomic unsigned complaints;
	struct imagefs_worker workers[IMAGEFS_WORKERS_MAX];
};

/* Answers the request in the worker's slot; `len` is what read(2) gave. */
void imagefs_answer(struct imagefs_worker *worker, size_t len);

#endif
