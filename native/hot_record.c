/* Recording what a run touches. */
#include "hot.h"

#include <fcntl.h>
#include <string.h>

#define RECORDING "record what is touched"
#define SEEN 8192u

struct hot_record {
	int fd;
	/* The same thing is often touched several times in a row (a directory with each name that is looked up in it): the latest touches, to leave those out. */
	_Atomic uint64_t seen[SEEN];
};

struct start {
	char magic[16];
	char superblock[HOT_SUPERBLOCK];
};

static int begin(int fd, const struct start *start, struct err *err)
{
	struct stat st;
	struct start there;
	ssize_t got;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return fail(err, EINVAL, RECORDING, "the record is not a regular file");
	if (st.st_size == 0)
		return write_full(fd, start, sizeof *start) < 0 ? fail(err, errno, RECORDING, "writing the record") : 0;
	got = RETRY(pread(fd, &there, sizeof there, 0));
	if (got < 0)
		return fail(err, errno, RECORDING, "reading the record");
	if (got != sizeof there || memcmp(&there, start, sizeof there) != 0)
		return fail(err, EEXIST, RECORDING, "the file holds something else than a record of this image");
	return 0;
}

int hot_record_new(struct hot_record **out, int fd, int image, uint64_t offset, struct err *err)
{
	struct start start;
	struct hot_record *record;
	int rc;

	memcpy(start.magic, HOT_RECORD_MAGIC, sizeof start.magic);
	if (RETRY(pread(image, start.superblock, sizeof start.superblock, (off_t)offset)) != sizeof start.superblock)
		return fail(err, EIO, RECORDING, "reading the image's superblock");
	rc = begin(fd, &start, err);
	if (rc < 0)
		return rc;
	record = calloc(1, sizeof *record);
	if (record == NULL)
		return fail(err, ENOMEM, RECORDING, "out of memory");
	record->fd = fd;
	*out = record;
	return 0;
}

void hot_record_touch(struct hot_record *record, enum hot_touch_kind kind, uint32_t inode, uint64_t offset, uint32_t length)
{
	const struct hot_touch touch = { .offset = offset, .length = length, .inode = inode, .kind = (uint32_t)kind };
	uint64_t mixed = (((uint64_t)inode << 3 | (uint64_t)kind) ^ offset << 20 ^ (uint64_t)length << 40) * 0x9e3779b97f4a7c15u;

	if (record == NULL || atomic_exchange_explicit(&record->seen[mixed >> 51], mixed, memory_order_relaxed) == mixed)
		return;
	(void)!write_full(record->fd, &touch, sizeof touch);
}
