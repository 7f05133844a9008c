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
	/* What the last answer gives reason to read ahead: `ahead.size` 0 for nothing. */
	struct squash_inode ahead;
	uint64_t ahead_offset;
	char *dirents; /* IMAGEFS_DIRENTS_MAX bytes, made at first use */
};

struct imagefs {
	struct imagefs_config config;
	bool has_xattrs;
	_Atomic unsigned complaints;
	_Atomic unsigned started, idle; /* threads: all, and those that wait for a request */
	/* How far files were read lately, to know who reads in order: node and end mixed, by node. */
	_Atomic uint64_t reached[256];
	struct imagefs_worker workers[IMAGEFS_WORKERS_MAX];
};

/* Answers the request in the worker's slot; `len` is what read(2) gave. */
void imagefs_answer(struct imagefs_worker *worker, size_t len);
/* After an answer: reads ahead for who reads in order. */
void imagefs_read_ahead(struct imagefs_worker *worker);

#endif
