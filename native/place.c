#include "place.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static int make_parents(const char *path, const char *step, struct err *err)
{
	char parent[PATH_MAX];

	for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
		if (mkdir(parent, 0700) < 0 && errno != EEXIST)
			return fail(err, errno, step, "make %s", parent);
	}
	return 0;
}

/* Who can write in the parent can put anything in the directory's place. */
static int open_safe_parent(const char *path, const char *step, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];
	struct stat st;
	cleanup_fd int fd = -1;

	snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, errno, step, "open %s", parent);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return fail(err, EPERM, step, "%s belongs to user %u", parent, st.st_uid);
	if ((st.st_mode & 022) != 0 && (st.st_mode & S_ISVTX) == 0)
		return fail(err, EPERM, step, "%s can be written by others", parent);
	return steal_fd(&fd);
}

int place_open_parent(const char *path, const char *step, struct err *err)
{
	int result = make_parents(path, step, err);

	return result < 0 ? result : open_safe_parent(path, step, err);
}

bool place_is_at(int fd, int parent, const char *name)
{
	struct stat held, named;

	return fstat(fd, &held) == 0 && fstatat(parent, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_dev == held.st_dev && named.st_ino == held.st_ino;
}

static int lock_file(int parent, const char *name, int how)
{
	char lock_name[NAME_MAX + 1];

	if (snprintf(lock_name, sizeof lock_name, "%s.lock", name) >= (int)sizeof lock_name)
		return -ENAMETOOLONG;
	for (;;) {
		cleanup_fd int lock = openat(parent, lock_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
		struct stat st;

		if (lock < 0 || fstat(lock, &st) < 0)
			return -errno;
		if (st.st_uid != geteuid() || !S_ISREG(st.st_mode))
			return -EPERM;
		if (RETRY(flock(lock, how)) < 0)
			return errno == EWOULDBLOCK ? -EAGAIN : -errno;
		/* Whoever removes what is locked removes the lock's file as well, holding it: the name may then be another one's. */
		if (place_is_at(lock, parent, lock_name))
			return steal_fd(&lock);
	}
}

int place_lock(int parent, const char *name, const char *path, const char *step, struct err *err)
{
	int lock = lock_file(parent, name, LOCK_EX);

	return lock < 0 ? fail(err, -lock, step, "lock %s", path) : lock;
}

int place_try_lock(int parent, const char *name)
{
	return lock_file(parent, name, LOCK_EX | LOCK_NB);
}
