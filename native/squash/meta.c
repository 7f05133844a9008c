/* Metadata: everything but file content lies in blocks of 8 KiB, each with a two-byte length before it, read as one stream. */
#include "internal.h"

#include <inttypes.h>

static int load_meta(void *ctx, struct squash_block *block, struct err *err)
{
	struct squash *sq = ctx;
	uint64_t pos = block->key.pos;
	uint8_t header[2];
	uint8_t unpacked[SQUASH_META_SIZE];
	size_t stored;
	ssize_t got;
	int rc = squash_pread(sq, pos, header, sizeof header, err);

	if (rc < 0)
		return rc;
	stored = get16(header) & (SQUASH_META_RAW - 1);
	/* Never zero, so following blocks always gets somewhere. */
	if (stored == 0 || stored > SQUASH_META_SIZE)
		return squash_corrupt(err, "metadata at %" PRIu64 " has an impossible length of %zu", pos, stored);
	got = squash_unpack(sq, pos + 2, stored, get16(header) & SQUASH_META_RAW, unpacked, sizeof unpacked, "metadata", err);
	if (got < 0)
		return (int)got;
	if (got == 0)
		return squash_corrupt(err, "metadata at %" PRIu64 " is empty", pos);
	block->data = malloc((size_t)got);
	if (block->data == NULL)
		return fail(err, ENOMEM, "read the image", "out of memory");
	memcpy(block->data, unpacked, (size_t)got);
	block->size = (size_t)got;
	block->next = pos + 2 + stored;
	if (sq->loaded != NULL)
		sq->loaded(sq->loaded_ctx, pos, 2 + (uint32_t)stored, true);
	return 0;
}

void meta_preload(struct squash *sq, uint64_t pos)
{
	struct squash_key key = { .pos = pos, .kind = KIND_META, .image = sq->id };
	struct squash_block *block;

	if (!cache_has(sq->cache, &key) && cache_get(sq->cache, &key, load_meta, sq, &block, NULL) == 0)
		cache_put(sq->cache, block);
}

void meta_start(struct meta_cursor *cursor, struct squash *sq, uint64_t pos, uint64_t end, uint32_t offset)
{
	*cursor = (struct meta_cursor) { .sq = sq, .pos = pos, .end = end, .offset = offset };
}

void meta_end(struct meta_cursor *cursor)
{
	if (cursor->block != NULL)
		cache_put(cursor->sq->cache, cursor->block);
	cursor->block = NULL;
}

static int hold_block(struct meta_cursor *cursor, struct err *err)
{
	struct squash_key key = { .pos = cursor->pos, .kind = KIND_META, .image = cursor->sq->id };

	if (cursor->pos >= cursor->end)
		return squash_corrupt(err, "metadata is wanted at %" PRIu64 ", behind its table's end at %" PRIu64, cursor->pos, cursor->end);
	return cache_get(cursor->sq->cache, &key, load_meta, cursor->sq, &cursor->block, err);
}

int meta_read(struct meta_cursor *cursor, void *buf, size_t len, struct err *err)
{
	uint8_t *out = buf;

	while (len > 0) {
		size_t take;

		if (cursor->block == NULL) {
			int rc = hold_block(cursor, err);
			if (rc < 0)
				return rc;
		}
		if (cursor->offset > cursor->block->size)
			return squash_corrupt(err, "offset %" PRIu32 " is outside of the metadata block at %" PRIu64, cursor->offset, cursor->pos);
		take = cursor->block->size - cursor->offset;
		if (take > len)
			take = len;
		if (out != NULL) {
			memcpy(out, cursor->block->data + cursor->offset, take);
			out += take;
		}
		len -= take;
		cursor->offset += (uint32_t)take;
		if (cursor->offset == cursor->block->size) {
			cursor->pos = cursor->block->next;
			cursor->offset = 0;
			meta_end(cursor);
		}
	}
	return 0;
}

int meta_table_entry(struct squash *sq, uint64_t block_pos, uint32_t index, uint32_t entry_size, void *entry, struct err *err)
{
	struct meta_cursor cleanup_meta at = { 0 };

	meta_start(&at, sq, block_pos, sq->bytes, index % (SQUASH_META_SIZE / entry_size) * entry_size);
	return meta_read(&at, entry, entry_size, err);
}
