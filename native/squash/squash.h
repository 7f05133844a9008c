/* SquashFS 4.0, read from a byte range of a file: superblock, inodes, directories, file data, xattrs.
 *
 * Format: Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h of the Linux kernel describe it.
 * The image is hostile until checked: every position, count and length is bounded by the image's own size, every decompression by the size
 * of a block. What does not fit is -EUCLEAN; what cannot be read is -EIO. The file is only ever pread (a mapping of a file on a network
 * would answer with SIGBUS), and a file that has changed since squash_open() gives -EIO, never old and new content mixed.
 *
 * All functions are safe to call from many threads at once on one `struct squash`. Errors: negative errno, text in `err` (may be NULL).
 * Inodes are named by their reference (position in the inode table), which means the same in every process that opens the image. */
#ifndef TSRUN_SQUASH_H
#define TSRUN_SQUASH_H

#include "../util.h"

#include <sys/stat.h>
#include <sys/uio.h>

struct squash;
struct squash_cache;
struct squash_block;

#define SQUASH_NAME_MAX 256
#define SQUASH_SYMLINK_MAX 65535

/* For a process that does nothing but read images, before its first allocation of a block. */
void squash_reuse_memory(void);

/* Decoded and decompressed blocks of any number of images, at most about `limit` bytes of them beside what is in use. */
struct squash_cache *squash_cache_new(uint64_t limit);
void squash_cache_free(struct squash_cache *cache);
uint64_t squash_cache_bytes(struct squash_cache *cache);

/* Opens the file system at `offset` of `fd`; it must end within `size` bytes (0: the rest of the file). The descriptor stays the
 * caller's and must stay open; so must the cache. */
int WARN_UNUSED squash_open(struct squash **out, struct squash_cache *cache, int fd, uint64_t offset, uint64_t size, struct err *err);
void squash_close(struct squash *sq);
/* Bytes of all images in the cache it uses. */
uint64_t squash_cached(const struct squash *sq);
/* The same with its limit, how often something was found in it, and how often it had to be loaded. */
struct squash_cache_use {
	uint64_t bytes, limit, hits, loads;
};
struct squash_cache_use squash_cache_use(const struct squash *sq);
/* From now on `*pending` is how many reads of the file have not come back yet. */
void squash_count_reads(struct squash *sq, _Atomic uint32_t *pending);

/* What squash_open reads of the image beside blocks: a few short pieces. */
struct squash_area {
	uint64_t position;
	uint32_t length;
};
#define SQUASH_START_AREAS 3u
unsigned squash_start_areas(const struct squash *sq, struct squash_area areas[SQUASH_START_AREAS]);

struct squash_statfs {
	uint32_t block_size;
	uint32_t inodes;
	uint64_t bytes;
	bool has_xattrs;
	const char *compressor;
};
struct squash_statfs squash_statfs(const struct squash *sq);

struct squash_inode {
	uint64_t ref;
	uint64_t size;   /* bytes; of a symbolic link its text's length; of a directory its listing's */
	uint64_t sparse; /* bytes of the file that are holes, as the image's maker counted them */
	uint32_t ino;
	uint32_t mode; /* with the S_IF… type */
	uint32_t uid, gid;
	uint32_t nlink;
	uint32_t rdev_major, rdev_minor;
	int64_t mtime;
	uint32_t xattrs;     /* index of the xattr set, or UINT32_MAX */
	uint32_t parent_ino; /* directories only */
	/* Where the content is: for squash_read, squash_readlink and the directory calls only. */
	uint64_t start;
	uint32_t tail_offset;
	uint32_t fragment;
	uint64_t list_pos;
	uint32_t list_offset;
};

uint64_t squash_root(const struct squash *sq);
int WARN_UNUSED squash_stat(struct squash *sq, uint64_t ref, struct squash_inode *inode, struct err *err);
/* Inode number to reference, by the export table; -ENOTSUP when the image has none. */
int WARN_UNUSED squash_export(struct squash *sq, uint32_t ino, uint64_t *ref, struct err *err);

/* A directory's names, decoded, checked (no '/', NUL, "." or "..", none twice) and sorted by bytes; "." and ".." are not among them. */
struct squash_entry {
	uint64_t ref;
	uint32_t ino;
	uint32_t type; /* S_IF… */
	const char *name;
	size_t name_len;
};
struct squash_dir; /* holds a reference to the cached listing */
int WARN_UNUSED squash_dir_open(struct squash *sq, const struct squash_inode *dir, struct squash_dir **out, struct err *err);
void squash_dir_close(struct squash_dir *dir);
uint32_t squash_dir_count(const struct squash_dir *dir);
struct squash_entry squash_dir_at(const struct squash_dir *dir, uint32_t index);
/* -ENOENT when the name is not there. */
int WARN_UNUSED squash_lookup(struct squash *sq, const struct squash_inode *dir, const char *name, size_t len, uint64_t *ref, struct err *err);

/* Writes the text and a NUL to `buf` of `cap` bytes, returns the text's length; -ERANGE when it does not fit. */
ssize_t squash_readlink(struct squash *sq, const struct squash_inode *link, char *buf, size_t cap, struct err *err);

/* File content without a copy: pieces of cached blocks, held until squash_release or squash_give. Holes have no block and point to zeros. */
#define SQUASH_READ_MAX (1u << 20)
#define SQUASH_PIECES_MAX (SQUASH_READ_MAX / 4096 + 2)
struct squash_pieces {
	unsigned count;
	size_t bytes;
	struct iovec iov[SQUASH_PIECES_MAX];
	struct squash_block *held[SQUASH_PIECES_MAX]; /* NULL: a hole */
};
/* At most SQUASH_READ_MAX bytes at `offset`; fewer only at the end of the file. On error nothing is held. */
int WARN_UNUSED squash_read(struct squash *sq, const struct squash_inode *file, uint64_t offset, size_t len, struct squash_pieces *pieces,
	struct err *err);
void squash_release(struct squash *sq, struct squash_pieces *pieces);
/* The same when whoever asked keeps them, as the kernel does, and will not ask again soon: a block of which every byte was given is not kept here, too. Whether nothing was
 * given of the first block before. */
bool squash_give(struct squash *sq, struct squash_pieces *pieces);

/* For a file that is read in order, up to `offset` so far: tells the storage what will be wanted next, and decodes the block there into the cache. */
void squash_read_ahead(struct squash *sq, const struct squash_inode *file, uint64_t offset);

/* Reads and decompresses one block into the cache, unless it is there: a data or fragment block as the format describes it (length, bit 24: not compressed),
 * or a metadata block. What is wrong with it will be told to who asks for it. */
void squash_preload(struct squash *sq, uint64_t pos, uint32_t stored, bool is_meta);
/* The same of the block of a file that holds `offset`. */
void squash_preload_at(struct squash *sq, const struct squash_inode *file, uint64_t offset);
/* Forgets what is in the cache; from now on `loaded` is called for each block that is read: where it lies, and `stored` as for squash_preload; of metadata its length with the two bytes
 * before it. For programs of one thread. */
void squash_trace(struct squash *sq, void (*loaded)(void *ctx, uint64_t pos, uint32_t stored, bool is_meta), void *ctx);

/* Extended attributes, full names ("user.origin"). Both return the length, also when `cap` is 0; -ERANGE when it does not fit.
 * The list is names ended by NUL each. `wanted` (may be NULL) decides which names are listed. -ENODATA: no such attribute. */
ssize_t squash_listxattr(struct squash *sq, const struct squash_inode *inode, bool (*wanted)(const char *name), char *buf, size_t cap,
	struct err *err);
ssize_t squash_getxattr(struct squash *sq, const struct squash_inode *inode, const char *name, void *buf, size_t cap, struct err *err);

/* Follows `path` from the root, symbolic links too (the last one only if `follow`), always inside the image: ".." of the root is the root. */
int WARN_UNUSED squash_resolve(struct squash *sq, const char *path, bool follow, struct squash_inode *inode, struct err *err);

/* The path of a directory from the root, with a slash behind each name, and a NUL, to `buf` of `cap` bytes; its length; -ERANGE when it does not fit, -ENOTSUP without an export table. */
ssize_t squash_path(struct squash *sq, const struct squash_inode *dir, char *buf, size_t cap, struct err *err);

/* Every name below a directory, parents before children, sorted. Directories linked more than once, loops among them, are -EUCLEAN.
 * A visit that returns non-zero ends the walk with that value. `path` has no leading slash; it is empty for the start itself.
 * `leave` (may be NULL) is called for a directory after all that is in it. */
struct squash_walk {
	void *ctx;
	int (*visit)(void *ctx, const char *path, const char *name, const struct squash_inode *inode, struct err *err);
	int (*leave)(void *ctx, const char *path, const struct squash_inode *dir, struct err *err);
	unsigned depth;   /* levels below the start: 0 only the start, UINT_MAX everything (then -ENAMETOOLONG beyond SQUASH_DEPTH_MAX) */
	uint64_t entries; /* at most this many names, else -E2BIG; 0: 2^32 */
};
#define SQUASH_DEPTH_MAX 512
int WARN_UNUSED squash_walk(struct squash *sq, const struct squash_inode *start, const struct squash_walk *walk, struct err *err);

#endif
