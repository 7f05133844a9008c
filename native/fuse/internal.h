/* What the files of this folder share: a session, its workers, one request. */
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

/* Who asks lately; see walk.c. */
struct imagefs_walk {
	_Atomic uint32_t asker;    /* the process */
	_Atomic uint32_t listings; /* its last requests, if they were nothing else */
	_Atomic bool looks;        /* it has looked at what it was given as a name */
	_Atomic int ahead;         /* as many directories may be listed ahead of it */
};

struct imagefs {
	struct imagefs_config config;
	bool has_xattrs;
	_Atomic unsigned complaints;
	struct imagefs_walk walk;
	_Atomic unsigned started, idle; /* threads: all, and those that wait for a request */
	/* How far files were read lately, to know who reads in order: node and end mixed, by node. */
	_Atomic uint64_t reached[256];
	struct imagefs_worker workers[IMAGEFS_WORKERS_MAX];
};

/* Answers the request in the worker's slot; `len` is what read(2) gave. */
void imagefs_answer(struct imagefs_worker *worker, size_t len);
/* After an answer: reads ahead for who reads in order. */
void imagefs_after_answer(struct imagefs_worker *worker);

/* --- one request --- */

#define FOR_EVER UINT64_MAX

struct request {
	struct imagefs_worker *worker;
	struct imagefs *fs;
	struct squash *sq;
	const struct fuse_in_header *in;
	const char *arg;
	size_t arg_len;
};

/* reply.c */
uint64_t node_of(const struct squash *sq, uint64_t ref);
uint64_t ref_of(const struct squash *sq, uint64_t node);
/* The inode that the request is about. */
int WARN_UNUSED answer_stat(const struct request *r, struct squash_inode *inode, struct err *err);
void answer_fill_attr(const struct imagefs *fs, const struct squash_inode *inode, struct fuse_attr *attr);
void answer_fill_entry(const struct imagefs *fs, const struct squash_inode *inode, struct fuse_entry_out *entry);
void tally(const struct request *r, enum imagefs_count what, uint64_t amount);
void answer_data(const struct request *r, const void *data, size_t len);
void answer_error(const struct request *r, int error);
/* For failures that are not an answer to the question: says so, a few times. */
void answer_failure(const struct request *r, int rc, const struct err *err);
/* `parts[0]` becomes the header; `len` are the bytes of the others. */
void answer_vector(const struct request *r, int error, struct iovec *parts, unsigned count, size_t len);

/* The asker of request `unique` got a signal while it waits. */
void imagefs_interrupt(struct imagefs_shared *shared, uint64_t unique);

/* parking.c: a parked request, if there is one, into a slot; what a dead worker had in its hands is parked again. */
bool parking_take(struct imagefs_shared *shared, struct imagefs_slot *slot);
void parking_recover(struct imagefs_shared *shared);

/* walk.c: of each request, before it is answered; of one for a name that is not a directory's; for an answer to READDIRPLUS; after an answer that begins a listing */
void walk_note(struct imagefs *fs, const struct fuse_in_header *in);
void walk_note_file(struct imagefs *fs);
bool walk_wants_names_only(const struct imagefs *fs);
void walk_go_ahead(const struct request *r, const struct squash_inode *dir, const struct squash_dir *listing);

/* rests.c: whether the request is the fetcher's; after a small read of a block that nothing had been read of: has the others fetched; answers a name that is there for the
 * fetcher alone, false for another one */
bool rests_is_fetcher(const struct imagefs *fs, const struct fuse_in_header *in);
void rests_want(const struct request *r, const struct squash_inode *file, uint64_t offset, size_t read);
bool rests_lookup(const struct request *r);
/* Has the process that fetches do something, unless it has enough to do. */
void fetch_for(const struct request *r, enum hot_touch_kind kind, const char *path, uint64_t offset, uint64_t length);

/* names.c, content.c, xattrs.c */
void do_lookup(const struct request *r);
void do_readdir(const struct request *r, bool plus);
void do_read(const struct request *r);
void do_xattr(const struct request *r, bool list);

#endif
