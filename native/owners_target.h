/* What a call of a stopped thread is about: its arguments read from its memory, and its paths looked up as the kernel would have for it. */
#ifndef TSRUN_OWNERS_TARGET_H
#define TSRUN_OWNERS_TARGET_H

#include "owners.h"

/* Where the launcher works: its working directory is the caller's /proc for ever, its root that of the thread it works for. */
struct owner_view {
	int proc;
	int init;           /* PID 1's root */
	uint64_t root[2];   /* device and inode of the root in force; 0, 0: unknown */
	uint64_t mount;     /* and its mount's id */
	uint64_t userns[2]; /* our own user namespace */
};

/* Changes the working directory. -errno. */
int WARN_UNUSED owner_view_begin(struct owner_view *view, const struct owners *owners);

/* A string of at most `room` bytes with its NUL. -EFAULT, -ENAMETOOLONG. */
int WARN_UNUSED owner_read_string(pid_t pid, uint64_t address, char *text, size_t room);
int WARN_UNUSED owner_read_memory(pid_t pid, uint64_t address, void *data, size_t len);

/* Whether the thread's user namespace is ours: in one below it ids mean something else. */
bool owner_same_userns(const struct owner_view *view, pid_t pid);

/* The thread's umask; 022 where that cannot be read. */
mode_t owner_umask(pid_t pid);

/* Where a path of the thread begins: takes its root, and returns a descriptor for the *at() calls, to be used with *path, which may have been moved on.
 * -EBADF, or another errno. */
int WARN_UNUSED owner_base(struct owner_view *view, pid_t pid, int dirfd, const char **path);

/* An O_PATH descriptor of a file. `path` NULL or, with AT_EMPTY_PATH in `flags`, empty: `dirfd` itself. AT_SYMLINK_NOFOLLOW. */
int WARN_UNUSED owner_open(struct owner_view *view, pid_t pid, int dirfd, const char *path, int flags);

/* Makes PID 1's root the view's. -errno. */
int WARN_UNUSED owner_view_run(struct owner_view *view);

#endif
