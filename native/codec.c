#include "codec.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

#define METADATA_BYTES 8192u
#define MIN_BLOCK 4096u
#define MAX_BLOCK (1u << 20)
/* xz -9 needs 65 MiB to decode. */
#define UNXZ_MEMORY (256ull << 20)

/* Returns the compressed length, 0 when it would not be below `len`, or -errno. `out` has room for `len` bytes. */
typedef int64_t compress_fn(const uint8_t *block, size_t len, uint8_t *out, size_t block_size);

static int64_t compress_xz(const uint8_t *block, size_t len, uint8_t *out, size_t block_size)
{
	/* The kernel decodes with a dictionary of the block size and knows no check but CRC32. */
	lzma_options_lzma options;
	lzma_filter filters[] = {{.id = LZMA_FILTER_LZMA2, .options = &options}, {.id = LZMA_VLI_UNKNOWN}};
	size_t used = 0;
	lzma_ret ret;

	if (lzma_lzma_preset(&options, LZMA_PRESET_DEFAULT))
		return -EINVAL;
	options.dict_size = (uint32_t)block_size;
	ret = lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, block, len, out, &used, len - 1);
	if (ret == LZMA_OK)
		return (int64_t)used;
	return ret == LZMA_BUF_ERROR ? 0 : ret == LZMA_MEM_ERROR ? -ENOMEM : -EINVAL;
}

static int64_t compress_lz4(const uint8_t *block, size_t len, uint8_t *out, size_t block_size UNUSED)
{
	return LZ4_compress_default((const char *)block, (char *)out, (int)len, (int)len - 1);
}

static compress_fn *find_codec(const char *name)
{
	return strcmp(name, "xz") == 0 ? compress_xz : strcmp(name, "lz4") == 0 ? compress_lz4 : NULL;
}

/* 0, or an unusable size. */
static size_t parse_block_size(const char *text)
{
	char *end;
	unsigned long size = strtoul(text, &end, 10);

	if (*end != '\0' || size < MIN_BLOCK || size > MAX_BLOCK || (size & (size - 1)) != 0)
		return 0;
	return size < METADATA_BYTES ? METADATA_BYTES : size;
}

/* Only an end between two blocks is the end. */
static int read_length(uint32_t *len)
{
	uint8_t bytes[4];
	ssize_t got = RETRY(read(STDIN_FILENO, bytes, sizeof bytes));
	int ret;

	if (got <= 0)
		return got == 0 ? 0 : -errno;
	ret = read_full(STDIN_FILENO, bytes + got, sizeof bytes - (size_t)got);
	if (ret < 0)
		return ret;
	*len = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
	return 1;
}

static int serve(compress_fn *compress, size_t block_size, struct err *err)
{
	cleanup_free uint8_t *block = malloc(block_size), *answer = malloc(4 + block_size);
	uint32_t len = 0;
	int ret;

	if (block == NULL || answer == NULL)
		return fail(err, ENOMEM, "compress blocks", "2 buffers of %zu bytes", block_size);
	while ((ret = read_length(&len)) > 0) {
		int64_t shorter;

		if (len == 0 || len > block_size)
			return fail(err, EINVAL, "read a block", "its length is %u, not 1 to %zu", len, block_size);
		ret = read_full(STDIN_FILENO, block, len);
		if (ret < 0)
			return fail(err, -ret, "read a block", "the input ends within %u bytes", len);
		shorter = compress(block, len, answer + 4, block_size);
		if (shorter < 0)
			return fail(err, (int)-shorter, "compress a block", "%u bytes", len);
		for (int i = 0; i < 4; i++)
			answer[i] = (uint8_t)((uint64_t)shorter >> (8 * i));
		ret = write_full(STDOUT_FILENO, answer, 4 + (size_t)shorter);
		if (ret < 0)
			return fail(err, -ret, "answer", "%d bytes", (int)shorter);
	}
	return ret == 0 ? 0 : fail(err, -ret, "read a block", "no length");
}

static const char *describe(lzma_ret ret)
{
	switch (ret) {
	case LZMA_MEMLIMIT_ERROR:
		return "it needs more memory than this";
	case LZMA_FORMAT_ERROR:
		return "it is no xz file";
	case LZMA_BUF_ERROR:
		return "it is cut off";
	default:
		return "it is damaged";
	}
}

/* Several streams behind each other are one file, as xz has it. */
static int unxz(int fd, lzma_stream *stream, struct err *err)
{
	static uint8_t in[65536], out[262144];
	lzma_action action = LZMA_RUN;
	lzma_ret ret = lzma_stream_decoder(stream, UNXZ_MEMORY, LZMA_CONCATENATED);

	if (ret != LZMA_OK)
		return fail(err, ENOMEM, "decode", "no decoder");
	while (ret != LZMA_STREAM_END) {
		if (stream->avail_in == 0 && action == LZMA_RUN) {
			ssize_t got = RETRY(read(fd, in, sizeof in));

			if (got < 0)
				return fail(err, errno, "read the file", "xz data");
			stream->next_in = in;
			stream->avail_in = (size_t)got;
			if (got == 0)
				action = LZMA_FINISH;
		}
		stream->next_out = out;
		stream->avail_out = sizeof out;
		ret = lzma_code(stream, action);
		if (ret != LZMA_OK && ret != LZMA_STREAM_END)
			return fail(err, EILSEQ, "decode", "%s", describe(ret));
		int written = write_full(STDOUT_FILENO, out, sizeof out - stream->avail_out);
		if (written < 0)
			return fail(err, -written, "write", "decoded data");
	}
	return 0;
}

static int unxz_main(const char *path)
{
	cleanup_fd int fd = RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY));
	lzma_stream stream = LZMA_STREAM_INIT;
	struct err err = {0};
	int ret;

	if (fd < 0) {
		fprintf(stderr, "cannot open %s: %s\n", path, strerror(errno));
		return 1;
	}
	ret = unxz(fd, &stream, &err);
	lzma_end(&stream);
	if (ret == 0)
		return 0;
	/* What is wrong with the data is in the detail, and in no errno. */
	fprintf(stderr, "%s%s%s\n", err.detail, err.errnum == EILSEQ ? "" : ": ", err.errnum == EILSEQ ? "" : strerror(err.errnum));
	return 1;
}

int codec_main(int argc, char **argv)
{
	compress_fn *compress = argc == 3 ? find_codec(argv[1]) : NULL;
	size_t block_size = argc == 3 ? parse_block_size(argv[2]) : 0;
	struct err err = {0};

	if (argc == 3 && strcmp(argv[1], "unxz") == 0)
		return unxz_main(argv[2]);
	if (compress == NULL || block_size == 0) {
		fprintf(stderr, "usage: @codec xz|lz4 BLOCKSIZE, @codec unxz FILE\n");
		return 2;
	}
	if (serve(compress, block_size, &err) == 0)
		return 0;
	fprintf(stderr, "cannot %s: %s: %s\n", err.step, err.detail, strerror(err.errnum));
	return 1;
}
