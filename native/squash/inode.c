/* Inodes: decoding them, the export table, symbolic links' texts. */
#include "internal.h"

#include <inttypes.h>

/* How much metadata can follow at most: every stored block has at least three bytes. */
static bool list_fits(const struct squash *sq, uint64_t list_pos, uint64_t entries)
{
	uint64_t stored = list_pos < sq->directory_table ? sq->directory_table - list_pos : 0;

	return entries <= (stored / 3 + 1) * (SQUASH_META_SIZE / 4);
}

static int finish_file(struct squash *sq, struct squash_inode *inode, const struct meta_cursor *at, struct err *err)
{
	uint64_t blocks = inode->size / sq->block_size;

	if (inode->fragment == SQUASH_NO_FRAGMENT && inode->size % sq->block_size != 0)
		blocks++;
	if (inode->size > INT64_MAX || !list_fits(sq, at->pos, blocks))
		return squash_corrupt(err, "the file with inode %" PRIu32 " claims %" PRIu64 " bytes", inode->ino, inode->size);
	inode->list_pos = at->pos;
	inode->list_offset = at->offset;
	return 0;
}

static void set_rdev(struct squash_inode *inode, uint32_t rdev)
{
	inode->rdev_major = rdev >> 8 & 0xfff;
	inode->rdev_minor = (rdev & 0xff) | (rdev >> 12 & 0xfff00);
}

static int finish_symlink(struct squash_inode *inode, struct meta_cursor *at, bool extended, struct err *err)
{
	uint8_t raw[4];
	int rc;

	if (inode->size == 0 || inode->size > SQUASH_SYMLINK_MAX)
		return squash_corrupt(err, "the symbolic link with inode %" PRIu32 " claims %" PRIu64 " bytes", inode->ino, inode->size);
	inode->list_pos = at->pos;
	inode->list_offset = at->offset;
	if (!extended)
		return 0;
	rc = meta_read(at, NULL, inode->size, err);
	if (rc == 0)
		rc = meta_read(at, raw, sizeof raw, err);
	if (rc == 0)
		inode->xattrs = get32(raw);
	return rc;
}

/* What follows the common header, by type; 0 for a type that does not exist. */
static size_t body_size(unsigned type)
{
	static const uint8_t sizes[] = {
		[SQUASH_DIR] = SQUASH_DIR_SIZE, [SQUASH_LDIR] = SQUASH_LDIR_SIZE,
		[SQUASH_REG] = SQUASH_REG_SIZE, [SQUASH_LREG] = SQUASH_LREG_SIZE,
		[SQUASH_SYMLINK] = SQUASH_SYMLINK_SIZE, [SQUASH_LSYMLINK] = SQUASH_SYMLINK_SIZE,
		[SQUASH_BLKDEV] = SQUASH_DEV_SIZE, [SQUASH_CHRDEV] = SQUASH_DEV_SIZE,
		[SQUASH_LBLKDEV] = SQUASH_LDEV_SIZE, [SQUASH_LCHRDEV] = SQUASH_LDEV_SIZE,
		[SQUASH_FIFO] = SQUASH_IPC_SIZE, [SQUASH_SOCKET] = SQUASH_IPC_SIZE,
		[SQUASH_LFIFO] = SQUASH_LIPC_SIZE, [SQUASH_LSOCKET] = SQUASH_LIPC_SIZE,
	};

	return type < ARRAY_LEN(sizes) ? sizes[type] : 0;
}

static uint32_t type_mode(unsigned type)
{
	static const uint32_t modes[] = { 0, S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK };

	return modes[type > 7 ? type - 7 : type];
}

static int parse_body(struct squash *sq, struct squash_inode *inode, unsigned type, const uint8_t *b, struct meta_cursor *at, struct err *err)
{
	switch ((enum squash_type)type) {
	case SQUASH_DIR:
		inode->start = get32(b);
		inode->nlink = get32(b + 4);
		inode->size = get16(b + 8);
		inode->tail_offset = get16(b + 10);
		inode->parent_ino = get32(b + 12);
		return 0;
	case SQUASH_LDIR: /* its index is not needed: listings are decoded whole, and kept */
		inode->nlink = get32(b);
		inode->size = get32(b + 4);
		inode->start = get32(b + 8);
		inode->parent_ino = get32(b + 12);
		inode->tail_offset = get16(b + 18);
		inode->xattrs = get32(b + 20);
		return 0;
	case SQUASH_REG:
		inode->nlink = 1;
		inode->start = get32(b);
		inode->fragment = get32(b + 4);
		inode->tail_offset = get32(b + 8);
		inode->size = get32(b + 12);
		return finish_file(sq, inode, at, err);
	case SQUASH_LREG:
		inode->start = get64(b);
		inode->size = get64(b + 8);
		inode->sparse = get64(b + 16);
		inode->nlink = get32(b + 24);
		inode->fragment = get32(b + 28);
		inode->tail_offset = get32(b + 32);
		inode->xattrs = get32(b + 36);
		return finish_file(sq, inode, at, err);
	case SQUASH_SYMLINK:
	case SQUASH_LSYMLINK:
		inode->nlink = get32(b);
		inode->size = get32(b + 4);
		return finish_symlink(inode, at, type == SQUASH_LSYMLINK, err);
	case SQUASH_BLKDEV:
	case SQUASH_CHRDEV:
	case SQUASH_LBLKDEV:
	case SQUASH_LCHRDEV:
		inode->nlink = get32(b);
		set_rdev(inode, get32(b + 4));
		if (type >= SQUASH_LDIR)
			inode->xattrs = get32(b + 8);
		return 0;
	case SQUASH_FIFO:
	case SQUASH_SOCKET:
	case SQUASH_LFIFO:
	case SQUASH_LSOCKET:
		inode->nlink = get32(b);
		if (type >= SQUASH_LDIR)
			inode->xattrs = get32(b + 4);
		return 0;
	}
	return -EUCLEAN;
}

int squash_stat(struct squash *sq, uint64_t ref, struct squash_inode *inode, struct err *err)
{
	struct meta_cursor cleanup_meta at = { 0 };
	uint8_t raw[SQUASH_INODE_HEADER + SQUASH_LREG_SIZE];
	uint64_t block = ref >> 16;
	unsigned type, uid, gid;
	size_t body;
	int rc;

	if (block >= sq->directory_table - sq->inode_table || (ref & 0xffff) >= SQUASH_META_SIZE)
		return squash_corrupt(err, "inode reference %" PRIx64 " is outside of the inode table", ref);
	meta_start(&at, sq, sq->inode_table + block, sq->directory_table, ref & 0xffff);
	rc = meta_read(&at, raw, SQUASH_INODE_HEADER, err);
	if (rc < 0)
		return rc;
	type = get16(raw);
	uid = get16(raw + 4);
	gid = get16(raw + 6);
	body = body_size(type);
	if (body == 0)
		return squash_corrupt(err, "the inode at %" PRIx64 " has the unknown type %u", ref, type);
	if (uid >= sq->ids || gid >= sq->ids)
		return squash_corrupt(err, "the inode at %" PRIx64 " has an owner outside of the id table", ref);
	*inode = (struct squash_inode) {
		.ref = ref,
		.mode = (get16(raw + 2) & 07777u) | type_mode(type),
		.uid = sq->id_table[uid],
		.gid = sq->id_table[gid],
		.mtime = get32(raw + 8),
		.ino = get32(raw + 12),
		.xattrs = SQUASH_NO_XATTR,
		.fragment = SQUASH_NO_FRAGMENT,
	};
	rc = meta_read(&at, raw, body, err);
	return rc < 0 ? rc : parse_body(sq, inode, type, raw, &at, err);
}

int squash_export(struct squash *sq, uint32_t ino, uint64_t *ref, struct err *err)
{
	uint8_t raw[8];
	int rc;

	if (sq->export_table == SQUASH_NOT_THERE)
		return fail(err, ENOTSUP, "read the image", "it has no export table");
	if (ino == 0 || ino > sq->inodes)
		return squash_corrupt(err, "there is no inode %" PRIu32, ino);
	rc = squash_pread(sq, sq->export_table + (ino - 1) / (SQUASH_META_SIZE / 8) * 8, raw, sizeof raw, err);
	if (rc == 0)
		rc = meta_table_entry(sq, get64(raw), ino - 1, 8, raw, err);
	if (rc == 0)
		*ref = get64(raw);
	return rc;
}

ssize_t squash_readlink(struct squash *sq, const struct squash_inode *link, char *buf, size_t cap, struct err *err)
{
	struct meta_cursor cleanup_meta at = { 0 };
	int rc;

	if (!S_ISLNK(link->mode))
		return fail(err, EINVAL, "read the image", "inode %" PRIu32 " is not a symbolic link", link->ino);
	if (link->size >= cap)
		return fail(err, ERANGE, "read the image", "the text of a symbolic link has %" PRIu64 " bytes", link->size);
	meta_start(&at, sq, link->list_pos, sq->directory_table, link->list_offset);
	rc = meta_read(&at, buf, link->size, err);
	if (rc < 0)
		return rc;
	if (memchr(buf, 0, link->size) != NULL)
		return squash_corrupt(err, "the symbolic link with inode %" PRIu32 " has a NUL in its text", link->ino);
	buf[link->size] = '\0';
	return (ssize_t)link->size;
}
