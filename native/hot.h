/* What a run touches of an image, and in which order: recorded by the image server, and kept in an optimized image as its hot list.
 *
 * Record (what `tsrun exec --record FILE` writes; integers are little-endian): HOT_RECORD_MAGIC, the image's SquashFS superblock (96 bytes), then a `struct
 * hot_touch` for each thing that was touched for the first time, in order. Kernel and server ask again for what they have dropped, so a touch may come twice.
 * Recordings of the same image can follow each other in one file.
 *
 * Hot list (a data object of a SIF, of type generic, named "tsrun-hot-list"): HOT_LIST_MAGIC, u32 version, u32 count, then `count` times a `struct hot_piece`:
 * which parts of the root file system's partition a run will want, in the order in which it wanted them when it was recorded. From version 2 on the asks follow: what that run
 * asked the kernel for, in that order; each a `struct hot_ask` and the path it is about. It is an advice that changes nothing but when something is read: a list that makes no
 * sense is not used.
 *
 * Both come from files that anybody may have written. */
#ifndef TSRUN_HOT_H
#define TSRUN_HOT_H

#include "util.h"

#include <stdatomic.h>
#include <sys/stat.h>

struct squash;

/* --- records --- */

#define HOT_RECORD_MAGIC "tsrun touches 1\n" /* 16 bytes */
#define HOT_SUPERBLOCK 96u

enum hot_touch_kind {
	HOT_INODE = 1,   /* its attributes, or a link's text */
	HOT_NAMES = 2,   /* a directory's names */
	HOT_ENTRIES = 3, /* … with the attributes of all that is in it */
	HOT_DATA = 4,    /* `length` bytes of a file at `offset` */
};

struct hot_touch {
	uint64_t offset;
	uint32_t length;
	uint32_t inode; /* number */
	uint32_t kind;
	uint32_t zero;
};

struct hot_record;
/* Goes on in the file `fd`, open for reading and appending, or begins it if it is empty. -EEXIST when it holds something else than a record of this
 * image (`fd` of which `image` is, at `offset`). The descriptor stays the caller's. */
int WARN_UNUSED hot_record_new(struct hot_record **out, int fd, int image, uint64_t offset, struct err *err);
/* From any thread; `record` may be NULL. What cannot be written is lost: the run goes on. */
void hot_record_touch(struct hot_record *record, enum hot_touch_kind kind, uint32_t inode, uint64_t offset, uint32_t length);

/* --- lists --- */

#define HOT_LIST_MAGIC "tsrunhot" /* 8 bytes */
#define HOT_LIST_VERSION 2u
#define HOT_LIST_HEADER 16u
#define HOT_PIECES_MAX 65536u
#define HOT_ASKS_MAX (4u << 20) /* bytes */
#define HOT_LIST_MAX (HOT_LIST_HEADER + HOT_PIECES_MAX * sizeof(struct hot_piece) + HOT_ASKS_MAX)

enum hot_piece_kind {
	HOT_PIECE_PLAIN = 0, /* `stored` bytes, for whoever opens the image */
	HOT_PIECE_META = 1,  /* a metadata block with its two bytes of length: `stored` bytes in all */
	HOT_PIECE_DATA = 2,  /* a data or fragment block, `stored` as the format has it: length, and bit 24 for one that is not compressed */
};

struct hot_piece {
	uint64_t position; /* in the partition */
	uint32_t stored;
	uint32_t kind;
};
uint32_t hot_piece_length(const struct hot_piece *piece);

struct hot_ask {
	uint64_t offset;
	uint32_t length;
	uint16_t kind;     /* enum hot_touch_kind, without HOT_NAMES */
	uint16_t path_len; /* of the path that follows, from the root, without a slash before it; 0: the ask is about the same file as the one before */
};

struct hot_list {
	uint32_t count;
	struct hot_piece *pieces; /* malloc */
	const char *asks;         /* behind them; not checked */
	size_t asks_size;
};
/* Reads the list in bytes [offset, offset+size) of `fd`, for a partition of `partition` bytes. -EUCLEAN for anything that is not exactly a list. */
int WARN_UNUSED hot_list_read(struct hot_list *list, int fd, uint64_t offset, uint64_t size, uint64_t partition, struct err *err);
void hot_list_free(struct hot_list *list);

/* Tells the storage that all of it, in the partition at `offset` of `fd`, will be wanted: few large pieces in ascending order, the metadata first. At most about
 * `limit` bytes. Does not wait. */
void hot_list_advise(const struct hot_list *list, int fd, uint64_t offset, uint64_t limit);
/* Reads and decompresses it in order into the image's cache, until that is nearly full, and hands its asks to `fetcher` (fetch.h; -1: nobody), until they are of `limit` bytes; with threads
 * of its own, until the list has ended or `*unused` is set. Takes the list. Without memory for that, nothing happens. */
void hot_list_load(struct hot_list *list, struct squash *squash, int fetcher, uint64_t limit, const _Atomic bool *unused);
/* The second part of that, by the caller. */
void hot_list_ask(const struct hot_list *list, int fetcher, uint64_t limit, const _Atomic bool *unused);

#endif
