/* Opening an image: the superblock and the tables that are kept in memory; reading and unpacking its blocks. */
#include "internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#define READING "read the image"

int squash_corrupt(struct err *err, const char *format, ...)
{
	if (err != NULL) {
		va_list args;
		err->errnum = EUCLEAN;
		snprintf(err->step, sizeof err->step, "%s", READING);
		va_start(args, format);
		vsnprintf(err->detail, sizeof err->detail, format, args);
		va_end(args);
	}
	return -EUCLEAN;
}

/* Renaming over the image or linking it changes its ctime, so that says nothing about the content; size and mtime do. */
static bool has_changed(const struct squash *sq)
{
	struct stat now;

	if (fstat(sq->fd, &now) < 0)
		return true;
	return now.st_size != sq->opened.st_size || now.st_mtim.tv_sec != sq->opened.st_mtim.tv_sec
		|| now.st_mtim.tv_nsec != sq->opened.st_mtim.tv_nsec;
}

static ssize_t counted_pread(struct squash *sq, void *buf, size_t len, uint64_t pos)
{
	ssize_t got;

	if (sq->pending == NULL)
		return RETRY(pread(sq->fd, buf, len, (off_t)pos));
	atomic_fetch_add(sq->pending, 1);
	got = RETRY(pread(sq->fd, buf, len, (off_t)pos));
	atomic_fetch_sub(sq->pending, 1);
	return got;
}

int squash_pread(struct squash *sq, uint64_t pos, void *buf, size_t len, struct err *err)
{
	char *at = buf;
	uint64_t end;

	if (add_overflows(pos, len, &end) || end > sq->bytes)
		return squash_corrupt(err, "bytes %" PRIu64 "+%zu are wanted, but the image ends at %" PRIu64, pos, len, sq->bytes);
	while (len > 0) {
		ssize_t got = counted_pread(sq, at, len, sq->offset + pos);

		if (got < 0)
			return fail(err, errno, READING, "reading %zu bytes at %" PRIu64 " failed", len, pos);
		if (got == 0)
			return fail(err, EIO, READING, "the file was truncated while in use (nothing at %" PRIu64 ")", sq->offset + pos);
		at += got;
		pos += (uint64_t)got;
		len -= (size_t)got;
	}
	if (has_changed(sq))
		return fail(err, EIO, READING, "the file was changed in place while in use");
	return 0;
}

static struct squash_decoder *take_decoder(struct squash *sq)
{
	struct squash_decoder *decoder;
	size_t scratch = sq->block_size > SQUASH_META_RAW ? sq->block_size : SQUASH_META_RAW;

	pthread_mutex_lock(&sq->decoders_lock);
	decoder = decoder_pop(&sq->decoders);
	pthread_mutex_unlock(&sq->decoders_lock);
	return decoder != NULL ? decoder : decoder_new(sq->compressor, scratch);
}

static void give_decoder(struct squash *sq, struct squash_decoder *decoder)
{
	pthread_mutex_lock(&sq->decoders_lock);
	decoder_push(&sq->decoders, decoder);
	pthread_mutex_unlock(&sq->decoders_lock);
}

ssize_t squash_unpack(struct squash *sq, uint64_t pos, size_t stored, bool raw, uint8_t *out, size_t cap, const char *what, struct err *err)
{
	struct squash_decoder *decoder;
	ssize_t got;
	int rc;

	if (raw) {
		if (stored > cap)
			return squash_corrupt(err, "%s at %" PRIu64 " is larger than a block", what, pos);
		rc = squash_pread(sq, pos, out, stored, err);
		return rc < 0 ? rc : (ssize_t)stored;
	}
	/* A block that does not shrink is stored as it is. */
	if (stored > cap)
		return squash_corrupt(err, "%s at %" PRIu64 " is larger compressed than a block", what, pos);
	decoder = take_decoder(sq);
	if (decoder == NULL)
		return fail(err, ENOMEM, READING, "out of memory");
	got = squash_pread(sq, pos, decoder_scratch(decoder), stored, err);
	if (got == 0) {
		got = decoder_run(decoder, stored, out, cap);
		if (got == -ENOMEM)
			fail(err, ENOMEM, READING, "out of memory");
		else if (got < 0)
			squash_corrupt(err, "%s at %" PRIu64 " does not decompress (%s)", what, pos, decoder_name(sq->compressor));
	}
	give_decoder(sq, decoder);
	return got;
}

static int parse_super(struct squash *sq, const uint8_t *sb, uint64_t available, struct err *err)
{
	uint32_t magic = get32(sb);
	uint16_t log = get16(sb + 22);

	if (magic == __builtin_bswap32(SQUASH_MAGIC))
		return fail(err, ENOTSUP, READING, "it is a big-endian SquashFS (version 3 or older); make it again with mksquashfs 4");
	if (magic != SQUASH_MAGIC)
		return squash_corrupt(err, "there is no SquashFS at offset %" PRIu64 " (magic %08" PRIx32 ")", sq->offset, magic);
	if (get16(sb + 28) != 4 || get16(sb + 30) != 0)
		return fail(err, ENOTSUP, READING, "SquashFS version %u.%u is not 4.0", get16(sb + 28), get16(sb + 30));
	sq->inodes = get32(sb + 4);
	sq->block_size = get32(sb + 12);
	sq->fragments = get32(sb + 16);
	sq->compressor = get16(sb + 20);
	sq->flags = get16(sb + 24);
	sq->ids = get16(sb + 26);
	sq->root = get64(sb + 32);
	sq->bytes = get64(sb + 40);
	sq->inode_table = get64(sb + 64);
	sq->directory_table = get64(sb + 72);
	sq->fragment_table = get64(sb + 80);
	sq->export_table = get64(sb + 88);
	sq->xattr_index = get64(sb + 56);
	if (!decoder_supported(sq->compressor))
		return fail(err, ENOTSUP, READING, "it is compressed with %s (compressor %u), which is not supported; gzip, zstd, xz and lz4 are",
			decoder_name(sq->compressor), sq->compressor);
	if (sq->block_size < SQUASH_BLOCK_MIN || sq->block_size > SQUASH_BLOCK_MAX || log > 20 || sq->block_size != 1u << log)
		return squash_corrupt(err, "block size %" PRIu32 " (log %u) is impossible", sq->block_size, log);
	if (sq->bytes < SQUASH_SUPER_SIZE)
		return squash_corrupt(err, "the superblock says the image has %" PRIu64 " bytes", sq->bytes);
	if (sq->bytes > available)
		return squash_corrupt(err, "it is truncated: %" PRIu64 " of %" PRIu64 " bytes are there", available, sq->bytes);
	if (sq->inode_table < SQUASH_SUPER_SIZE || sq->inode_table >= sq->directory_table || sq->directory_table >= sq->bytes)
		return squash_corrupt(err, "the inode and directory tables are out of place");
	return 0;
}

static int load_ids(struct squash *sq, uint64_t table, struct err *err)
{
	if (sq->ids == 0)
		return squash_corrupt(err, "the id table is empty");
	sq->id_table = calloc(sq->ids, sizeof *sq->id_table);
	if (sq->id_table == NULL)
		return fail(err, ENOMEM, READING, "out of memory");
	for (uint32_t first = 0; first < sq->ids; first += SQUASH_META_SIZE / 4) {
		struct meta_cursor cleanup_meta at = { 0 };
		uint8_t raw[SQUASH_META_SIZE];
		uint32_t count = sq->ids - first < SQUASH_META_SIZE / 4 ? sq->ids - first : SQUASH_META_SIZE / 4;
		int rc = squash_pread(sq, table + first / (SQUASH_META_SIZE / 4) * 8, raw, 8, err);

		if (rc < 0)
			return rc;
		meta_start(&at, sq, get64(raw), sq->bytes, 0);
		rc = meta_read(&at, raw, count * 4, err);
		if (rc < 0)
			return rc;
		for (uint32_t i = 0; i < count; i++)
			sq->id_table[first + i] = get32(raw + i * 4);
	}
	return 0;
}

/* The positions of the fragment table's metadata blocks, 512 fragments each. */
static int load_fragment_index(struct squash *sq, struct err *err)
{
	size_t blocks = ((size_t)sq->fragments + 511) / 512;
	int rc;

	if (sq->fragments == 0 || sq->fragment_table == SQUASH_NOT_THERE) {
		sq->fragments = 0;
		return 0;
	}
	if (sq->fragment_table > sq->bytes || blocks * 8 > sq->bytes - sq->fragment_table)
		return squash_corrupt(err, "the table of %" PRIu32 " fragments lies beyond the image's end", sq->fragments);
	sq->fragment_index = calloc(blocks, 8);
	if (sq->fragment_index == NULL)
		return fail(err, ENOMEM, READING, "out of memory");
	rc = squash_pread(sq, sq->fragment_table, sq->fragment_index, blocks * 8, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < blocks; i++)
		sq->fragment_index[i] = get64(&sq->fragment_index[i]);
	return 0;
}

static int load_xattr_header(struct squash *sq, struct err *err)
{
	uint8_t raw[16];
	int rc;

	if (sq->xattr_index == SQUASH_NOT_THERE)
		return 0;
	rc = squash_pread(sq, sq->xattr_index, raw, sizeof raw, err);
	if (rc < 0)
		return rc;
	sq->xattr_table = get64(raw);
	sq->xattr_sets = get32(raw + 8);
	if (sq->xattr_table >= sq->xattr_index || ((uint64_t)sq->xattr_sets + 511) / 512 * 8 > sq->bytes - sq->xattr_index - sizeof raw)
		return squash_corrupt(err, "the table of %" PRIu32 " xattr sets lies beyond the image's end", sq->xattr_sets);
	return 0;
}

static int load_super(struct squash *sq, uint64_t size, struct err *err)
{
	uint8_t sb[SQUASH_SUPER_SIZE];
	uint64_t file_size;
	int rc;

	if (fstat(sq->fd, &sq->opened) < 0)
		return fail(err, errno, READING, "fstat failed");
	if (!S_ISREG(sq->opened.st_mode))
		return fail(err, EINVAL, READING, "it is not a regular file");
	file_size = (uint64_t)sq->opened.st_size;
	if (sq->offset > file_size || file_size - sq->offset < SQUASH_SUPER_SIZE)
		return squash_corrupt(err, "the file of %" PRIu64 " bytes is too short for a SquashFS at %" PRIu64, file_size, sq->offset);
	if (size == 0 || size > file_size - sq->offset)
		size = file_size - sq->offset;
	sq->bytes = SQUASH_SUPER_SIZE;
	rc = squash_pread(sq, 0, sb, sizeof sb, err);
	if (rc == 0)
		rc = parse_super(sq, sb, size, err);
	if (rc == 0)
		rc = load_ids(sq, get64(sb + 48), err);
	if (rc == 0)
		rc = load_fragment_index(sq, err);
	if (rc == 0)
		rc = load_xattr_header(sq, err);
	return rc;
}

static int check_root(struct squash *sq, struct err *err)
{
	struct squash_inode root;
	int rc = squash_stat(sq, sq->root, &root, err);

	if (rc == 0 && !S_ISDIR(root.mode))
		rc = squash_corrupt(err, "the root is not a directory");
	return rc;
}

int squash_open(struct squash **out, struct squash_cache *cache, int fd, uint64_t offset, uint64_t size, struct err *err)
{
	static _Atomic uint64_t next_id = 1;
	struct squash *sq = calloc(1, sizeof *sq);
	int rc;

	if (sq == NULL)
		return fail(err, ENOMEM, READING, "out of memory");
	pthread_mutex_init(&sq->decoders_lock, NULL);
	sq->cache = cache;
	sq->id = atomic_fetch_add(&next_id, 1);
	sq->fd = fd;
	sq->offset = offset;
	rc = load_super(sq, size, err);
	if (rc == 0)
		rc = check_root(sq, err);
	if (rc < 0) {
		squash_close(sq);
		return rc;
	}
	*out = sq;
	return 0;
}

uint64_t squash_cached(const struct squash *sq)
{
	return squash_cache_bytes(sq->cache);
}

struct squash_cache_use squash_cache_use(const struct squash *sq)
{
	return cache_use(sq->cache);
}

void squash_count_reads(struct squash *sq, _Atomic uint32_t *pending)
{
	sq->pending = pending;
}

unsigned squash_start_areas(const struct squash *sq, struct squash_area areas[SQUASH_START_AREAS])
{
	const uint32_t end = 16384; /* where ids' and xattrs' tables are, which have no fixed place */
	unsigned count = 0;

	areas[count++] = (struct squash_area) { 0, SQUASH_SUPER_SIZE };
	if (sq->fragments > 0)
		areas[count++] = (struct squash_area) { sq->fragment_table, (sq->fragments + 511) / 512 * 8 };
	if (sq->bytes > end + SQUASH_SUPER_SIZE)
		areas[count++] = (struct squash_area) { sq->bytes - end, end };
	return count;
}

void squash_trace(struct squash *sq, void (*loaded)(void *ctx, uint64_t pos, uint32_t stored, bool is_meta), void *ctx)
{
	cache_purge(sq->cache, sq->id);
	sq->loaded = loaded;
	sq->loaded_ctx = ctx;
}

void squash_close(struct squash *sq)
{
	if (sq == NULL)
		return;
	cache_purge(sq->cache, sq->id);
	for (struct squash_decoder *decoder; (decoder = decoder_pop(&sq->decoders)) != NULL;)
		decoder_free(decoder);
	pthread_mutex_destroy(&sq->decoders_lock);
	free(sq->id_table);
	free(sq->fragment_index);
	free(sq);
}

struct squash_statfs squash_statfs(const struct squash *sq)
{
	return (struct squash_statfs) {
		.block_size = sq->block_size,
		.inodes = sq->inodes,
		.bytes = sq->bytes,
		.has_xattrs = sq->xattr_sets > 0,
		.compressor = decoder_name(sq->compressor),
	};
}

uint64_t squash_root(const struct squash *sq)
{
	return sq->root;
}
