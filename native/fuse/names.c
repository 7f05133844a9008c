/* Names: looked up one at a time, and listed. */
#include "internal.h"

#include <string.h>

void do_lookup(const struct request *r)
{
	struct fuse_entry_out entry = { .entry_valid = FOR_EVER };
	struct squash_inode inode;
	struct err err = { 0 };
	size_t len = strnlen(r->arg, r->arg_len);
	uint64_t ref;
	int rc;

	if (rests_lookup(r))
		return;
	rc = answer_stat(r, &inode, &err);
	if (rc == 0)
		hot_record_touch(r->fs->config.record, HOT_NAMES, inode.ino, 0, 0);
	if (rc == 0)
		rc = squash_lookup(r->sq, &inode, r->arg, len, &ref, &err);
	if (rc == 0)
		rc = squash_stat(r->sq, ref, &inode, &err);
	if (rc == 0) {
		hot_record_touch(r->fs->config.record, HOT_INODE, inode.ino, 0, 0);
		answer_fill_entry(r->fs, &inode, &entry);
	}
	if (rc != 0 || !S_ISDIR(inode.mode))
		walk_note_file(r->fs);
	/* Node 0 with a validity: the kernel remembers that the name is not there. */
	if (rc == 0 || rc == -ENOENT)
		answer_data(r, &entry, sizeof entry);
	else
		answer_failure(r, rc, &err);
}

/* --- directories: positions are 0 for ".", 1 for "..", then the names in order; the kernel gives back the position after what it had --- */

struct dirents {
	char *buffer;
	size_t len, room;
	bool plus;
	bool names_only; /* attributes of directories alone */
};

static struct squash_entry dirent_at(const struct squash_inode *dir, struct squash_dir *listing, uint64_t position)
{
	if (position < 2)
		return (struct squash_entry) {
			.ref = dir->ref,
			.ino = position == 0 ? dir->ino : dir->parent_ino,
			.type = S_IFDIR,
			.name = "..",
			.name_len = position == 0 ? 1 : 2,
		};
	return squash_dir_at(listing, (uint32_t)(position - 2));
}

/* Adds one; false when it does not fit any more. */
static bool add_dirent(const struct request *r, struct dirents *out, const struct squash_entry *entry, uint64_t position)
{
	size_t before = out->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	size_t size = FUSE_DIRENT_ALIGN(before + entry->name_len);
	char *at = out->buffer + out->len;
	struct fuse_dirent *dirent = (struct fuse_dirent *)(void *)at;

	if (size > out->room - out->len)
		return false;
	memset(at, 0, size);
	if (out->plus) {
		struct fuse_direntplus *plus = (struct fuse_direntplus *)(void *)at;
		struct squash_inode inode;

		dirent = &plus->dirent;
		/* Without its attributes (node 0) the name is listed all the same; looking at it will give them, or the error. */
		if (position >= 2 && (!out->names_only || entry->type == S_IFDIR) && squash_stat(r->sq, entry->ref, &inode, NULL) == 0)
			answer_fill_entry(r->fs, &inode, &plus->entry_out);
	}
	dirent->ino = entry->ino;
	dirent->off = position + 1;
	dirent->namelen = (uint32_t)entry->name_len;
	dirent->type = entry->type >> 12;
	memcpy(dirent->name, entry->name, entry->name_len);
	out->len += size;
	return true;
}

void do_readdir(const struct request *r, bool plus)
{
	const struct fuse_read_in *in = (const void *)r->arg;
	struct dirents out = { .plus = plus, .names_only = walk_wants_names_only(r->fs) };
	struct squash_inode dir;
	struct squash_dir *listing;
	struct err err = { 0 };
	int rc = r->arg_len < sizeof *in ? -EINVAL : answer_stat(r, &dir, &err);

	if (rc == 0 && r->worker->dirents == NULL && (r->worker->dirents = malloc(IMAGEFS_DIRENTS_MAX)) == NULL)
		rc = -ENOMEM;
	if (rc == 0)
		hot_record_touch(r->fs->config.record, plus ? HOT_ENTRIES : HOT_NAMES, dir.ino, 0, 0);
	if (rc == 0)
		rc = squash_dir_open(r->sq, &dir, &listing, &err);
	if (rc < 0) {
		answer_failure(r, rc, &err);
		return;
	}
	out.buffer = r->worker->dirents;
	out.room = in->size < IMAGEFS_DIRENTS_MAX ? in->size : IMAGEFS_DIRENTS_MAX;
	for (uint64_t at = in->offset; at < (uint64_t)squash_dir_count(listing) + 2; at++) {
		struct squash_entry entry = dirent_at(&dir, listing, at);

		if (!add_dirent(r, &out, &entry, at))
			break;
	}
	answer_data(r, out.buffer, out.len);
	if (in->offset == 0)
		walk_go_ahead(r, &dir, listing);
	squash_dir_close(listing);
}
