/* File content: full blocks, holes, and the tail in a fragment block shared with other files. */
#include "internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>

static uint8_t zeros[SQUASH_BLOCK_MAX]; /* never written; not const, so that it takes no room in the program's file */

/* --- where the blocks are: the list of their stored sizes, cached in parts with positions summed up. --- */

#define PART_BLOCKS 2048u

struct block_list {
	uint64_t next_pos; /* where the list goes on: metadata cursor, and position of the next data block */
	uint64_t next_data;
	uint32_t next_offset;
	uint32_t count;
	struct {
		uint64_t pos;
		uint32_t stored; /* as in the image: length and SQUASH_DATA_RAW; 0: a hole */
	} blocks[];
};

static uint64_t block_count(const struct squash *sq, const struct squash_inode *file)
{
	uint64_t whole = file->size / sq->block_size;

	return whole + (file->fragment == SQUASH_NO_FRAGMENT && file->size % sq->block_size != 0);
}

struct list_load {
	struct squash *sq;
	uint64_t list_pos, data_pos;
	uint32_t list_offset, count;
};

static int load_list(void *ctx, struct squash_block *block, struct err *err)
{
	const struct list_load *load = ctx;
	struct meta_cursor cleanup_meta at = { 0 };
	uint8_t raw[1024];
	uint64_t data_pos = load->data_pos;
	struct block_list *list;

	block->size = sizeof *list + load->count * sizeof list->blocks[0];
	block->data = malloc(block->size);
	if (block->data == NULL)
		return fail(err, ENOMEM, "read the image", "out of memory");
	list = (struct block_list *)(void *)block->data;
	meta_start(&at, load->sq, load->list_pos, load->sq->directory_table, load->list_offset);
	for (uint32_t i = 0; i < load->count; i++) {
		uint32_t in_raw = i % (sizeof raw / 4);
		uint32_t stored;

		if (in_raw == 0) {
			size_t left = (load->count - i) * 4u;
			int rc = meta_read(&at, raw, left < sizeof raw ? left : sizeof raw, err);
			if (rc < 0)
				return rc;
		}
		stored = get32(raw + in_raw * 4);
		if (SQUASH_DATA_LEN(stored) > load->sq->block_size || stored >= SQUASH_DATA_RAW << 1)
			return squash_corrupt(err, "a data block claims a stored length of %" PRIx32, stored);
		list->blocks[i].pos = data_pos;
		list->blocks[i].stored = stored;
		if (add_overflows(data_pos, SQUASH_DATA_LEN(stored), &data_pos) || data_pos > load->sq->bytes)
			return squash_corrupt(err, "a file's data lies beyond the image's end");
	}
	list->count = load->count;
	list->next_pos = at.pos;
	list->next_offset = at.offset;
	list->next_data = data_pos;
	return 0;
}

static struct squash_key list_key(const struct squash *sq, const struct squash_inode *file, uint32_t part)
{
	return (struct squash_key) { .pos = file->ref, .part = part, .kind = KIND_BLOCK_LIST, .image = sq->id };
}

static const struct block_list *list_of(const struct squash_block *block)
{
	return (const struct block_list *)(const void *)block->data;
}

/* Holds part `part` of the block list. Each part is found through the one before it, so it starts from the last one still cached. */
static int get_list(struct squash *sq, const struct squash_inode *file, uint32_t part, struct squash_block **out, struct err *err)
{
	uint64_t blocks = block_count(sq, file);
	struct list_load load = { .sq = sq, .list_pos = file->list_pos, .list_offset = file->list_offset, .data_pos = file->start };
	struct squash_block *block = NULL;
	uint32_t at = part + 1;

	while (at > 0 && block == NULL) {
		struct squash_key key = list_key(sq, file, --at);

		block = cache_peek(sq->cache, &key);
	}
	if (block != NULL)
		at++;
	for (; at <= part; at++) {
		struct squash_key key = list_key(sq, file, at);
		uint64_t left = blocks - (uint64_t)at * PART_BLOCKS;
		int rc;

		if (block != NULL) {
			load.list_pos = list_of(block)->next_pos;
			load.list_offset = list_of(block)->next_offset;
			load.data_pos = list_of(block)->next_data;
			cache_put(sq->cache, block);
		}
		load.count = left < PART_BLOCKS ? (uint32_t)left : PART_BLOCKS;
		rc = cache_get(sq->cache, &key, load_list, &load, &block, err);
		if (rc < 0)
			return rc;
	}
	*out = block;
	return 0;
}

/* --- the blocks themselves --- */

struct data_load {
	struct squash *sq;
	uint32_t stored;
};

static int load_data(void *ctx, struct squash_block *block, struct err *err)
{
	const struct data_load *load = ctx;
	bool raw = load->stored & SQUASH_DATA_RAW;
	size_t stored = SQUASH_DATA_LEN(load->stored);
	size_t cap = raw ? stored : load->sq->block_size;
	uint8_t *data = malloc(cap > 0 ? cap : 1);
	ssize_t got;

	if (data == NULL)
		return fail(err, ENOMEM, "read the image", "out of memory");
	got = squash_unpack(load->sq, block->key.pos, stored, raw, data, cap, "data", err);
	if (got < 0) {
		free(data);
		return (int)got;
	}
	if ((size_t)got < cap / 2) { /* tails of files without a fragment: do not keep a whole block for each */
		uint8_t *smaller = realloc(data, got > 0 ? (size_t)got : 1);

		if (smaller != NULL)
			data = smaller;
	}
	block->data = data;
	block->size = (size_t)got;
	if (load->sq->loaded != NULL)
		load->sq->loaded(load->sq->loaded_ctx, block->key.pos, load->stored, false);
	return 0;
}

/* A block read with another length is another block: an image may lie, and must then not confuse other files' reads. */
static struct squash_key data_key(const struct squash *sq, uint64_t pos, uint32_t stored)
{
	return (struct squash_key) { .pos = pos, .part = stored, .kind = KIND_DATA, .image = sq->id };
}

static int get_data(struct squash *sq, uint64_t pos, uint32_t stored, struct squash_block **block, struct err *err)
{
	struct squash_key key = data_key(sq, pos, stored);
	struct data_load load = { sq, stored };

	if (SQUASH_DATA_LEN(stored) == 0 || SQUASH_DATA_LEN(stored) > sq->block_size || stored >= SQUASH_DATA_RAW << 1)
		return squash_corrupt(err, "a data block claims a stored length of %" PRIx32, stored);
	return cache_get(sq->cache, &key, load_data, &load, block, err);
}

static int find_fragment(struct squash *sq, uint32_t fragment, uint64_t *pos, uint32_t *stored, struct err *err)
{
	uint8_t raw[16];
	int rc;

	if (fragment >= sq->fragments)
		return squash_corrupt(err, "a file's tail is in fragment %" PRIu32 " of %" PRIu32, fragment, sq->fragments);
	rc = meta_table_entry(sq, sq->fragment_index[fragment / 512], fragment, sizeof raw, raw, err);
	*pos = get64(raw);
	*stored = get32(raw + 8);
	return rc;
}

static int get_fragment(struct squash *sq, uint32_t fragment, struct squash_block **block, struct err *err)
{
	uint64_t pos;
	uint32_t stored;
	int rc = find_fragment(sq, fragment, &pos, &stored, err);

	return rc < 0 ? rc : get_data(sq, pos, stored, block, err);
}

/* The block of a file that holds `offset`: `*block` NULL for a hole; `*skip` is where in the block it is. */
static int get_block_at(struct squash *sq, const struct squash_inode *file, uint64_t offset, struct squash_block **block, size_t *skip,
	struct err *err)
{
	uint64_t index = offset / sq->block_size;
	uint64_t left = file->size - index * sq->block_size;
	size_t expected = left < sq->block_size ? (size_t)left : sq->block_size;
	struct squash_block *list;
	uint64_t pos;
	uint32_t stored;
	int rc;

	*block = NULL;
	*skip = offset % sq->block_size;
	if (index >= block_count(sq, file)) {
		rc = get_fragment(sq, file->fragment, block, err);
		if (rc < 0)
			return rc;
		*skip += file->tail_offset;
		if (file->tail_offset > (*block)->size || (*block)->size - file->tail_offset < expected) {
			cache_put(sq->cache, *block);
			return squash_corrupt(err, "the tail of the file with inode %" PRIu32 " is outside of its fragment", file->ino);
		}
		return 0;
	}
	rc = get_list(sq, file, (uint32_t)(index / PART_BLOCKS), &list, err);
	if (rc < 0)
		return rc;
	pos = list_of(list)->blocks[index % PART_BLOCKS].pos;
	stored = list_of(list)->blocks[index % PART_BLOCKS].stored;
	cache_put(sq->cache, list);
	if (stored == 0)
		return 0;
	rc = get_data(sq, pos, stored, block, err);
	if (rc == 0 && (*block)->size != expected) {
		cache_put(sq->cache, *block);
		return squash_corrupt(err, "a data block at %" PRIu64 " has the wrong length", pos);
	}
	return rc;
}

int squash_read(struct squash *sq, const struct squash_inode *file, uint64_t offset, size_t len, struct squash_pieces *pieces, struct err *err)
{
	pieces->count = 0;
	pieces->bytes = 0;
	if (!S_ISREG(file->mode))
		return fail(err, S_ISDIR(file->mode) ? EISDIR : EINVAL, "read the image", "inode %" PRIu32 " is not a regular file", file->ino);
	if (offset >= file->size)
		return 0;
	if (len > SQUASH_READ_MAX)
		len = SQUASH_READ_MAX;
	if (len > file->size - offset)
		len = (size_t)(file->size - offset);
	while (pieces->bytes < len) {
		uint64_t at = offset + pieces->bytes;
		size_t take = sq->block_size - at % sq->block_size;
		struct squash_block *block;
		size_t skip;
		int rc = get_block_at(sq, file, at, &block, &skip, err);

		if (rc < 0) {
			squash_release(sq, pieces);
			return rc;
		}
		if (take > len - pieces->bytes)
			take = len - pieces->bytes;
		pieces->iov[pieces->count].iov_base = block != NULL ? block->data + skip : zeros;
		pieces->iov[pieces->count].iov_len = take;
		pieces->held[pieces->count++] = block;
		pieces->bytes += take;
	}
	return 0;
}

/* --- ahead of those who read in order --- */

#define ADVICE_BYTES (1u << 20) /* of the image, at a time: storage that answers late is asked early, and seldom */

static void load_ahead(struct squash *sq, uint64_t pos, uint32_t stored)
{
	struct squash_key key = data_key(sq, pos, stored);
	struct squash_block *block;

	if (!cache_has(sq->cache, &key) && get_data(sq, pos, stored, &block, NULL) == 0)
		cache_put(sq->cache, block);
}

static void advise(struct squash *sq, uint64_t pos)
{
	if (pos < sq->bytes)
		posix_fadvise(sq->fd, (off_t)(sq->offset + pos), ADVICE_BYTES, POSIX_FADV_WILLNEED);
}

/* Small files that are read in the order of the image: the next fragment is soon wanted, too. */
static void fragment_ahead(struct squash *sq, uint32_t fragment)
{
	uint32_t last = atomic_exchange(&sq->last_fragment, fragment);
	uint64_t pos;
	uint32_t stored;

	if (last + 1 == fragment && fragment + 1 < sq->fragments && find_fragment(sq, fragment + 1, &pos, &stored, NULL) == 0)
		load_ahead(sq, pos, stored);
}

void squash_preload(struct squash *sq, uint64_t pos, uint32_t stored, bool is_meta)
{
	if (is_meta)
		meta_preload(sq, pos);
	else
		load_ahead(sq, pos, stored);
}

void squash_preload_at(struct squash *sq, const struct squash_inode *file, uint64_t offset)
{
	struct squash_block *block;
	size_t skip;

	if (offset < file->size && get_block_at(sq, file, offset, &block, &skip, NULL) == 0 && block != NULL)
		cache_put(sq->cache, block);
}

void squash_read_ahead(struct squash *sq, const struct squash_inode *file, uint64_t offset)
{
	uint64_t index = offset / sq->block_size, advice = ADVICE_BYTES / sq->block_size;
	struct squash_block *list;
	uint64_t pos;
	uint32_t stored;

	if (index >= block_count(sq, file)) {
		if (file->fragment != SQUASH_NO_FRAGMENT && file->size > 0)
			fragment_ahead(sq, file->fragment);
		return;
	}
	if (get_list(sq, file, (uint32_t)(index / PART_BLOCKS), &list, NULL) < 0)
		return;
	pos = list_of(list)->blocks[index % PART_BLOCKS].pos;
	stored = list_of(list)->blocks[index % PART_BLOCKS].stored;
	cache_put(sq->cache, list);
	if (advice == 0 || index % advice == 0)
		advise(sq, pos);
	if (stored != 0)
		load_ahead(sq, pos, stored);
}

void squash_release(struct squash *sq, struct squash_pieces *pieces)
{
	for (unsigned i = 0; i < pieces->count; i++)
		if (pieces->held[i] != NULL)
			cache_put(sq->cache, pieces->held[i]);
	pieces->count = 0;
	pieces->bytes = 0;
}

bool squash_give(struct squash *sq, struct squash_pieces *pieces)
{
	bool is_first = false;

	for (unsigned i = 0; i < pieces->count; i++)
		if (pieces->held[i] != NULL && cache_put_given(sq->cache, pieces->held[i], pieces->iov[i].iov_len) && i == 0)
			is_first = true;
	pieces->count = 0;
	pieces->bytes = 0;
	return is_first;
}
