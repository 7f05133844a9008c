#include "mount.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

/* glibc has these only since 2.36. */
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#define MOVE_MOUNT_F_EMPTY_PATH 0x00000004
#define MOVE_MOUNT_T_EMPTY_PATH 0x00000040
#define MOUNT_ATTR_RDONLY 0x00000001
#define MOUNT_ATTR_NOSUID 0x00000002
#define MOUNT_ATTR_NODEV 0x00000004
struct mount_attr {
	uint64_t attr_set, attr_clr, propagation, userns_fd;
};
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static int set_attributes(int fd, const struct bind_flags *flags)
{
	struct mount_attr attr = {
		.attr_set = (flags->set_ids ? 0 : MOUNT_ATTR_NOSUID) | (flags->devices ? 0 : MOUNT_ATTR_NODEV) | (flags->read_only ? MOUNT_ATTR_RDONLY : 0)};
	unsigned at = AT_EMPTY_PATH | (flags->recursive ? AT_RECURSIVE : 0u);

	return syscall(SYS_mount_setattr, fd, "", at, &attr, sizeof attr) < 0 ? -errno : 0;
}

int mount_copy(struct mount_source *source, int dirfd, const char *path, const struct bind_flags *flags)
{
	unsigned how = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (flags->recursive ? AT_RECURSIVE : 0u);
	int fd = (int)syscall(SYS_open_tree, dirfd, path, how);
	int result = 0;

	*source = (struct mount_source){.fd = fd, .is_copy = true, .flags = *flags};
	if (fd < 0 && errno == ENOSYS) {
		source->is_copy = false;
		source->fd = path[0] == '\0' ? fcntl(dirfd, F_DUPFD_CLOEXEC, 0) : openat(dirfd, path, O_PATH | O_CLOEXEC);
	}
	if (source->fd < 0)
		return -errno;
	if (source->is_copy)
		result = set_attributes(source->fd, flags);
	source->restricted = source->is_copy && result == 0;
	return result == -ENOSYS ? 0 : result;
}

int mount_take(struct mount_source *source, int fd, const struct bind_flags *flags)
{
	int result;

	*source = (struct mount_source){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .is_copy = true, .flags = *flags};
	if (source->fd < 0)
		return -errno;
	result = set_attributes(source->fd, flags);
	source->restricted = result == 0;
	return result == -ENOSYS ? 0 : result;
}

int mount_attach(struct mount_source *source, int target)
{
	int result;

	if (source->is_copy)
		result = syscall(SYS_move_mount, source->fd, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? -errno : 0;
	else
		result = old_bind(source->fd, target, source->flags.recursive);
	if (result < 0 || source->restricted)
		return result;
	cleanup_fd int attached = old_reopen(target);
	return attached < 0 ? attached : old_restrict(attached, &source->flags);
}

int mount_restrict(int fd, const struct bind_flags *flags)
{
	int result = set_attributes(fd, flags);

	return result == -ENOSYS ? old_restrict(fd, flags) : result;
}

int mount_new(const char *type, int target, unsigned long flags, const char *options)
{
	if (fchdir(target) < 0)
		return -errno;
	/* The devices of a devpts are the kernel's own, and what it is for. */
	if (strcmp(type, "devpts") != 0)
		flags |= MS_NODEV;
	return mount("tsrun", ".", type, MS_NOSUID | flags, options) < 0 ? -errno : 0;
}
