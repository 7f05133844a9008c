/* Mount points of a step that works in a tree itself (no overlay to keep them out of it): made before, taken away after, and the directories they lie in
 * look as if nothing had been there. Nothing else uses the tree meanwhile. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer.h"
#include "path.h"

#define STEP "make the mount points"

/* The directory that holds `path` (resolved, without links), and its times. */
static int open_parent(int top, const char *path, struct timespec times[2])
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];
	struct stat st;
	int fd;

	snprintf(parent, sizeof parent, ".%.*s", (int)(slash - path), path);
	fd = openat(top, parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0) {
		times[0] = st.st_atim;
		times[1] = st.st_mtim;
	}
	return fd;
}

/* What had to be made for `path`, each name after the one it lies in. */
static int print_made(const char *first, const char *last)
{
	size_t length = strlen(first);

	/* A link with ".." behind what is missing: nobody's image, and what is left is an empty directory. */
	if (strncmp(first, last, length) != 0)
		return printf("%s%c%s%c", first, 0, last, 0);
	for (const char *at = last + length; at != NULL; at = strchr(at + 1, '/')) {
		printf("%.*s%c", (int)(at - last), last, 0);
		if (*at == '\0')
			return 0;
	}
	return printf("%s%c", last, 0);
}

static int make_point(const struct tree *tree, const char *path, struct err *err)
{
	size_t length = strlen(path);
	mode_t mode = path[length - 1] == '/' ? S_IFDIR | 0755 : S_IFREG | 0644;
	struct spot missing, made;
	struct timespec times[2];
	int result = tree_walk(tree, path, 0, &missing, err);

	if (result < 0 || missing.mode != 0)
		return result;
	cleanup_fd int parent = open_parent(tree->skeleton, missing.path, times);
	if (parent < 0)
		return fail(err, errno, STEP, "%s", path);
	result = tree_walk(tree, path, mode, &made, err);
	if (result == 0)
		print_made(missing.path, made.path);
	return result == 0 && futimens(parent, times) < 0 ? fail(err, errno, STEP, "%s", path) : result;
}

/* Only what is still as it was made: what the step has put there is its own. */
static int remove_point(const struct tree *tree, const char *path, struct err *err)
{
	const char *name = strrchr(path, '/');
	struct timespec times[2];
	struct spot spot;
	struct stat st;

	if (name == NULL || tree_walk(tree, path, 0, &spot, err) < 0 || strcmp(spot.path, path) != 0)
		return 0;
	cleanup_fd int parent = open_parent(tree->skeleton, path, times);
	if (parent < 0 || fstatat(parent, ++name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !(S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size == 0)))
		return 0;
	if (unlinkat(parent, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
		return errno == ENOTEMPTY || errno == EEXIST || errno == ENOENT ? 0 : fail(err, errno, "remove the mount points", "%s", path);
	return futimens(parent, times) < 0 ? fail(err, errno, "remove the mount points", "%s", path) : 0;
}

static int open_tree_at(const char *directory, struct tree *tree, struct err *err)
{
	*tree = TREE_NONE;
	tree->skeleton = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return tree->skeleton < 0 ? fail(err, errno, STEP, "%s", directory) : 0;
}

int layer_points(char **args, struct err *err)
{
	struct tree tree;
	int result = open_tree_at(args[0], &tree, err);

	for (char **path = args + 1; result == 0 && *path != NULL; path++)
		result = make_point(&tree, *path, err);
	close_fd(&tree.skeleton);
	return result;
}

int layer_unpoint(char **args, int count, struct err *err)
{
	struct tree tree;
	int result = open_tree_at(args[0], &tree, err);

	while (result == 0 && --count > 0)
		result = remove_point(&tree, args[count], err);
	close_fd(&tree.skeleton);
	return result;
}
