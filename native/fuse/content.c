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
	uint64_t end;
	bool is_first = false;
	struct err err = { 0 };
	/* The mount's max_read keeps it from asking for more; less than asked for would mean the end of the file. */
	int rc = r->arg_len < sizeof *in || in->size > SQUASH_READ_MAX ? -EINVAL : answer_stat(r, &inode, &err);

	if (rc == 0)
		rc = squash_read(r->sq, &inode, in->offset, in->size, &pieces, &err);
	if (rc < 0) {
		answer_failure(r, rc, &err);
		return;
	}
	if (!atomic_load_explicit(&r->fs->config.shared->read, memory_order_relaxed))
		atomic_store_explicit(&r->fs->config.shared->read, true, memory_order_relaxed);
	memcpy(parts + 1, pieces.iov, pieces.count * sizeof parts[0]);
	answer_vector(r, 0, parts, pieces.count + 1, pieces.bytes);
	end = in->offset + pieces.bytes;
	if (in->flags & O_DIRECT)
		squash_release(r->sq, &pieces);
	else
		is_first = squash_give(r->sq, &pieces);
	if (fetching_is_asker(r->fs, r->in))
		return; /* nobody has asked for these bytes yet */
	hot_record_touch(r->fs->config.record, HOT_DATA, inode.ino, in->offset, (uint32_t)(end - in->offset));
	if (reads_in_order(r, in->offset, end)) {
		r->worker->ahead = inode;
		r->worker->ahead_offset = end;
	} else if (is_first) {
		fetching_rest(r, &inode, in->offset, (size_t)(end - in->offset));
	}
}

void imagefs_after_answer(struct imagefs_worker *worker)
{
	struct imagefs *fs = worker->fs;

	if (worker->ahead.size > 0)
		squash_read_ahead(fs->config.squash, &worker->ahead, worker->ahead_offset);
	worker->ahead.size = 0;
}
