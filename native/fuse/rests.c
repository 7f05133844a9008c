/* The rest of a block that was decoded for a small read. FUSE gives the kernel no page but those it asks for, and where a program reads here and there it asks for few.
 * So the process that fetches (fetch.h) asks for the others: then the kernel keeps them, as it does of a SquashFS that it reads itself, and the block is decoded once. */
#include "internal.h"

#include "../fetch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define SMALL 4u /* a read of less than this part of a block; the others are not worth two more requests */

/* A file is opened by its node, under a name in the root that is there for the fetcher alone. */
#define NAME_BEGINS ".tsrun-node-"
#define NAME_BEGINS_LEN (sizeof NAME_BEGINS - 1)

bool rests_is_fetcher(const struct imagefs *fs, const struct fuse_in_header *in)
{
	return in->pid != 0 && in->pid == atomic_load_explicit(&fs->config.shared->fetcher, memory_order_relaxed);
}

void fetch_for(const struct request *r, enum hot_touch_kind kind, const char *path, uint64_t offset, uint64_t length)
{
	struct imagefs_shared *shared = r->fs->config.shared;

	if (!atomic_load(&shared->fetching) && !atomic_exchange(&shared->fetching, true))
		r->fs->config.fetch(r->fs->config.ctx);
	/* A fetcher that does not keep up goes without. */
	(void)fetch_ask(r->fs->config.fetcher, MSG_DONTWAIT, kind, path, offset, length);
}

void rests_want(const struct request *r, const struct squash_inode *file, uint64_t offset, size_t read)
{
	uint64_t block = squash_statfs(r->sq).block_size;
	uint64_t start = offset - offset % block, left = file->size - start, length = left < block ? left : block;
	char name[NAME_BEGINS_LEN + 17];

	if (length < SMALL * read)
		return;
	snprintf(name, sizeof name, NAME_BEGINS "%" PRIx64, r->in->nodeid);
	fetch_for(r, HOT_DATA, name, start, length);
}

bool rests_lookup(const struct request *r)
{
	struct fuse_entry_out entry;
	struct squash_inode inode;
	uint64_t node;

	if (!rests_is_fetcher(r->fs, r->in) || memchr(r->arg, 0, r->arg_len) == NULL || strncmp(r->arg, NAME_BEGINS, NAME_BEGINS_LEN) != 0)
		return false;
	node = strtoull(r->arg + NAME_BEGINS_LEN, NULL, 16);
	/* A directory that gets another name loses the one it had. */
	if (node <= FUSE_ROOT_ID || squash_stat(r->sq, ref_of(r->sq, node), &inode, NULL) < 0 || !S_ISREG(inode.mode)) {
		answer_error(r, -ENOENT);
		return true;
	}
	answer_fill_entry(r->fs, &inode, &entry);
	entry.entry_valid = 0; /* the next to look up the name is asked for */
	answer_data(r, &entry, sizeof entry);
	return true;
}
