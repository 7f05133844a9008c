/* Removing a tree that others have made: any modes, any depth, any names. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "layer.h"

#define STEP "remove the tree"

/* The way back up is by "..", and each directory on it is known again by its identity; so no number of descriptors bounds the depth. */
struct level {
	dev_t device;
	ino_t inode;
	char name[NAME_MAX + 1]; /* in the level above */
};

struct removal {
	const char *top; /* for messages */
	dev_t device;
	int dir; /* of the innermost level */
	struct level *levels;
	size_t depth, room;
};

static int failed(const struct removal *removal, const char *name, struct err *err)
{
	return fail(err, errno, STEP, "%s: %s", removal->top, name);
}

/* Goes into `name`, of which nobody else is to have access. */
static int enter(struct removal *removal, const char *name, struct err *err)
{
	struct stat st;
	int fd;

	if (removal->depth == removal->room) {
		size_t room = removal->room == 0 ? 16 : removal->room * 2;
		struct level *levels = realloc(removal->levels, room * sizeof *levels);

		if (levels == NULL)
			return fail(err, ENOMEM, STEP, "%s", removal->top);
		removal->levels = levels;
		removal->room = room;
	}
	fd = openat(removal->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		close_fd(&fd);
		return failed(removal, name, err);
	}
	if (removal->depth > 0 && st.st_dev != removal->device) {
		close(fd);
		return fail(err, EBUSY, STEP, "%s: something is mounted on %s", removal->top, name);
	}
	removal->device = st.st_dev;
	removal->levels[removal->depth] = (struct level){.device = st.st_dev, .inode = st.st_ino};
	strncpy(removal->levels[removal->depth].name, name, NAME_MAX);
	removal->depth++;
	close(removal->dir);
	removal->dir = fd;
	return 0;
}

/* Goes up, and removes what has been left; the top itself stays open. */
static int leave(struct removal *removal, struct err *err)
{
	const struct level *left = &removal->levels[removal->depth - 1];
	const struct level *above = left - 1;
	struct stat st;
	int fd = openat(removal->dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != above->device || st.st_ino != above->inode) {
		close_fd(&fd);
		return fail(err, ESTALE, STEP, "%s: somebody moves directories in it", removal->top);
	}
	close(removal->dir);
	removal->dir = fd;
	removal->depth--;
	return unlinkat(fd, left->name, AT_REMOVEDIR) < 0 ? failed(removal, left->name, err) : 0;
}

/* Removes all names but directories; returns 1 with the name of one of these, 0 when nothing is left. */
static int sweep(struct removal *removal, char name[NAME_MAX + 1], struct err *err)
{
	int fd = openat(removal->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int result = 0;

	if (listing == NULL) {
		close_fd(&fd);
		return failed(removal, ".", err);
	}
	while (result == 0 && (errno = 0, entry = readdir(listing)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(removal->dir, entry->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno == EISDIR) {
			strncpy(name, entry->d_name, NAME_MAX + 1);
			result = unlinkat(removal->dir, name, AT_REMOVEDIR) == 0 ? 0 : errno == ENOTEMPTY || errno == EEXIST ? 1 : failed(removal, name, err);
		} else {
			result = failed(removal, entry->d_name, err);
		}
	}
	if (result == 0 && errno != 0)
		result = failed(removal, ".", err);
	closedir(listing);
	return result;
}

static int remove_below(struct removal *removal, struct err *err)
{
	char name[NAME_MAX + 1];
	int result;

	for (;;) {
		result = sweep(removal, name, err);
		if (result == 1)
			result = enter(removal, name, err);
		else if (result == 0 && removal->depth == 1)
			return 0;
		else if (result == 0)
			result = leave(removal, err);
		if (result < 0)
			return result;
	}
}

int layer_remove(const char *path, struct err *err)
{
	struct removal removal = {.top = path, .dir = -1};
	struct stat st;
	int result;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : fail(err, errno, STEP, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return unlink(path) < 0 ? fail(err, errno, STEP, "%s", path) : 0;
	removal.dir = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	result = removal.dir < 0 ? fail(err, errno, STEP, "%s", path) : enter(&removal, path, err);
	if (result == 0)
		result = remove_below(&removal, err);
	close_fd(&removal.dir);
	free(removal.levels);
	if (result == 0 && rmdir(path) < 0)
		result = fail(err, errno, STEP, "%s", path);
	return result;
}
