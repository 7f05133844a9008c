#include "owners_target.h"
#include "statx.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#define PAGE 4096u
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000u
#endif

int owner_view_begin(struct owner_view *view, const struct owners *owners)
{
	struct stat st;

	*view = (struct owner_view){.proc = owners->proc, .init = owners->init};
	if (fchdir(owners->proc) < 0 || stat("self/ns/user", &st) < 0)
		return -errno;
	view->userns[0] = st.st_dev;
	view->userns[1] = st.st_ino;
	return 0;
}

/* --- memory --- */

static ssize_t read_proc_memory(pid_t pid, uint64_t address, void *data, size_t len)
{
	char path[32];
	ssize_t got;

	snprintf(path, sizeof path, "%d/mem", (int)pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = pread(fd, data, len, (off_t)address);
	/* What is not mapped is EIO there. */
	if (got < 0 && errno == EIO)
		errno = EFAULT;
	return got;
}

int owner_read_memory(pid_t pid, uint64_t address, void *data, size_t len)
{
	struct iovec here = {.iov_base = data, .iov_len = len};
	struct iovec there = {.iov_base = (void *)(uintptr_t)address, .iov_len = len};
	ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);

	/* Containers around have filters that refuse this call, but not what it does. */
	if (got < 0 && (errno == EPERM || errno == ENOSYS))
		got = read_proc_memory(pid, address, data, len);
	if (got < 0)
		return -errno;
	return (size_t)got == len ? 0 : -EFAULT;
}

int owner_read_string(pid_t pid, uint64_t address, char *text, size_t room)
{
	size_t len = 0;

	/* Page by page: the next one may not be there, and most strings end before it. */
	while (len < room) {
		size_t part = PAGE - (size_t)((address + len) % PAGE);
		int result;

		if (part > room - len)
			part = room - len;
		result = owner_read_memory(pid, address + len, text + len, part);
		if (result < 0)
			return result;
		if (memchr(text + len, '\0', part) != NULL)
			return 0;
		len += part;
	}
	return -ENAMETOOLONG;
}

/* --- the thread --- */

bool owner_same_userns(const struct owner_view *view, pid_t pid)
{
	char path[40];
	struct stat st;

	snprintf(path, sizeof path, "%d/ns/user", (int)pid);
	return fstatat(view->proc, path, &st, 0) < 0 || (st.st_dev == view->userns[0] && st.st_ino == view->userns[1]);
}

mode_t owner_umask(pid_t pid)
{
	char path[40], text[512];
	const char *line;
	unsigned mask = 022;
	ssize_t got;

	snprintf(path, sizeof path, "%d/status", (int)pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	text[got < 0 ? 0 : got] = '\0';
	line = strstr(text, "\nUmask:");
	if (line != NULL)
		(void)sscanf(line, "\nUmask: %o", &mask);
	return mask & 0777;
}

static int take_root(struct owner_view *view, const char *path)
{
	struct statx st;

	/* Only the mount's id tells two mounts of one directory apart. (0 before Linux 5.8.) */
	if (statx(view->proc, path, 0, STATX_INO | STATX_MNT_ID, &st) < 0)
		return -errno;
	if (view->root[1] == st.stx_ino && view->root[0] == makedev(st.stx_dev_major, st.stx_dev_minor) && view->mount == st.stx_mnt_id)
		return 0;
	/* The working directory stays. */
	if (chroot(path) < 0)
		return -errno;
	view->root[0] = makedev(st.stx_dev_major, st.stx_dev_minor);
	view->root[1] = st.stx_ino;
	view->mount = st.stx_mnt_id;
	return 0;
}

int owner_view_run(struct owner_view *view)
{
	char path[40];

	snprintf(path, sizeof path, "self/fd/%d", view->init);
	return take_root(view, path);
}

static int open_of(const struct owner_view *view, pid_t pid, const char *what, int fd)
{
	char path[48];
	int result;

	if (fd >= 0)
		snprintf(path, sizeof path, "%d/fd/%d", (int)pid, fd);
	else
		snprintf(path, sizeof path, "%d/%s", (int)pid, what);
	result = openat(view->proc, path, O_PATH | O_CLOEXEC);
	return result >= 0 ? result : fd >= 0 && errno == ENOENT ? -EBADF : -errno;
}

static int open_dirfd(const struct owner_view *view, pid_t pid, int dirfd)
{
	if (dirfd == AT_FDCWD)
		return open_of(view, pid, "cwd", -1);
	return dirfd < 0 ? -EBADF : open_of(view, pid, NULL, dirfd);
}

/* A descriptor named by path. Looked up by us, /proc/self would not be the thread's. Only these: nothing else below it leads to a file, and ".." would lead
 * out of the run's /proc. Returns the number, *path behind it; -1 for any other path. */
static int fd_of_path(const char **path)
{
	static const char *const names[] = {"/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		size_t len = strlen(names[i]);
		char *end;
		long fd;

		if (strncmp(*path, names[i], len) != 0 || !isdigit((unsigned char)(*path)[len]))
			continue;
		fd = strtol(*path + len, &end, 10);
		if (fd > INT_MAX || (*end != '\0' && *end != '/'))
			continue;
		*path = *end == '\0' ? "" : end + 1;
		return (int)fd;
	}
	return -1;
}

int owner_base(struct owner_view *view, pid_t pid, int dirfd, const char **path)
{
	char root[40];
	int result;

	snprintf(root, sizeof root, "%d/root", (int)pid);
	result = take_root(view, root);
	if (result < 0)
		return result;
	if (**path == '/')
		return open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return open_dirfd(view, pid, dirfd);
}

int owner_open(struct owner_view *view, pid_t pid, int dirfd, const char *path, int flags)
{
	int how = O_PATH | O_CLOEXEC | ((flags & AT_SYMLINK_NOFOLLOW) != 0 ? O_NOFOLLOW : 0);
	int named = path == NULL || (flags & AT_SYMLINK_NOFOLLOW) != 0 ? -1 : fd_of_path(&path);
	int fd;

	if (path == NULL || (path[0] == '\0' && (flags & AT_EMPTY_PATH) != 0))
		return open_dirfd(view, pid, dirfd);
	if (named >= 0 && path[0] == '\0') {
		fd = open_of(view, pid, NULL, named);
		return fd == -EBADF ? -ENOENT : fd;
	}
	cleanup_fd int base = owner_base(view, pid, named >= 0 ? named : dirfd, &path);
	if (base < 0)
		return base;
	fd = openat(base, path, how);
	return fd < 0 ? -errno : fd;
}
