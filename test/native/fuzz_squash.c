/* Any bytes as an image: opened, walked, everything read, within limits. The corpus is small images that test/native/corpus/squash/make.sh made. */
#include "fuzz.h"

#include "../../native/squash/squash.h"

#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#define NAMES_MAX 500
#define READ_MAX (4u << 20) /* of all files together */

struct budget {
	struct squash *sq;
	uint64_t left;
};

static int read_all(void *ctx, const char *path, const char *name, const struct squash_inode *inode, struct err *err)
{
	static struct squash_pieces pieces;
	static char text[65536], value[65536];
	static volatile unsigned sum;
	struct budget *budget = ctx;
	struct squash_inode again;
	uint64_t ref;
	ssize_t names;

	(void)name;
	for (uint64_t at = 0; S_ISREG(inode->mode) && at < inode->size && budget->left > 0; at += SQUASH_READ_MAX) {
		if (squash_read(budget->sq, inode, at, SQUASH_READ_MAX, &pieces, err) < 0)
			break;
		for (unsigned i = 0; i < pieces.count; i++)
			for (size_t k = 0; k < pieces.iov[i].iov_len; k += 512)
				sum += ((const unsigned char *)pieces.iov[i].iov_base)[k];
		budget->left -= pieces.bytes < budget->left ? pieces.bytes : budget->left;
		squash_release(budget->sq, &pieces);
		squash_read_ahead(budget->sq, inode, at + SQUASH_READ_MAX);
	}
	/* The end of a file is found another way than its middle. */
	if (S_ISREG(inode->mode) && inode->size > 0 && squash_read(budget->sq, inode, inode->size - 1, 1, &pieces, err) == 0)
		squash_release(budget->sq, &pieces);
	if (S_ISLNK(inode->mode) && squash_readlink(budget->sq, inode, text, sizeof text, err) > 0)
		sum += (unsigned char)text[0];
	if (S_ISDIR(inode->mode) && squash_path(budget->sq, inode, text, 100, err) > 0)
		sum += (unsigned char)text[0];
	names = squash_listxattr(budget->sq, inode, NULL, text, sizeof text, err);
	for (const char *at = text; at < text + names; at += strlen(at) + 1)
		if (squash_getxattr(budget->sq, inode, at, value, sizeof value, err) > 0)
			sum += (unsigned char)value[0];
	if (squash_export(budget->sq, inode->ino, &ref, err) == 0 && squash_stat(budget->sq, ref, &again, err) == 0)
		sum += again.mode;
	if (squash_resolve(budget->sq, path, true, &again, err) == 0)
		sum += again.mode;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct squash_cache *cache = squash_cache_new(1 << 20);
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct squash *sq = NULL;
	struct err err = { 0 };

	if (cache != NULL && fd >= 0 && write_full(fd, data, size) == 0 && squash_open(&sq, cache, fd, 0, 0, &err) == 0) {
		struct budget budget = { sq, READ_MAX };
		struct squash_walk walk = { .ctx = &budget, .visit = read_all, .depth = UINT_MAX, .entries = NAMES_MAX };
		struct squash_inode root;
		int rc = squash_stat(sq, squash_root(sq), &root, &err);

		if (rc == 0)
			rc = squash_walk(sq, &root, &walk, &err);
		if (rc < 0 && err.step[0] == '\0') /* every failure says what it is */
			__builtin_trap();
		squash_close(sq);
	}
	squash_cache_free(cache);
	close_fd(&fd);
	return 0;
}
