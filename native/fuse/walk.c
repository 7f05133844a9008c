/* Whoever lists one directory after the other may want the names alone, as find does. Attributes of files, which would be decoded here, sent, and kept by the
 * kernel in an inode each, are then left out; those of directories, which will be listed next, are not. Whoever then looks at a file is given all of them
 * from the next directory on.
 *
 * A directory costs a walk two messages (the second one to hear that there is no more), and with each it waits for another process to wake up. So directories below those that it lists are listed
 * ahead by the process that fetches, and those below them: all but the first, which the walk comes to itself at once. */
#include "internal.h"

#include <limits.h>
#include <string.h>

#define LISTINGS_MIN 16u /* in a row, that make a walk; a program that looks for its modules lists one, and opens something in it */
#define CERTAIN_MIN 32u  /* then it is known whether it wants names alone */
#define AHEAD_MAX 64         /* from the last one that the walk had to ask for: when it ends, no more was done in vain */

/* Threads may overtake each other here: then the requests are of several processes, or of one with threads, and an answer that says more or less than would have
 * been best is as right. */
void walk_note(struct imagefs *fs, const struct fuse_in_header *in)
{
	struct imagefs_walk *walk = &fs->walk;

	if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT)
		return; /* nobody asks for these */
	if (fetching_is_asker(fs, in))
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

/* --- ahead of it --- */

static void list_ahead(const struct request *r, const struct squash_inode *dir, const struct squash_dir *listing, bool but_first)
{
	char path[PATH_MAX];
	ssize_t len = -1; /* most directories have none below them, and need no path */

	for (uint32_t i = 0; i < squash_dir_count(listing); i++) {
		struct squash_entry entry = squash_dir_at(listing, i);

		if (entry.type != S_IFDIR)
			continue;
		if (!but_first) {
			if (len < 0)
				len = squash_path(r->sq, dir, path, sizeof path, NULL);
			if (len < 0 || (size_t)len + entry.name_len >= sizeof path)
				return;
			if (atomic_fetch_sub_explicit(&r->fs->walk.ahead, 1, memory_order_relaxed) <= 0)
				return;
			memcpy(path + len, entry.name, entry.name_len);
			path[(size_t)len + entry.name_len] = '\0';
			fetching_ask(r, HOT_ENTRIES, path, 0, 0);
		}
		but_first = false;
	}
}

void walk_go_ahead(const struct request *r, const struct squash_inode *dir, const struct squash_dir *listing)
{
	struct imagefs_walk *walk = &r->fs->walk;

	if (r->fs->config.record != NULL)
		return; /* what nobody has asked for yet is no touch */
	if (fetching_is_asker(r->fs, r->in)) {
		if (atomic_load_explicit(&walk->ahead, memory_order_relaxed) > 0)
			list_ahead(r, dir, listing, false);
	} else if (atomic_load_explicit(&walk->listings, memory_order_relaxed) >= CERTAIN_MIN) {
		atomic_store_explicit(&walk->ahead, AHEAD_MAX, memory_order_relaxed);
		list_ahead(r, dir, listing, true);
	}
}
