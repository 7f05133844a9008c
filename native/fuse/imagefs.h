/* An image as a mounted file system: the FUSE protocol (include/uapi/linux/fuse.h of the kernel), spoken on /dev/fuse without libfuse.
 *
 * An image never changes, so the kernel is told to keep everything for ever: attributes, names, also names that are not there, symbolic
 * links, directories, pages. What needs no answer (open, opendir, flush, …) is refused once, and never asked again. */
#ifndef TSRUN_IMAGEFS_H
#define TSRUN_IMAGEFS_H

#include "../squash/squash.h"

#include <sys/types.h>

/* Makes a mount that is attached nowhere yet (read-only, nosuid, nodev, permissions checked by the kernel, for this user and group only) and
 * the device descriptor that serves it. The caller is in the user namespace the mount will belong to, and in a mount namespace of it;
 * `device_path` is a fuse device there. Both descriptors are close-on-exec. */
int WARN_UNUSED imagefs_mount(const char *device_path, uid_t uid, gid_t gid, int *device, int *mount, struct err *err);

struct imagefs;
struct imagefs_config {
	struct squash *squash;
	const char *device_path;
	/* Shown as the owner of everything: these are the ids that the user namespace maps. */
	uid_t uid;
	gid_t gid;
	unsigned workers; /* 0: by the number of processors */
	/* Something that a person should know (a read of the image that failed). Called by any worker, a few times at most. */
	void (*log)(void *ctx, const char *text);
	/* The mount and every use of it are gone (or, should it come to that, the device broke). Called by the last worker as its last act. */
	void (*ended)(void *ctx);
	void *ctx;
};
/* Starts the threads that answer the kernel's requests. Takes `device` in any case. */
int WARN_UNUSED imagefs_start(struct imagefs **out, const struct imagefs_config *config, int device, struct err *err);
/* Waits for all workers, which end when the mount does, and frees. */
void imagefs_join(struct imagefs *fs);

#endif
