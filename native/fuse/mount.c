#include "imagefs.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>

/* Not every libc has these yet. */
#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC 1
#define FSMOUNT_CLOEXEC 1
enum { FSCONFIG_SET_FLAG = 0, FSCONFIG_SET_STRING = 1, FSCONFIG_CMD_CREATE = 6 };
#endif
#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY 1
#define MOUNT_ATTR_NOSUID 2
#define MOUNT_ATTR_NODEV 4
#endif

#define STEP "use FUSE"

static int sys_fsopen(const char *type)
{
	return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

static int sys_fsconfig(int fs, unsigned command, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, command, key, value, 0);
}

static int sys_fsmount(int fs, unsigned attributes)
{
	return (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
}

static int set_number(int fs, const char *key, unsigned value, bool octal)
{
	char text[24];

	snprintf(text, sizeof text, octal ? "%o" : "%u", value);
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, text);
}

/* Without allow_other: the mount is for processes whose ids are all `uid` and `gid`, in this namespace or any other, so a debugger of the
 * same user on the host sees the files. Read-only from the start: else the kernel would ask for access times. */
static int configure(int fs, int device, uid_t uid, gid_t gid)
{
	if (sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "tsrun") < 0 || set_number(fs, "fd", (unsigned)device, false) < 0
		|| set_number(fs, "rootmode", S_IFDIR | 0755, true) < 0 || set_number(fs, "user_id", uid, false) < 0
		|| set_number(fs, "group_id", gid, false) < 0 || set_number(fs, "max_read", SQUASH_READ_MAX, false) < 0
		|| sys_fsconfig(fs, FSCONFIG_SET_FLAG, "default_permissions", NULL) < 0
		|| sys_fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL) < 0)
		return -errno;
	return sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0 ? -errno : 0;
}

/* Here is the place for kernels that lack a call: mount(2) of the device into the server's own mount namespace (before 5.2), which
 * joining runs then enter. */
int imagefs_mount(const char *device_path, uid_t uid, gid_t gid, int *device, int *mount, struct err *err)
{
	int cleanup_fd dev = open(device_path, O_RDWR | O_CLOEXEC);
	int cleanup_fd fs = -1;
	int rc;

	if (dev < 0)
		return fail(err, errno, STEP, "opening /dev/fuse");
	fs = sys_fsopen("fuse");
	if (fs < 0)
		return fail(err, errno, STEP, "%s", errno == ENOSYS ? "the kernel has no fsopen (Linux 5.2)" : "fsopen");
	rc = configure(fs, dev, uid, gid);
	if (rc < 0)
		return fail(err, -rc, STEP, "making the mount");
	*mount = sys_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (*mount < 0)
		return fail(err, errno, STEP, "fsmount");
	*device = steal_fd(&dev);
	return 0;
}
