#include "image_owners.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <linux/limits.h>

static bool is_device(const struct squash_inode *inode)
{
	return S_ISCHR(inode->mode) || S_ISBLK(inode->mode);
}

static struct owner_record record_of(const struct squash_inode *inode)
{
	struct owner_record record = {.uid = inode->uid, .gid = inode->gid};

	if (is_device(inode)) {
		record.device = S_ISCHR(inode->mode) ? 'c' : 'b';
		record.major = inode->rdev_major;
		record.minor = inode->rdev_minor;
	}
	return record;
}

static int put(struct image_owners *owners, const struct owner_key *key, const struct owner_record *record)
{
	int result;

	if (owners->table == NULL)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&owners->lock);
	result = owner_table_put(owners->table, key, record);
	pthread_mutex_unlock(&owners->lock);
	return result;
}

int image_owners_file(struct image_owners *owners, int fd, const struct squash_inode *inode)
{
	const struct owner_record record = record_of(inode);
	char text[OWNER_TEXT_MAX];
	size_t len = owner_format(&record, text);
	struct owner_key key;

	if (owners->real && fchown(fd, inode->uid, inode->gid) < 0)
		return -errno;
	if (record.device == 0 && (owners->real || (record.uid == 0 && record.gid == 0)))
		return 0;
	if (fsetxattr(fd, OWNER_XATTR, text, len, 0) == 0)
		return 0;
	if (errno != EOPNOTSUPP || owner_key_of(fd, &key) < 0)
		return -errno;
	return put(owners, &key, &record);
}

int image_owners_name(struct image_owners *owners, int dir, const char *name, const char *path, const struct squash_inode *inode)
{
	const struct owner_record record = record_of(inode);
	const struct owner_key key = owner_key_of_path(path);

	if (owners->real)
		return fchownat(dir, name, inode->uid, inode->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	return record.uid == 0 && record.gid == 0 ? 0 : put(owners, &key, &record);
}

bool image_owners_wants(const char *xattr)
{
	/* An image that somebody has made is not to speak as our own records or as an overlay's marks. */
	return strncmp(xattr, OWNER_PREFIX, strlen(OWNER_PREFIX)) != 0 && strncmp(xattr, "user.overlay.", 13) != 0;
}

int image_owners_xattr(int fd, const char *name, const void *value, size_t len)
{
	char kept[XATTR_NAME_MAX + 1];

	if (fsetxattr(fd, name, value, len, 0) == 0)
		return 0;
	if (strncmp(name, "user.", 5) == 0 || snprintf(kept, sizeof kept, OWNER_KEPT_PREFIX "%s", name) >= (int)sizeof kept)
		return -errno;
	return fsetxattr(fd, kept, value, len, 0) < 0 ? -errno : 0;
}
