#include "path_internal.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MAX_LINKS 40
#define MAX_STEPS 20000 /* components looked at in one walk: ".." in links starts it again */

#define NAME_FLAGS (O_PATH | O_NOFOLLOW | O_CLOEXEC)
#define NEW_FILE (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC)

/* A walk through both layers at once. A layer that has nothing here is -1. */
struct walk {
	const struct tree *tree;
	int skeleton;
	int image;
	char rest[PATH_MAX];
	unsigned links;
	unsigned steps;
};

static void replace_fd(int *slot, int fd)
{
	close_fd(slot);
	*slot = fd;
}

static void walk_close(struct walk *walk)
{
	replace_fd(&walk->skeleton, -1);
	replace_fd(&walk->image, -1);
}

static int walk_start(struct walk *walk, struct spot *spot)
{
	walk_close(walk);
	walk->skeleton = fcntl(walk->tree->skeleton, F_DUPFD_CLOEXEC, 0);
	if (walk->tree->image >= 0)
		walk->image = fcntl(walk->tree->image, F_DUPFD_CLOEXEC, 0);
	spot->path[0] = '\0';
	spot->mode = S_IFDIR | 0755;
	spot->below_mount = false;
	return walk->skeleton < 0 || (walk->tree->image >= 0 && walk->image < 0) ? -errno : 0;
}

/* What is left to walk becomes `prefix`/`middle`/`tail`. `tail` may lie in walk->rest. */
static int walk_redirect(struct walk *walk, const char *prefix, const char *middle, const char *tail)
{
	char rest[PATH_MAX];
	int len = snprintf(rest, sizeof rest, "%s/%s/%s", prefix, middle, tail);

	if (len < 0 || (size_t)len >= sizeof rest)
		return -ENAMETOOLONG;
	memcpy(walk->rest, rest, (size_t)len + 1);
	return 0;
}

static bool is_mounted(const struct tree *tree, const char *path)
{
	size_t length = strlen(path);

	for (size_t i = 0; i < tree->mounted_count; i++) {
		if (tree->mounted[i].length == length && memcmp(tree->mounted[i].path, path, length) == 0)
			return true;
	}
	return false;
}

/* The first component of *path into `name`, *path moved behind it. False at the end of the path. */
static bool next_name(const char **path, char name[NAME_MAX + 1], int *result)
{
	size_t len;

	*path += strspn(*path, "/");
	len = strcspn(*path, "/");
	if (len > NAME_MAX) {
		*result = -ENAMETOOLONG;
		return false;
	}
	memcpy(name, *path, len);
	name[len] = '\0';
	*path += len;
	return len > 0;
}

int path_open_plain(int root, const char *path, int flags)
{
	const struct open_how how = {.flags = (uint64_t)(O_PATH | O_CLOEXEC | flags), .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS};

	return (int)syscall(SYS_openat2, root, path[0] == '\0' ? "." : path, &how, sizeof how);
}

static bool is_below_mounted(const struct tree *tree, const char *path)
{
	for (size_t i = 0; i < tree->mounted_count; i++) {
		const struct mounted_path *mounted = &tree->mounted[i];

		if (strncmp(path, mounted->path, mounted->length) == 0 && path[mounted->length] == '/')
			return true;
	}
	return false;
}

static bool is_clean(const char *path)
{
	for (const char *slash = path; (slash = strchr(slash, '/')) != NULL; slash++) {
		if (slash[1] == '/' || slash[1] == '\0' || (slash[1] == '.' && (slash[2] == '/' || slash[2] == '.' || slash[2] == '\0')))
			return false;
	}
	return path[0] == '/';
}

/* Below a directory that has no such name in either layer: the last name of `path`, made as told. False: another way has to be found. */
static bool make_below_plain(const struct tree *tree, const char *path, mode_t make)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];
	cleanup_fd int directory = -1, file = -1;

	memcpy(parent, path, (size_t)(slash - path));
	parent[slash - path] = '\0';
	directory = path_open_plain(tree->skeleton, parent[0] == '\0' ? "" : parent + 1, O_DIRECTORY);
	if (directory < 0 && errno == ENOENT) {
		cleanup_fd int image = path_open_plain(tree->image, parent + 1, O_DIRECTORY);

		directory = image < 0 ? -1 : tree_skeleton_directory(tree, parent);
	}
	if (directory < 0)
		return false;
	if (S_ISDIR(make))
		return mkdirat(directory, slash + 1, make & 07777) == 0;
	file = openat(directory, slash + 1, NEW_FILE, make & 07777);
	return file >= 0;
}

/* Most paths hold no link: then the kernel walks them, in each layer at once. Of most that are missing only the last name is, and what is made there
 * is what was asked for. False: to be walked step by step. */
static bool walk_plain(const struct tree *tree, const char *path, mode_t make, struct spot *spot)
{
	cleanup_fd int image = -1, fd = -1;
	struct stat st = {.st_mode = make};
	int why = ENOENT;

	if (!is_clean(path) || is_below_mounted(tree, path))
		return false;
	image = tree->image < 0 ? -1 : path_open_plain(tree->image, path + 1, 0);
	if (image < 0 && tree->image >= 0)
		why = errno;
	if (image >= 0 && fstat(image, &st) < 0)
		return false;
	/* A directory of the image is one of the root as well: what is no directory is not made in its place. */
	if (image < 0 || !S_ISDIR(st.st_mode)) {
		fd = path_open_plain(tree->skeleton, path + 1, 0);
		/* ENOENT: up to the name that is missing there are only directories, which are merged with the image's. */
		if (fd >= 0 ? fstat(fd, &st) < 0 : errno != ENOENT)
			return false;
	}
	if (image < 0 && fd < 0 && (why != ENOENT || make == 0 || tree->image < 0 || !make_below_plain(tree, path, make)))
		return false;
	if (image < 0 && fd < 0)
		st.st_mode = make;
	strcpy(spot->path, path);
	spot->mode = st.st_mode;
	spot->below_mount = false;
	return true;
}

static int open_directory(int parent, const char *name)
{
	int fd = openat(parent, name, NAME_FLAGS | O_DIRECTORY);

	return fd < 0 ? -errno : fd;
}

/* The same for a name right below the root, the most usual case. */
static int skeleton_top(const struct tree *tree, const char *name)
{
	struct stat st;

	if (fstatat(tree->image, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || mkdirat(tree->skeleton, name, st.st_mode & 07777) < 0)
		return -errno;
	return open_directory(tree->skeleton, name);
}

int tree_skeleton_directory(const struct tree *tree, const char *path)
{
	cleanup_fd int skeleton = path_open_plain(tree->skeleton, path[0] == '\0' ? "" : path + 1, O_DIRECTORY);
	cleanup_fd int image = -1;
	char name[NAME_MAX + 1];
	int result = 0;

	if (skeleton >= 0)
		return steal_fd(&skeleton);
	/* Only if it is known not to be there: before Linux 5.6 it is not. */
	if (errno == ENOENT && path[0] == '/' && strchr(path + 1, '/') == NULL && tree->image >= 0)
		return skeleton_top(tree, path + 1);
	skeleton = fcntl(tree->skeleton, F_DUPFD_CLOEXEC, 0);
	image = tree->image < 0 ? -1 : fcntl(tree->image, F_DUPFD_CLOEXEC, 0);
	if (skeleton < 0)
		return -errno;
	while (next_name(&path, name, &result)) {
		int below_image = image < 0 ? -1 : openat(image, name, NAME_FLAGS | O_DIRECTORY);
		int below = open_directory(skeleton, name);

		replace_fd(&image, below_image);
		if (below == -ENOENT) {
			struct stat st = {.st_mode = 0755};

			if (image >= 0 && fstat(image, &st) < 0)
				return -errno;
			if (mkdirat(skeleton, name, st.st_mode & 07777) < 0)
				return -errno;
			below = open_directory(skeleton, name);
		}
		if (below < 0)
			return below;
		replace_fd(&skeleton, below);
	}
	return result < 0 ? result : steal_fd(&skeleton);
}

static int make_name(struct walk *walk, const char *path, const char *name, mode_t mode)
{
	if (walk->skeleton < 0) {
		walk->skeleton = tree_skeleton_directory(walk->tree, path);
		if (walk->skeleton < 0)
			return walk->skeleton;
	}
	if (S_ISDIR(mode))
		return mkdirat(walk->skeleton, name, mode & 07777) < 0 ? -errno : 0;
	cleanup_fd int fd = openat(walk->skeleton, name, NEW_FILE, mode & 07777);
	return fd < 0 ? -errno : 0;
}

/* Looks `name` up in both layers. `mode` is 0 when neither has it. */
static int look_up(const struct walk *walk, const char *name, int *skeleton, int *image, mode_t *mode)
{
	struct stat st = {0};

	*mode = 0;
	if (walk->skeleton >= 0) {
		*skeleton = openat(walk->skeleton, name, NAME_FLAGS);
		if ((*skeleton < 0 && errno != ENOENT) || (*skeleton >= 0 && fstat(*skeleton, &st) < 0))
			return -errno;
	}
	if (walk->image >= 0 && (*skeleton < 0 || S_ISDIR(st.st_mode))) {
		*image = openat(walk->image, name, NAME_FLAGS | (*skeleton < 0 ? 0 : O_DIRECTORY));
		if (*skeleton < 0 && ((*image < 0 && errno != ENOENT) || (*image >= 0 && fstat(*image, &st) < 0)))
			return -errno;
	}
	*mode = st.st_mode;
	return 0;
}

static int follow_link(struct walk *walk, int link, struct spot *spot, const char *tail)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(link, "", target, sizeof target - 1);

	if (len < 0)
		return -errno;
	if (len == 0)
		return -ENOENT;
	if (++walk->links > MAX_LINKS)
		return -ELOOP;
	target[len] = '\0';
	return walk_redirect(walk, target[0] == '/' ? "" : spot->path, target, tail);
}

/* One component. Returns 1 to go on, 0 at the end of the path, 2 when `rest` is to be walked from the root again. */
static int walk_step(struct walk *walk, const char **at, mode_t make, struct spot *spot)
{
	cleanup_fd int skeleton = -1;
	cleanup_fd int image = -1;
	char name[NAME_MAX + 1];
	size_t length = strlen(spot->path);
	bool last;
	mode_t mode;
	int result = 0;

	if (!next_name(at, name, &result))
		return result;
	if (++walk->steps > MAX_STEPS)
		return -ELOOP;
	last = (*at)[strspn(*at, "/")] == '\0';
	if (strcmp(name, ".") == 0)
		return 1;
	if (strcmp(name, "..") == 0) {
		char *slash = strrchr(spot->path, '/');

		if (slash != NULL)
			*slash = '\0';
		result = walk_redirect(walk, spot->path, "", *at);
		return result < 0 ? result : 2;
	}
	if (length + 1 + strlen(name) >= sizeof spot->path)
		return -ENAMETOOLONG;
	result = look_up(walk, name, &skeleton, &image, &mode);
	if (result == 0 && mode == 0 && make != 0) {
		result = make_name(walk, spot->path, name, last ? make : S_IFDIR | 0755);
		if (result == 0)
			result = look_up(walk, name, &skeleton, &image, &mode);
	}
	if (result == 0 && S_ISLNK(mode)) {
		result = follow_link(walk, skeleton >= 0 ? skeleton : image, spot, *at);
		return result < 0 ? result : 2;
	}
	spot->path[length] = '/';
	memcpy(spot->path + length + 1, name, strlen(name) + 1);
	if (result < 0)
		return result;
	spot->mode = mode;
	if (mode == 0 || (last && !S_ISDIR(mode)))
		return 0;
	if (!S_ISDIR(mode))
		return -ENOTDIR;
	replace_fd(&walk->skeleton, steal_fd(&skeleton));
	replace_fd(&walk->image, steal_fd(&image));
	if (is_mounted(walk->tree, spot->path)) {
		spot->below_mount = !last;
		return 0;
	}
	return 1;
}

/* (A function of its own: its buffers are pages of stack that the usual way does not touch.) */
static int __attribute__((noinline)) walk_by_steps(const struct tree *tree, const char *path, mode_t make, struct spot *spot)
{
	struct walk walk = {.tree = tree, .skeleton = -1, .image = -1};
	const char *at = walk.rest;
	int result;

	strcpy(walk.rest, path);
	result = walk_start(&walk, spot);
	if (result == 0)
		result = 1;
	while (result > 0) {
		result = walk_step(&walk, &at, make, spot);
		if (result == 2) {
			at = walk.rest;
			if ((result = walk_start(&walk, spot)) == 0)
				result = 1;
		}
	}
	walk_close(&walk);
	return result;
}

int tree_walk(const struct tree *tree, const char *path, mode_t make, struct spot *spot, struct err *err)
{
	int result;

	if (strlen(path) >= PATH_MAX)
		return fail(err, ENAMETOOLONG, STEP, "%.200s", path);
	if (walk_plain(tree, path, make, spot))
		return 0;
	result = walk_by_steps(tree, path, make, spot);
	if (result < 0)
		return fail(err, -result, STEP, "%s (at %s)", path, spot->path[0] == '\0' ? "/" : spot->path);
	return 0;
}

/* Kernels before 5.6 have no openat2: resolve the links here, then open what is left component by component. */
static int path_open_by_hand(int root, const char *path)
{
	struct tree tree = {.skeleton = root, .image = -1};
	struct spot spot;
	const char *at = spot.path;
	char name[NAME_MAX + 1];
	int result = tree_walk(&tree, path, 0, &spot, NULL);
	cleanup_fd int fd = -1;

	if (result < 0)
		return result;
	if (spot.mode == 0)
		return -ENOENT;
	fd = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	while (fd >= 0 && next_name(&at, name, &result))
		replace_fd(&fd, openat(fd, name, NAME_FLAGS));
	if (fd < 0)
		return -errno;
	return result < 0 ? result : steal_fd(&fd);
}

int path_open(int root, const char *path)
{
	const struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);

	/* EPERM is how older container runtimes' filters refuse calls they do not know. EAGAIN: while it went through a "..", somebody on this
	 * machine renamed or mounted something; on a busy node that may go on for long. */
	if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EAGAIN))
		return path_open_by_hand(root, path);
	return fd < 0 ? -errno : fd;
}
