/* The few ways of mounting that a run needs. Targets are O_PATH descriptors, never paths that could be looked up twice. */
#ifndef TSRUN_MOUNT_H
#define TSRUN_MOUNT_H

#include "util.h"

/* What a bind adds to the flags its source has; nosuid unless set_ids. With `recursive` it takes the mounts below along, and adds to theirs. */
struct bind_flags {
	bool recursive;
	bool read_only;
	bool devices;
	bool set_ids;
};

/* Something to be bound: a copy of its mounts that is attached nowhere yet, or, on kernels before 5.2, the thing itself. */
struct mount_source {
	int fd; /* for fstat() */
	bool is_copy;
	bool restricted; /* `flags` are in force */
	struct bind_flags flags;
};
#define MOUNT_SOURCE_NONE ((struct mount_source){.fd = -1})

static inline void mount_source_close(struct mount_source *source)
{
	close_fd(&source->fd);
}
#define cleanup_source __attribute__((cleanup(mount_source_close)))

/* What is mounted at `path` below `dirfd` ("" for `dirfd` itself). -errno; -EINVAL where mounts below may not be left behind. */
int WARN_UNUSED mount_copy(struct mount_source *source, int dirfd, const char *path, const struct bind_flags *flags);

/* The same for `fd`, a mount that is attached nowhere and may be used up. */
int WARN_UNUSED mount_take(struct mount_source *source, int fd, const struct bind_flags *flags);

/* Puts it at `target`, which is of the same kind (directory or not). -errno. */
int WARN_UNUSED mount_attach(struct mount_source *source, int target);

/* Adds flags to the mount that `fd` lies on. -errno. */
int WARN_UNUSED mount_restrict(int fd, const struct bind_flags *flags);

/* Mounts a new file system on the directory `target`: nosuid, nodev and what `flags` (MS_…) says. Changes the working directory. -errno. */
int WARN_UNUSED mount_new(const char *type, int target, unsigned long flags, const char *options);

/* --- between mount.c and mount_old.c: kernels without the calls of 5.2 and 5.12. They need /proc, and the scratch mounted over "/". --- */

int WARN_UNUSED old_bind(int source, int target, bool recursive);
int WARN_UNUSED old_restrict(int fd, const struct bind_flags *flags);
/* What lies uppermost where `target` is. */
int WARN_UNUSED old_reopen(int target);

#endif
