#include "userns.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define STEP "enter a user namespace"

static int write_file(const char *path, const char *text, struct err *err)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	int result = fd < 0 ? -errno : write_full(fd, text, strlen(text));

	return result < 0 ? fail(err, -result, STEP, "write %s", path) : 0;
}

int userns_new(uid_t uid, gid_t gid, struct err *err)
{
	char uid_map[64], gid_map[64];
	int result;

	/* Before unshare: afterwards the caller's ids are not mapped yet. */
	snprintf(uid_map, sizeof uid_map, "%u %u 1", uid, geteuid());
	snprintf(gid_map, sizeof gid_map, "%u %u 1", gid, getegid());
	if (unshare(CLONE_NEWUSER) < 0)
		return fail(err, errno, STEP, "make one");
	/* An ordinary user may map a group only after giving up setgroups, by which group permissions could be dropped. */
	result = write_file("/proc/self/setgroups", "deny", err);
	if (result == 0)
		result = write_file("/proc/self/uid_map", uid_map, err);
	return result == 0 ? write_file("/proc/self/gid_map", gid_map, err) : result;
}

int userns_join(int fd, struct err *err)
{
	return setns(fd, CLONE_NEWUSER) < 0 ? fail(err, errno, STEP, "join the scope's") : 0;
}
