/* What is in the files of an image that is being unpacked, written by threads while somebody makes the next names. */
#ifndef TSRUN_IMAGE_FILL_H
#define TSRUN_IMAGE_FILL_H

#include "image_owners.h"
#include "squash/squash.h"

struct image_fill;

/* Starts the threads. `owners` NULL: everything becomes the caller's. */
int WARN_UNUSED image_fill_new(struct image_fill **out, struct squash *sq, struct image_owners *owners, const _Atomic int *interrupted, struct err *err);
/* Has an empty file filled, and given its mode, owner, xattrs and time. Takes the descriptor; may wait. -errno: something has failed, see image_fill_end(). */
int WARN_UNUSED image_fill_give(struct image_fill *fill, int fd, const struct squash_inode *inode);
/* 0, or the negative errno of the first failure. */
int image_fill_failed(const struct image_fill *fill);
/* What a directory has as well: xattrs and time. */
int WARN_UNUSED image_fill_xattrs(const struct image_fill *fill, const struct squash_inode *inode, int fd, struct err *err);
int WARN_UNUSED image_fill_times(int fd, const struct squash_inode *inode);
/* Waits until all is written, and frees. `rc` and `err`: how it went for the caller; they become the first failure's. */
int WARN_UNUSED image_fill_end(struct image_fill *fill, int rc, struct err *err);

#endif
