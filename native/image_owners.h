/* Unpacking for builds: the owners, devices and xattrs of an image that an ordinary user may not make, as the steps of a build record them (owners.h). */
#ifndef TSRUN_IMAGE_OWNERS_H
#define TSRUN_IMAGE_OWNERS_H

#include <pthread.h>

#include "owners.h"
#include "squash/squash.h"

struct image_owners {
	struct owner_table *table; /* may be NULL: then the file system has to have room for every record */
	bool real;                 /* several ids are mapped here: owners are set, not recorded */
	pthread_mutex_t lock;      /* of the table */
};

/* For a file, directory or the file that stands for a device, before its mode is set. From any thread. -errno. */
int WARN_UNUSED image_owners_file(struct image_owners *owners, int fd, const struct squash_inode *inode);

/* For anything else, `name` in `dir`; `path` is that from the top of the image. -errno. */
int WARN_UNUSED image_owners_name(struct image_owners *owners, int dir, const char *name, const char *path, const struct squash_inode *inode);

/* Which xattrs of an image are taken over at all, and how one is set. -errno. */
bool image_owners_wants(const char *xattr);
int WARN_UNUSED image_owners_xattr(int fd, const char *name, const void *value, size_t len);

#endif
