/* The bytes of SquashFS 4.0, little endian (fs/squashfs/squashfs_fs.h of the Linux kernel). */
#ifndef TSRUN_SQUASH_FORMAT_H
#define TSRUN_SQUASH_FORMAT_H

#include <stdint.h>
#include <string.h>

#define SQUASH_MAGIC 0x73717368u
#define SQUASH_SUPER_SIZE 96
#define SQUASH_NOT_THERE UINT64_MAX /* table position of a table the image does not have */
#define SQUASH_NO_FRAGMENT UINT32_MAX
#define SQUASH_NO_XATTR UINT32_MAX

#define SQUASH_BLOCK_MIN 4096u
#define SQUASH_BLOCK_MAX (1u << 20)
#define SQUASH_META_SIZE 8192u
#define SQUASH_META_RAW 0x8000u        /* metadata length: stored as it is */
#define SQUASH_DATA_RAW (1u << 24)     /* data length: stored as it is */
#define SQUASH_DATA_LEN(x) ((x) & (SQUASH_DATA_RAW - 1))

enum squash_compressor { SQUASH_GZIP = 1, SQUASH_LZMA, SQUASH_LZO, SQUASH_XZ, SQUASH_LZ4, SQUASH_ZSTD };

enum squash_type {
	SQUASH_DIR = 1, SQUASH_REG, SQUASH_SYMLINK, SQUASH_BLKDEV, SQUASH_CHRDEV, SQUASH_FIFO, SQUASH_SOCKET,
	SQUASH_LDIR, SQUASH_LREG, SQUASH_LSYMLINK, SQUASH_LBLKDEV, SQUASH_LCHRDEV, SQUASH_LFIFO, SQUASH_LSOCKET
};

/* Sizes of what follows the common inode header (16 bytes), up to its variable part. */
enum {
	SQUASH_INODE_HEADER = 16,
	SQUASH_DIR_SIZE = 16, SQUASH_LDIR_SIZE = 24,
	SQUASH_REG_SIZE = 16, SQUASH_LREG_SIZE = 40,
	SQUASH_SYMLINK_SIZE = 8, SQUASH_DEV_SIZE = 8, SQUASH_LDEV_SIZE = 12, SQUASH_IPC_SIZE = 4, SQUASH_LIPC_SIZE = 8
};

#define SQUASH_XATTR_ELSEWHERE 0x100u /* the value is stored once and pointed to */

static inline uint16_t get16(const void *at)
{
	const uint8_t *b = at;
	return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t get32(const void *at)
{
	const uint8_t *b = at;
	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t get64(const void *at)
{
	return get32(at) | (uint64_t)get32((const uint8_t *)at + 4) << 32;
}

#endif
