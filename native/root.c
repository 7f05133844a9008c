#include "root.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "root_layers.h"

#define STEP "make the root"
#define DIR_FLAGS (O_PATH | O_DIRECTORY | O_CLOEXEC)

/* For parts of the image; its own flags, and for what is mounted below. */
static const struct bind_flags sealed = {.recursive = true, .read_only = true};

/* ".." of the root is the root, with what is mounted over it. */
static int open_uppermost(void)
{
	return open("/..", DIR_FLAGS);
}

static int make_scratch(struct root *root, struct err *err)
{
	/* Over "/": paths that begin with "/" still start at the root below it, so the host's files stay in reach until the pivot. */
	if (mount("tsrun", "/", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0)
		return fail(err, errno, STEP, "tmpfs");
	root->scratch = open_uppermost();
	if (root->scratch < 0 || mkdirat(root->scratch, "skeleton", 0755) < 0 || mkdirat(root->scratch, "image", 0755) < 0)
		return fail(err, errno, STEP, "tmpfs");
	root->tree.skeleton = openat(root->scratch, "skeleton", DIR_FLAGS);
	return root->tree.skeleton < 0 ? fail(err, errno, STEP, "tmpfs") : 0;
}

int root_begin(struct root *root, struct mount_source *image, const struct layers *layers, const struct root_options *options, struct err *err)
{
	struct stat st;
	int result = make_scratch(root, err);

	root->layers = layers;
	if (result < 0)
		return result;
	cleanup_fd int target = openat(root->scratch, options->in_place ? "." : "image", DIR_FLAGS);
	result = target < 0 ? -errno : mount_attach(image, target);
	/* Without open_tree it shows only now that a directory has the host's mounts below it and may only be bound with them. */
	if (result == -EINVAL && !image->is_copy && !image->flags.recursive) {
		image->flags.recursive = true;
		result = mount_attach(image, target);
	}
	if (result < 0)
		return fail(err, -result, STEP, "attach the image");
	if (options->in_place) {
		close_fd(&root->tree.skeleton);
		root->tree.skeleton = open_uppermost();
		return root->tree.skeleton < 0 ? fail(err, errno, STEP, "open the image's root") : 0;
	}
	root->tree.image = openat(root->scratch, "image", DIR_FLAGS);
	if (root->tree.image < 0)
		return fail(err, errno, STEP, "open the image's root");
	result = layers_begin(root, err);
	if (result < 0)
		return result;
	if (fstat(root->tree.image, &st) < 0)
		return fail(err, errno, STEP, "open the image's root");
	return fchmodat(root->scratch, "skeleton", st.st_mode & 07777, 0) < 0 ? fail(err, errno, STEP, "tmpfs") : 0;
}

/* One name of the image that the skeleton does not have. */
static int show_entry(int into, int image, const char *name, const struct stat *st)
{
	int result;

	if (S_ISLNK(st->st_mode)) {
		char link[PATH_MAX];
		ssize_t len = readlinkat(image, name, link, sizeof link - 1);

		if (len < 0)
			return -errno;
		link[len] = '\0';
		return symlinkat(link, into, name) < 0 ? -errno : 0;
	}
	if (S_ISDIR(st->st_mode)) {
		result = mkdirat(into, name, 0755);
	} else {
		result = openat(into, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (result >= 0)
			result = close(result);
	}
	if (result < 0)
		return -errno;
	cleanup_fd int source = openat(image, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	cleanup_fd int target = openat(into, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (source < 0 || target < 0)
		return -errno;
	cleanup_source struct mount_source copy = MOUNT_SOURCE_NONE;
	result = mount_copy(&copy, source, "", &sealed);
	return result < 0 ? result : mount_attach(&copy, target);
}

static void close_dir(DIR **dir)
{
	if (*dir != NULL)
		closedir(*dir);
}

/* Shows in the skeleton's directory `into` what `image` has, by binds; goes down only where both have a directory. */
static int show_image(int into, int image)
{
	int fd = openat(image, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__attribute__((cleanup(close_dir))) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (dir == NULL) {
		int result = -errno;

		close_fd(&fd);
		return result;
	}
	while (errno = 0, (entry = readdir(dir)) != NULL) {
		const char *name = entry->d_name;
		struct stat above, st;
		int result = 0;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		if (fstatat(image, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (fstatat(into, name, &above, AT_SYMLINK_NOFOLLOW) < 0) {
			result = show_entry(into, image, name, &st);
		} else if (S_ISDIR(above.st_mode) && S_ISDIR(st.st_mode)) {
			cleanup_fd int below_into = openat(into, name, DIR_FLAGS | O_NOFOLLOW);
			cleanup_fd int below_image = openat(image, name, DIR_FLAGS | O_NOFOLLOW);

			result = below_into < 0 || below_image < 0 ? -errno : show_image(below_into, below_image);
		}
		if (result < 0)
			return result;
	}
	return -errno;
}

/* For kernels and file systems that an overlay cannot be made of. */
static int mount_underlay(const struct root *root)
{
	static const struct bind_flags still_writable = {.recursive = false};
	static const struct bind_flags read_only = {.read_only = true};
	cleanup_source struct mount_source skeleton = MOUNT_SOURCE_NONE;
	int result = mount_copy(&skeleton, root->tree.skeleton, "", &still_writable);

	if (result == 0)
		result = mount_attach(&skeleton, root->scratch);
	if (result < 0)
		return result;
	cleanup_fd int into = open_uppermost();
	result = into < 0 ? -errno : show_image(into, root->tree.image);
	/* What was bound into it is read-only already. */
	return result < 0 ? result : mount_restrict(into, &read_only);
}

static int mount_root(struct root *root, const struct root_options *options, struct err *err)
{
	bool needs_overlay = options->writable || root->layers->upper != NULL || root->layers->count > 0;
	int overlay = layers_mount(root, options);

	if (overlay < 0 && needs_overlay)
		return fail(err, -overlay, STEP, root->layers->upper != NULL ? "an overlay that keeps what is written in %s" : "%s overlay above the image",
		            root->layers->upper != NULL ? root->layers->upper : options->writable ? "a writable" : "an");
	if (overlay < 0) {
		int underlay = mount_underlay(root);

		if (underlay < 0)
			return fail(err, -underlay, STEP, "binds of the image's directories, after an overlay was refused (%s)", strerror(-overlay));
	}
	root->shows_image_alone = overlay == 0 && !needs_overlay;
	return 0;
}

int root_seal(struct root *root, const struct root_options *options, struct err *err)
{
	int result = options->in_place ? 0 : mount_root(root, options, err);

	if (result < 0)
		return result;
	root->fd = open_uppermost();
	/* Not to be seen in a recursive bind of the host's "/". (Not earlier: an overlay's layer may not be unbindable.) */
	if (root->fd < 0 || fchdir(root->scratch) < 0 || mount(NULL, ".", NULL, MS_UNBINDABLE, NULL) < 0)
		return fail(err, errno, STEP, "open it");
	return 0;
}

int root_grow(struct root *root, unsigned number, bool attached)
{
	int result = layers_grow(root, number, attached);

	if (result < 0)
		return result;
	root->shows_image_alone = true;
	root->fd = attached ? open_uppermost() : result;
	return root->fd < 0 ? -errno : 0;
}

int root_take(struct root *root, int tree)
{
	static const struct bind_flags sealing = {.read_only = true};
	struct mount_source whole = {.fd = tree, .is_copy = true, .restricted = true};
	cleanup_fd int over = open("/", DIR_FLAGS);
	int result = over < 0 ? -errno : mount_attach(&whole, over);

	if (result == 0)
		result = mount_restrict(tree, &sealing);
	if (result == 0)
		root->fd = root->tree.skeleton = tree;
	return result;
}

int root_uncover(const struct root *root, const char *name, struct err *err)
{
	static const struct bind_flags as_they_are = {.recursive = false};
	cleanup_source struct mount_source copy = MOUNT_SOURCE_NONE;
	char in_image[NAME_MAX + 16], in_skeleton[NAME_MAX + 16];
	struct stat image, st;
	int result;

	if (!root->shows_image_alone)
		return 0;
	snprintf(in_image, sizeof in_image, "image/%s", name);
	snprintf(in_skeleton, sizeof in_skeleton, "skeleton/%s", name);
	if (fstatat(root->scratch, "image", &image, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, STEP, "look at the image");
	/* What is mounted there on the host is not of the image. */
	if (fstatat(root->scratch, in_image, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) || st.st_dev != image.st_dev ||
	    fstatat(root->scratch, in_skeleton, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	cleanup_fd int target = openat(root->fd, name, DIR_FLAGS | O_NOFOLLOW);
	result = target < 0 ? -errno : mount_copy(&copy, root->scratch, in_image, &as_they_are);
	if (result == -EINVAL)
		return 0; /* something of the host's is mounted below: the overlay hides it */
	if (result == 0)
		result = mount_attach(&copy, target);
	return result < 0 ? fail(err, -result, STEP, "bind the image's directory %s", name) : 0;
}

/* It lies over the host's root already, and becomes the process's own: what is below is out of reach for whoever has no rights in this namespace.
 * Nested namespaces work as well as after a pivot, and mounts are listed as after one: a process counts as chrooted only when its root is not
 * the uppermost mount of "/". */
static int cover(const struct root *root, struct err *err)
{
	return fchdir(root->fd) < 0 || chroot(".") < 0 ? fail(err, errno, "change the root", "cover the host's tree") : 0;
}

int root_enter(const struct root *root, bool lets_go, struct err *err)
{
	if (!lets_go)
		return cover(root, err);
	/* The scratch moves from over "/" to any place in the host's tree: then that tree is what lies uppermost after the pivot, and one unmount
	 * (they are what costs) takes both away. */
	if (fchdir(root->scratch) < 0 || mount(".", "/proc", NULL, MS_MOVE, NULL) < 0)
		return fail(err, errno, "change the root", "move the tmpfs");
	if (fchdir(root->fd) < 0)
		return fail(err, errno, "change the root", "enter it");
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return fail(err, errno, "change the root", "unmount the host's tree");
	} else if (errno == EINVAL) {
		/* The host's root is the kernel's first one, as on nodes that run from memory: it cannot be pivoted, only covered. */
		if (fchdir(root->scratch) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0)
			return fail(err, errno, "change the root", "cover the host's tree");
		return cover(root, err);
	} else {
		return fail(err, errno, "change the root", "pivot_root");
	}
	return chdir("/") < 0 ? fail(err, errno, "change the root", "enter it") : 0;
}
