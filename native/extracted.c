#include "extracted.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "image.h"
#include "place.h"

#define STEP "extract the image"
#define MAX_DEPTH 4096

/* 1: it is there, complete; 0: not yet. */
static int is_there(int parent, const char *name, const char *directory, struct err *err)
{
	struct stat st;

	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : fail(err, errno, STEP, "%s", directory);
	if (!S_ISDIR(st.st_mode))
		return fail(err, ENOTDIR, STEP, "%s", directory);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return fail(err, EPERM, STEP, "%s belongs to user %u", directory, st.st_uid);
	return 1;
}

static void close_dir(DIR **dir)
{
	if (*dir != NULL)
		closedir(*dir);
}

static int remove_tree(int parent, const char *name, unsigned depth)
{
	int fd;

	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if ((errno != EISDIR && errno != EPERM) || depth == MAX_DEPTH)
		return -errno;
	/* Directories of an image may be closed even to their owner. */
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == EACCES && fchmodat(parent, name, 0700, 0) == 0)
		fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	__attribute__((cleanup(close_dir))) DIR *dir = fdopendir(fd);
	if (dir == NULL) {
		close_fd(&fd);
		return -ENOMEM;
	}
	(void)fchmod(fd, 0700);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		int result;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		result = remove_tree(fd, entry->d_name, depth + 1);
		if (result < 0)
			return result;
	}
	return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* Under the lock. */
static int extract_into(int parent, const char *name, int fd, uint64_t offset, uint64_t size, const char *directory, struct err *err)
{
	char partial[PATH_MAX], partial_name[NAME_MAX + 1];
	int result;

	snprintf(partial_name, sizeof partial_name, "%s.partial", name);
	if (snprintf(partial, sizeof partial, "%s.partial", directory) >= (int)sizeof partial)
		return fail(err, ENAMETOOLONG, STEP, "%s", directory);
	result = remove_tree(parent, partial_name, 0);
	if (result < 0)
		return fail(err, -result, STEP, "remove %s, left by an interrupted run", partial);
	result = image_extract(fd, offset, size, partial, NULL, NULL, err);
	/* On disk before it has its name: after a crash of the machine there must be no complete directory with empty files in it. */
	if (result == 0 && (syncfs(parent) < 0 || renameat(parent, partial_name, parent, name) < 0))
		result = fail(err, errno, STEP, "%s", directory);
	if (result < 0)
		(void)!remove_tree(parent, partial_name, 0);
	return result;
}

int extracted_directory(int fd, uint64_t offset, uint64_t size, const char *directory, struct err *err)
{
	const char *name = strrchr(directory, '/') + 1;
	int result;

	if (name[0] == '\0' || strlen(name) + sizeof ".partial" > NAME_MAX)
		return fail(err, EINVAL, STEP, "%s is no name for a directory", directory);
	cleanup_fd int parent = place_open_parent(directory, STEP, err);
	if (parent < 0)
		return parent;
	result = is_there(parent, name, directory, err);
	if (result != 0)
		return result < 0 ? result : 0;
	cleanup_fd int lock = place_lock(parent, name, directory, STEP, err);
	if (lock < 0)
		return lock;
	result = is_there(parent, name, directory, err);
	if (result == 0)
		return extract_into(parent, name, fd, offset, size, directory, err);
	return result < 0 ? result : 0;
}
