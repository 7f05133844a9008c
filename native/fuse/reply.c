/* What every answer is made of: the reply itself, node ids, attributes. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#define COMPLAINTS_MAX 20u

/* --- node ids: the inode's reference, moved past 0 (no node) and 1 (the root), so that they mean the same in every server --- */

uint64_t node_of(const struct squash *sq, uint64_t ref)
{
	return ref == squash_root(sq) ? FUSE_ROOT_ID : ref + 2;
}

uint64_t ref_of(const struct squash *sq, uint64_t node)
{
	return node == FUSE_ROOT_ID ? squash_root(sq) : node - 2;
}

/* --- replies --- */

void tally(const struct request *r, enum imagefs_count what, uint64_t amount)
{
	_Atomic uint64_t *at = &r->worker->slot->counts[what];

	/* Nobody else writes it. */
	atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + amount, memory_order_relaxed);
}

void answer_vector(const struct request *r, int error, struct iovec *parts, unsigned count, size_t len)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof out + len),
		.error = error,
		.unique = r->in->unique,
	};

	parts[0] = (struct iovec) { &out, sizeof out };
	tally(r, COUNT_BYTES, len);
	/* Fails when the asker has been killed or the mount is gone; then nobody waits for it. */
	while (writev(r->worker->device, parts, (int)count) < 0 && errno == EINTR)
		;
}

void answer_data(const struct request *r, const void *data, size_t len)
{
	struct iovec parts[2] = { { 0 }, { .iov_base = (void *)(uintptr_t)data, .iov_len = len } };

	answer_vector(r, 0, parts, len > 0 ? 2 : 1, len);
}

void answer_error(const struct request *r, int error)
{
	struct iovec parts[1];

	answer_vector(r, error, parts, 1, 0);
}

/* For failures that are not an answer to the question: says so, a few times. */
void answer_failure(const struct request *r, int rc, const struct err *err)
{
	struct imagefs *fs = r->fs;

	tally(r, COUNT_FAILED, rc == -EIO || rc == -EUCLEAN || rc == -ENOMEM || rc == -ESTALE);
	if (err->step[0] != '\0' && (rc == -EIO || rc == -EUCLEAN || rc == -ENOMEM || rc == -ESTALE)
		&& atomic_fetch_add(&fs->complaints, 1) < COMPLAINTS_MAX) {
		char text[sizeof err->step + sizeof err->detail + 64];

		snprintf(text, sizeof text, "cannot %s: %s: %s", err->step, err->detail, strerror(-rc));
		fs->config.log(fs->config.ctx, text);
	}
	answer_error(r, rc);
}

/* --- attributes --- */

static uint32_t shown_mode(uint32_t mode)
{
	/* Everything in an image can be read by who may read the image. */
	return mode | S_IRUSR | (S_ISDIR(mode) ? S_IXUSR : 0);
}

void answer_fill_attr(const struct imagefs *fs, const struct squash_inode *inode, struct fuse_attr *attr)
{
	*attr = (struct fuse_attr) {
		.ino = inode->ino,
		.size = inode->size,
		.blocks = S_ISREG(inode->mode) && inode->sparse <= inode->size ? (inode->size - inode->sparse + 511) / 512 : 0,
		.atime = (uint64_t)inode->mtime,
		.mtime = (uint64_t)inode->mtime,
		.ctime = (uint64_t)inode->mtime,
		.mode = shown_mode(inode->mode),
		.nlink = inode->nlink,
		.uid = fs->config.uid,
		.gid = fs->config.gid,
		.rdev = (inode->rdev_minor & 0xff) | inode->rdev_major << 8 | (inode->rdev_minor & ~0xffu) << 12,
		.blksize = 4096, /* programs take it as the size of their buffers */
	};
}

void answer_fill_entry(const struct imagefs *fs, const struct squash_inode *inode, struct fuse_entry_out *entry)
{
	*entry = (struct fuse_entry_out) {
		.nodeid = node_of(fs->config.squash, inode->ref),
		.entry_valid = FOR_EVER,
		.attr_valid = FOR_EVER,
	};
	answer_fill_attr(fs, inode, &entry->attr);
}

int answer_stat(const struct request *r, struct squash_inode *inode, struct err *err)
{
	int rc = r->in->nodeid < FUSE_ROOT_ID ? -EINVAL : squash_stat(r->sq, ref_of(r->sq, r->in->nodeid), inode, err);

	if (rc == 0)
		hot_record_touch(r->fs->config.record, HOT_INODE, inode->ino, 0, 0);
	return rc;
}
