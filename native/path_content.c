/* The content operations of a plan: files and links made in the skeleton, in directories that the image may have. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "path_internal.h"

#define NEW_FILE (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC)

/* The image's directory at a resolved path; -1 where it has none. */
static int image_directory(int image, const char *path)
{
	int fd = path_open_plain(image, path[0] == '\0' ? "" : path + 1, O_DIRECTORY);

	if (fd >= 0 || errno == ENOENT || errno == ENOTDIR)
		return fd;
	/* Before Linux 5.6. */
	fd = path_open(image, path[0] == '\0' ? "/" : path);
	return fd < 0 ? -1 : fd;
}

static void forget_last(struct tree *tree)
{
	if (!tree->last.open)
		return;
	close_fd(&tree->last.skeleton);
	close_fd(&tree->last.image);
	tree->last.open = false;
}

void tree_close(struct tree *tree)
{
	forget_last(tree);
	close_fd(&tree->image);
}

/* tree->last becomes the directory that `parent` leads to. */
static int enter_parent(struct tree *tree, const char *path, const char *parent, struct err *err)
{
	struct spot spot;
	int result;

	forget_last(tree);
	result = tree_walk(tree, parent, S_IFDIR | 0755, &spot, err);
	if (result < 0)
		return result;
	if (!S_ISDIR(spot.mode))
		return fail(err, ENOTDIR, STEP, "%s (at %s)", path, spot.path);
	tree->last.skeleton = tree_skeleton_directory(tree, spot.path);
	if (tree->last.skeleton < 0)
		return fail(err, -tree->last.skeleton, STEP, "%s (at %s)", path, spot.path);
	tree->last.open = true;
	tree->last.image = tree->image < 0 ? -1 : image_directory(tree->image, spot.path);
	tree->last.path[0] = '\0';
	if (strlen(parent) < sizeof tree->last.path)
		strcpy(tree->last.path, parent);
	return 0;
}

/* The directory, in the skeleton, in which the last name of `path` is to be made; it stays the tree's. */
static int parent_in_skeleton(struct tree *tree, const char *path, const char **name, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];
	struct stat st;
	int result = 0;

	snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
	*name = slash + 1;
	/* Inside the run something may have been mounted on it since. */
	if (!tree->last.open || tree->image < 0 || parent[0] == '\0' || strcmp(parent, tree->last.path) != 0)
		result = enter_parent(tree, path, parent, err);
	if (result < 0)
		return result;
	/* A directory of the image would be merged with, or hidden by, something that is none. */
	if (tree->last.image >= 0 && fstatat(tree->last.image, *name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return fail(err, EISDIR, STEP, "%s is a directory of the image", path);
	return tree->last.skeleton;
}

int tree_directory(const struct tree *tree, const char *path, mode_t mode, struct err *err)
{
	struct spot spot;
	int result = tree_walk(tree, path, S_IFDIR | (mode & 07777), &spot, err);

	if (result == 0 && !S_ISDIR(spot.mode))
		return fail(err, ENOTDIR, STEP, "%s (at %s)", path, spot.path);
	return result;
}

int tree_file(struct tree *tree, const char *path, mode_t mode, const char *content, struct err *err)
{
	const char *name;
	int parent = parent_in_skeleton(tree, path, &name, err);
	int result;

	if (parent < 0)
		return parent;
	cleanup_fd int fd = openat(parent, name, NEW_FILE, mode & 07777);
	if (fd < 0 && errno == EEXIST) {
		if (unlinkat(parent, name, 0) < 0)
			return fail(err, errno, STEP, "%s", path);
		fd = openat(parent, name, NEW_FILE, mode & 07777);
	}
	if (fd < 0)
		return fail(err, errno, STEP, "%s", path);
	result = write_full(fd, content, strlen(content));
	return result < 0 ? fail(err, -result, STEP, "%s", path) : 0;
}

int tree_symlink(struct tree *tree, const char *path, const char *link, struct err *err)
{
	const char *name;
	int parent = parent_in_skeleton(tree, path, &name, err);

	if (parent < 0)
		return parent;
	if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		return fail(err, errno, STEP, "%s", path);
	return symlinkat(link, parent, name) < 0 ? fail(err, errno, STEP, "%s", path) : 0;
}

int tree_owner(struct tree *tree, const char *path, uid_t uid, gid_t gid, struct err *err)
{
	const char *name;
	int parent = parent_in_skeleton(tree, path, &name, err);

	if (parent < 0)
		return parent;
	return fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ? fail(err, errno, STEP, "the owner of %s", path) : 0;
}
