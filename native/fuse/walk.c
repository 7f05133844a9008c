/* Whoever lists one directory after the other may want the names alone, as find does. Attributes of files, which would be decoded here, sent, and kept by the
 * kernel in an inode each, are then left out; those of directories, which will be listed next, are not. Whoever then looks at a file is given all of them
 * from the next directory on. */
#include "internal.h"

#define LISTINGS_MIN 16u /* in a row, that make a walk; a program that looks for its modules lists one, and opens something in it */

/* Threads may overtake each other here: then the requests are of several processes, or of one with threads, and an answer that says more or less than would have
 * been best is as right. */
void walk_note(struct imagefs *fs, const struct fuse_in_header *in)
{
	struct imagefs_walk *walk = &fs->walk;

	if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT)
		return; /* nobody asks for these */
	if (rests_is_fetcher(fs, in))
		return;
	if (atomic_exchange_explicit(&walk->asker, in->pid, memory_order_relaxed) != in->pid) {
		atomic_store_explicit(&walk->listings, 0, memory_order_relaxed);
		atomic_store_explicit(&walk->looks, false, memory_order_relaxed);
	}
	if (in->opcode == FUSE_READDIR || in->opcode == FUSE_READDIRPLUS)
		atomic_fetch_add_explicit(&walk->listings, 1, memory_order_relaxed);
	else if (in->opcode != FUSE_LOOKUP)
		atomic_store_explicit(&walk->listings, 0, memory_order_relaxed);
}

void walk_note_file(struct imagefs *fs)
{
	if (walk_wants_names_only(fs))
		atomic_store_explicit(&fs->walk.looks, true, memory_order_relaxed);
	atomic_store_explicit(&fs->walk.listings, 0, memory_order_relaxed);
}

bool walk_wants_names_only(const struct imagefs *fs)
{
	return atomic_load_explicit(&fs->walk.listings, memory_order_relaxed) >= LISTINGS_MIN
		&& !atomic_load_explicit(&fs->walk.looks, memory_order_relaxed);
}
