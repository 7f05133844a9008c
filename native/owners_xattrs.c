/* Xattrs that only root may have: kept under another name. */
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "owners_service.h"

#define XATTR_NAME_ROOM (XATTR_NAME_MAX + 1)

/* Those that take a right which root inside does not have, at least not on every file system. */
static bool is_kept(const char *name)
{
	return strncmp(name, "security.", 9) == 0 || strncmp(name, "trusted.", 8) == 0 || strncmp(name, "system.posix_acl_", 17) == 0;
}

static bool is_refusal(int errnum)
{
	return errnum == EPERM || errnum == EOPNOTSUPP || errnum == EINVAL;
}

static int read_name(const struct owner_service *service, uint64_t address, char name[XATTR_NAME_ROOM])
{
	int result = owner_read_string((pid_t)service->call->pid, address, name, XATTR_NAME_ROOM);

	if (result == -ENAMETOOLONG || (result == 0 && name[0] == '\0'))
		return -ERANGE;
	return result;
}

static int kept_name(const char *name, char kept[XATTR_NAME_ROOM])
{
	return snprintf(kept, XATTR_NAME_ROOM, OWNER_KEPT_PREFIX "%s", name) < XATTR_NAME_ROOM ? 0 : -ERANGE;
}

int owner_set_xattr(struct owner_service *service, int fd, uint64_t name_address, uint64_t value_address, size_t size, int flags)
{
	char name[XATTR_NAME_ROOM], kept[XATTR_NAME_ROOM];
	cleanup_free void *value = NULL;
	struct stat st;
	int result = read_name(service, name_address, name);

	if (result < 0)
		return result;
	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	value = malloc(size + 1);
	if (value == NULL)
		return -ENOMEM;
	result = size == 0 ? 0 : owner_read_memory((pid_t)service->call->pid, value_address, value, size);
	if (result < 0)
		return result;
	if (!owner_is_waiting(service))
		return -ESRCH;
	if (setxattr(service->self, name, value, size, flags) == 0)
		return 0;
	result = -errno;
	if (!is_kept(name) || !is_refusal(-result) || fstat(fd, &st) < 0 || !owner_has_xattrs(st.st_mode) || kept_name(name, kept) < 0)
		return result;
	return setxattr(service->self, kept, value, size, flags) < 0 ? -errno : 0;
}

int owner_remove_xattr(struct owner_service *service, uint64_t name_address)
{
	char name[XATTR_NAME_ROOM], kept[XATTR_NAME_ROOM];
	int result = read_name(service, name_address, name);

	if (result < 0)
		return result;
	if (!owner_is_waiting(service))
		return -ESRCH;
	result = removexattr(service->self, name) < 0 ? -errno : 0;
	if (!is_kept(name) || kept_name(name, kept) < 0)
		return result;
	if (removexattr(service->self, kept) == 0)
		return 0;
	/* Nobody has set what may not be removed. */
	return is_refusal(-result) ? -ENODATA : result;
}

/* xattr_args of linux/xattr.h, since Linux 6.13. */
struct wide_xattr_args {
	uint64_t value;
	uint32_t size;
	uint32_t flags;
};

int owner_set_xattr_at(struct owner_service *service, int fd, const __u64 *args)
{
	struct wide_xattr_args wide;
	int result;

	if (args[5] < sizeof wide)
		return -EINVAL;
	result = owner_read_memory((pid_t)service->call->pid, args[4], &wide, sizeof wide);
	return result < 0 ? result : owner_set_xattr(service, fd, args[3], wide.value, wide.size, (int)wide.flags);
}
