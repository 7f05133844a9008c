/* The content of files. */
#include "internal.h"

#include <fcntl.h>
#include <string.h>

/* No file is ever opened here, so who reads in order is told by where the last read of the node ended. */
static bool reads_in_order(const struct request *r, uint64_t offset, uint64_t end)
{
	uint64_t node = r->in->nodeid * 0x9e3779b97f4a7c15u;
	_Atomic uint64_t *reached = &r->fs->reached[node >> 56];
	uint64_t before = atomic_exchange_explicit(reached, node ^ end, memory_order_relaxed);

	return offset == 0 || before == (node ^ offset);
}

void do_read(const struct request *r)
{
	const struct fuse_read_in *in = (const void *)r->arg;
	struct iovec parts[SQUASH_PIECES_MAX + 1]; /* the first is the reply's header */
	struct squash_pieces pieces;
	struct squash_inode inode;
	uint64_t end, block = squash_statfs(r->sq).block_size;
	struct err err = { 0 };
	/* The mount's max_read keeps it from asking for more; less than asked for would mean the end of the file. */
	int rc = r->arg_len < sizeof *in || in->size > SQUASH_READ_MAX ? -EINVAL : answer_stat(r, &inode, &err);

	if (rc == 0)
		rc = squash_read(r->sq, &inode, in->offset, in->size, &pieces, &err);
	if (rc < 0) {
		answer_failure(r, rc, &err);
		return;
	}
	hot_record_touch(r->fs->config.record, HOT_DATA, inode.ino, in->offset, (uint32_t)pieces.bytes);
	memcpy(parts + 1, pieces.iov, pieces.count * sizeof parts[0]);
	answer_vector(r, 0, parts, pieces.count + 1, pieces.bytes);
	end = in->offset + pieces.bytes;
	if (in->flags & O_DIRECT)
		squash_release(r->sq, &pieces);
	else
		squash_give(r->sq, &pieces);
	if (reads_in_order(r, in->offset, end)) {
		r->worker->ahead = inode;
		r->worker->ahead_offset = end;
	} else if (end - in->offset < block && in->offset / block == (end - 1) / block && !(in->flags & O_DIRECT)) {
		r->worker->rest = inode;
		r->worker->rest_node = r->in->nodeid;
		r->worker->rest_offset = in->offset - in->offset % block;
	}
}

/* The whole block has been decompressed for a part of it: its other pages go to the kernel's cache, too, as those of its own SquashFS do. Else the next read there
 * costs a message, and one day the block is decompressed again.
 *
 * The kernel waits until no read of these pages is unanswered, so there must be others who answer: one thread at a time, and not the only one. */
static void give_rest(struct imagefs *fs, int device, const struct squash_inode *inode, uint64_t node, uint64_t offset)
{
	struct squash *sq = fs->config.squash;
	struct iovec parts[SQUASH_PIECES_MAX + 2];
	struct squash_pieces pieces;
	struct fuse_out_header out = { .error = FUSE_NOTIFY_STORE };
	struct fuse_notify_store_out store = { .nodeid = node, .offset = offset };
	size_t block = squash_statfs(sq).block_size;

	if (squash_read(sq, inode, offset, block, &pieces, NULL) < 0)
		return;
	store.size = (uint32_t)pieces.bytes;
	out.len = (uint32_t)(sizeof out + sizeof store + pieces.bytes);
	parts[0] = (struct iovec) { &out, sizeof out };
	parts[1] = (struct iovec) { &store, sizeof store };
	memcpy(parts + 2, pieces.iov, pieces.count * sizeof parts[0]);
	/* It is a gift: when the kernel does not want it, so be it. */
	(void)!writev(device, parts, (int)pieces.count + 2);
	squash_give(sq, &pieces);
}

void imagefs_after_answer(struct imagefs_worker *worker)
{
	struct imagefs *fs = worker->fs;

	if (worker->ahead.size > 0)
		squash_read_ahead(fs->config.squash, &worker->ahead, worker->ahead_offset);
	worker->ahead.size = 0;
	if (worker->rest.size > 0 && atomic_load(&fs->started) > 1 && !atomic_exchange(&fs->gives_rest, true)) {
		give_rest(fs, worker->device, &worker->rest, worker->rest_node, worker->rest_offset);
		atomic_store(&fs->gives_rest, false);
	}
	worker->rest.size = 0;
}
