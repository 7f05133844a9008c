/* Where the record of a file is kept, as the launcher finds it: in an xattr, or in the table. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "owners_service.h"

void owner_name_file(struct owner_service *service, int fd)
{
	snprintf(service->self, sizeof service->self, "self/fd/%d", fd);
}

/* `path` (absolute) below `dir`, without following links. */
static int open_below(int dir, const char *path)
{
	cleanup_fd int fd = fcntl(dir, F_DUPFD_CLOEXEC, 0);

	while (fd >= 0 && *(path += strspn(path, "/")) != '\0') {
		char name[NAME_MAX + 1];
		size_t len = strcspn(path, "/");
		int below;

		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, len);
		name[len] = '\0';
		below = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		close_fd(&fd);
		fd = below;
		path += len;
	}
	return fd < 0 ? -errno : steal_fd(&fd);
}

int owner_path_in_run(struct owner_service *service, char path[PATH_MAX])
{
	int result = owner_view_run(&service->view);
	ssize_t len = result < 0 ? -1 : readlink(service->self, path, PATH_MAX - 1);

	if (len < 0)
		return result < 0 ? result : -errno;
	path[len] = '\0';
	return 0;
}

/* For what an overlay shows, the file of its upper directory: only that is found again later. A thing of the same kind and birth at the same path is it. */
static int key_of(struct owner_service *service, int fd, struct owner_key *key)
{
	char path[PATH_MAX];
	struct stat seen, st;
	struct owner_key below;
	int result = owner_key_of(fd, key);

	if (result < 0 || service->owners.upper < 0)
		return result;
	result = owner_path_in_run(service, path);
	if (result < 0 || fstat(fd, &seen) < 0)
		return result;
	cleanup_fd int upper = open_below(service->owners.upper, path);
	if (upper < 0 || fstat(upper, &st) < 0 || (st.st_mode & S_IFMT) != (seen.st_mode & S_IFMT) || owner_key_of(upper, &below) < 0)
		return 0;
	if (below.seconds == key->seconds && below.nanoseconds == key->nanoseconds)
		*key = below;
	return 0;
}

bool owner_has_xattrs(mode_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode);
}

struct owner_record owner_read_record(struct owner_service *service, int fd, mode_t mode)
{
	struct owner_record record = {0};
	struct owner_key key;
	char text[OWNER_TEXT_MAX];
	const struct owner_record *kept;
	ssize_t len = owner_has_xattrs(mode) ? getxattr(service->self, OWNER_XATTR, text, sizeof text) : -1;

	/* One that the payload has made up is as good as none. */
	if (len >= 0 && owner_parse(text, (size_t)len, &record) == 0)
		return record;
	if (len >= 0 || (owner_has_xattrs(mode) && errno == ENODATA) || key_of(service, fd, &key) < 0)
		return (struct owner_record){0};
	kept = owner_table_find(service->owners.table, &key);
	return kept == NULL ? (struct owner_record){0} : *kept;
}

int owner_write_record(struct owner_service *service, int fd, mode_t mode, const struct owner_record *record)
{
	char text[OWNER_TEXT_MAX];
	size_t len = owner_format(record, text);
	struct owner_key key;
	int result;

	if (owner_has_xattrs(mode)) {
		if (setxattr(service->self, OWNER_XATTR, text, len, 0) == 0)
			return 0;
		if (errno != EOPNOTSUPP)
			return -errno;
	}
	result = key_of(service, fd, &key);
	return result < 0 ? result : owner_table_put(service->owners.table, &key, record);
}
