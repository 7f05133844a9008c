#include "imagefs.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
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

int imagefs_open_device(const char *device_path, int flags, struct err *err)
{
	int device = open(device_path, O_RDWR | O_CLOEXEC | flags);

	return device < 0 ? fail(err, errno, STEP, "opening /dev/fuse") : device;
}

int imagefs_mount(int device, uid_t uid, gid_t gid, struct err *err)
{
	int cleanup_fd fs = sys_fsopen("fuse");
	int rc, mount;

	if (fs < 0)
		return fail(err, errno, STEP, "fsopen");
	rc = configure(fs, device, uid, gid);
	if (rc < 0)
		return fail(err, -rc, STEP, "making the mount");
	mount = sys_fsmount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return mount < 0 ? fail(err, errno, STEP, "fsmount") : mount;
}

int imagefs_mount_at(int device, uid_t uid, gid_t gid, const char *directory, struct err *err)
{
	char options[160];

	snprintf(options, sizeof options, "fd=%d,rootmode=%o,user_id=%u,group_id=%u,max_read=%u,default_permissions", device, S_IFDIR | 0755u, uid, gid,
		SQUASH_READ_MAX);
	if (mount("tsrun", directory, "fuse", MS_RDONLY | MS_NOSUID | MS_NODEV, options) < 0)
		return fail(err, errno, STEP, "making the mount");
	return 0;
}

int imagefs_join_device(int further, int device, struct err *err)
{
	uint32_t source = (uint32_t)device;

	return ioctl(further, FUSE_DEV_IOC_CLONE, &source) < 0 ? fail(err, errno, STEP, "having another device for the mount") : 0;
}
