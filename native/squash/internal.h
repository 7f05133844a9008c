/* What the files of this folder share: the block cache, the decompressors, the opened image, the metadata reader. */
#ifndef TSRUN_SQUASH_INTERNAL_H
#define TSRUN_SQUASH_INTERNAL_H

#include "format.h"
#include "squash.h"

#include <pthread.h>

/* --- cache.c: things computed once, by key; the first to ask computes, the others wait for it. --- */

enum squash_kind { KIND_META, KIND_DATA, KIND_DIR, KIND_BLOCK_LIST };

struct squash_key {
	uint64_t pos;  /* position in the image, or inode reference */
	uint32_t part; /* which part of a thing that comes in parts */
	uint32_t kind;
	uint64_t image;
};

struct squash_block {
	struct squash_key key;
	struct squash_block *chain;        /* same hash */
	struct squash_block *newer, *older; /* by last use; only when ready and in the table */
	unsigned refs;
	enum { BLOCK_LOADING, BLOCK_READY, BLOCK_FAILED } state;
	bool in_table;
	struct err *failure;
	/* Filled by the loader. */
	uint8_t *data; /* malloc */
	size_t size;
	size_t given; /* bytes that somebody else keeps by now */
	uint64_t next; /* KIND_META: position of the next metadata block */
};

typedef int (*squash_loader)(void *ctx, struct squash_block *block, struct err *err);
int WARN_UNUSED cache_get(struct squash_cache *cache, const struct squash_key *key, squash_loader load, void *ctx, struct squash_block **out,
	struct err *err);
/* The block if it is there and ready, else NULL. */
struct squash_block *cache_peek(struct squash_cache *cache, const struct squash_key *key);
/* Whether the block is there, or being loaded. */
bool cache_has(struct squash_cache *cache, const struct squash_key *key);
void cache_put(struct squash_cache *cache, struct squash_block *block);
/* The same of a block of which `bytes` more will not be asked for again, since the asker keeps them: with its last one it goes. Whether these were the first. */
bool cache_put_given(struct squash_cache *cache, struct squash_block *block, size_t bytes);
struct squash_cache_use cache_use(struct squash_cache *cache);
/* Forgets an image's blocks; none may be in use. */
void cache_purge(struct squash_cache *cache, uint64_t image);

/* --- decompress.c --- */

struct squash_decoder;
const char *decoder_name(unsigned compressor);
bool decoder_supported(unsigned compressor);
/* A decoder has a scratch buffer of `scratch` bytes for compressed input. */
struct squash_decoder *decoder_new(unsigned compressor, size_t scratch);
void decoder_free(struct squash_decoder *decoder);
/* A list of idle ones; pop gives NULL when there is none. */
void decoder_push(struct squash_decoder **list, struct squash_decoder *decoder);
struct squash_decoder *decoder_pop(struct squash_decoder **list);
uint8_t *decoder_scratch(struct squash_decoder *decoder);
/* Decompresses exactly one block from the scratch buffer into `out`, at most `cap` bytes; returns the length or -EUCLEAN. */
ssize_t decoder_run(struct squash_decoder *decoder, size_t in_len, uint8_t *out, size_t cap);

/* --- super.c --- */

struct squash {
	struct squash_cache *cache;
	uint64_t id; /* tells images apart in the cache */
	int fd;
	uint64_t offset;
	struct stat opened; /* the file as it was at squash_open */
	_Atomic uint32_t last_fragment; /* that was asked for */
	void (*loaded)(void *ctx, uint64_t pos, uint32_t stored, bool is_meta); /* see squash_trace(); or NULL */
	void *loaded_ctx;
	_Atomic uint32_t *pending; /* where reads that have not come back are counted, or NULL */

	uint32_t inodes, block_size, fragments;
	uint16_t compressor, ids, flags;
	uint64_t root, bytes;
	uint64_t inode_table, directory_table, fragment_table, export_table;
	uint64_t xattr_table, xattr_index;
	uint32_t xattr_sets;
	uint32_t *id_table;
	uint64_t *fragment_index;

	pthread_mutex_t decoders_lock;
	struct squash_decoder *decoders; /* idle ones */
};

/* Reads image bytes [pos, pos+len); -EUCLEAN beyond the image's end, -EIO when the file cannot be read or has changed. */
int WARN_UNUSED squash_pread(struct squash *sq, uint64_t pos, void *buf, size_t len, struct err *err);
/* Reads a compressed block of `stored` bytes at `pos` into `out`; returns its length, at most `cap`. */
ssize_t squash_unpack(struct squash *sq, uint64_t pos, size_t stored, bool raw, uint8_t *out, size_t cap, const char *what, struct err *err);
int PRINTF_LIKE(2, 3) squash_corrupt(struct err *err, const char *format, ...);

/* --- meta.c: a stream of bytes over consecutive metadata blocks. --- */

struct meta_cursor {
	struct squash *sq;
	uint64_t pos; /* of the block, in the image */
	uint64_t end; /* blocks start before this */
	uint32_t offset;
	struct squash_block *block; /* of `pos`, or NULL */
};
void meta_start(struct meta_cursor *cursor, struct squash *sq, uint64_t pos, uint64_t end, uint32_t offset);
/* `buf` NULL skips. */
int WARN_UNUSED meta_read(struct meta_cursor *cursor, void *buf, size_t len, struct err *err);
void meta_end(struct meta_cursor *cursor);
/* Into the cache, if it is not there. */
void meta_preload(struct squash *sq, uint64_t pos);
#define cleanup_meta __attribute__((cleanup(meta_end)))
/* Entry `index` of `entry_size` bytes of a table whose metadata blocks are pointed to by `block_pos`. */
int WARN_UNUSED meta_table_entry(struct squash *sq, uint64_t block_pos, uint32_t index, uint32_t entry_size, void *entry, struct err *err);

#endif
