/* gzip (zlib format), zstd, xz and lz4, one block at a time, never more output than asked for. */
#include "internal.h"

#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

/* A block's dictionary is at most the block; xz's own tables come on top. */
#define XZ_MEMORY_LIMIT (64u << 20)

struct squash_decoder {
	struct squash_decoder *next;
	unsigned compressor;
	ZSTD_DCtx *zstd;
	z_stream zlib;
	bool zlib_ready;
	uint8_t *scratch;
};

const char *decoder_name(unsigned compressor)
{
	static const char *const names[] = { "unknown", "gzip", "lzma", "lzo", "xz", "lz4", "zstd" };

	return compressor < ARRAY_LEN(names) ? names[compressor] : names[0];
}

bool decoder_supported(unsigned compressor)
{
	return compressor == SQUASH_GZIP || compressor == SQUASH_XZ || compressor == SQUASH_LZ4 || compressor == SQUASH_ZSTD;
}

struct squash_decoder *decoder_new(unsigned compressor, size_t scratch)
{
	struct squash_decoder *d = calloc(1, sizeof *d);

	if (d == NULL)
		return NULL;
	d->compressor = compressor;
	d->scratch = malloc(scratch);
	if (compressor == SQUASH_ZSTD)
		d->zstd = ZSTD_createDCtx();
	else if (compressor == SQUASH_GZIP)
		d->zlib_ready = inflateInit(&d->zlib) == Z_OK;
	if (d->scratch == NULL || (compressor == SQUASH_ZSTD && d->zstd == NULL) || (compressor == SQUASH_GZIP && !d->zlib_ready)) {
		decoder_free(d);
		return NULL;
	}
	return d;
}

void decoder_free(struct squash_decoder *d)
{
	if (d == NULL)
		return;
	ZSTD_freeDCtx(d->zstd);
	if (d->zlib_ready)
		inflateEnd(&d->zlib);
	free(d->scratch);
	free(d);
}

uint8_t *decoder_scratch(struct squash_decoder *d)
{
	return d->scratch;
}

void decoder_push(struct squash_decoder **list, struct squash_decoder *d)
{
	d->next = *list;
	*list = d;
}

struct squash_decoder *decoder_pop(struct squash_decoder **list)
{
	struct squash_decoder *d = *list;

	if (d != NULL)
		*list = d->next;
	return d;
}

static ssize_t run_zlib(struct squash_decoder *d, size_t in_len, uint8_t *out, size_t cap)
{
	z_stream *z = &d->zlib;

	if (inflateReset(z) != Z_OK)
		return -EUCLEAN;
	z->next_in = d->scratch;
	z->avail_in = (uInt)in_len;
	z->next_out = out;
	z->avail_out = (uInt)cap;
	return inflate(z, Z_FINISH) == Z_STREAM_END ? (ssize_t)z->total_out : -EUCLEAN;
}

static ssize_t run_zstd(struct squash_decoder *d, size_t in_len, uint8_t *out, size_t cap)
{
	size_t got = ZSTD_decompressDCtx(d->zstd, out, cap, d->scratch, in_len);

	return ZSTD_isError(got) ? -EUCLEAN : (ssize_t)got;
}

static ssize_t run_xz(struct squash_decoder *d, size_t in_len, uint8_t *out, size_t cap)
{
	uint64_t memory = XZ_MEMORY_LIMIT;
	size_t in_at = 0, out_at = 0;
	lzma_ret rc = lzma_stream_buffer_decode(&memory, 0, NULL, d->scratch, &in_at, in_len, out, &out_at, cap);

	if (rc == LZMA_MEM_ERROR)
		return -ENOMEM;
	return rc == LZMA_OK ? (ssize_t)out_at : -EUCLEAN;
}

static ssize_t run_lz4(struct squash_decoder *d, size_t in_len, uint8_t *out, size_t cap)
{
	int got = LZ4_decompress_safe((const char *)d->scratch, (char *)out, (int)in_len, (int)cap);

	return got < 0 ? -EUCLEAN : got;
}

ssize_t decoder_run(struct squash_decoder *d, size_t in_len, uint8_t *out, size_t cap)
{
	switch (d->compressor) {
	case SQUASH_GZIP:
		return run_zlib(d, in_len, out, cap);
	case SQUASH_ZSTD:
		return run_zstd(d, in_len, out, cap);
	case SQUASH_XZ:
		return run_xz(d, in_len, out, cap);
	case SQUASH_LZ4:
		return run_lz4(d, in_len, out, cap);
	default:
		return -ENOTSUP;
	}
}
