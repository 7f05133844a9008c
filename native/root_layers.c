#include "root_layers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define STEP "merge the layers"
/* glibc has these only since 2.36. */
#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC 1
#define FSMOUNT_CLOEXEC 1
#define FSCONFIG_SET_FLAG 0
#define FSCONFIG_SET_STRING 1
#define FSCONFIG_CMD_CREATE 6
#define MOUNT_ATTR_NOSUID 2
#define MOUNT_ATTR_NODEV 4
#endif
/* The kernel merges 500 directories; skeleton and image are two. */
#define LAYERS_MAX 490u
#define OPTIONS_MAX 4096u
/* Of a directory's xattrs. */
#define XATTRS_MAX 65536u

static int name_layer(const struct root *root, const char *path, const char *name, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return fail(err, errno == 0 ? ENOTDIR : errno, STEP, "%s", path);
	return symlinkat(path, root->scratch, name) < 0 ? fail(err, errno, STEP, "%s", path) : 0;
}

/* "lowerdir=" with the names, the uppermost first. */
static size_t lower_option(char *options, const struct root *root, const char *first)
{
	size_t len = (size_t)snprintf(options, OPTIONS_MAX, "lowerdir=%s", first);

	for (size_t i = root->layers->count; i > 0; i--)
		len += (size_t)snprintf(options + len, OPTIONS_MAX - len, "%zu:", i);
	return len + (size_t)snprintf(options + len, OPTIONS_MAX - len, "image");
}

int layers_begin(struct root *root, struct err *err)
{
	const struct layers *layers = root->layers;
	char options[OPTIONS_MAX];
	int result = 0;

	if (layers->count > LAYERS_MAX)
		return fail(err, E2BIG, STEP, "%zu layers are more than the %u that can be merged", layers->count, LAYERS_MAX);
	for (size_t i = 0; result == 0 && i < layers->count; i++) {
		char name[24];

		snprintf(name, sizeof name, "%zu", i + 1);
		errno = 0;
		result = name_layer(root, layers->lower[i], name, err);
	}
	errno = 0;
	if (result == 0 && layers->upper != NULL)
		result = name_layer(root, layers->upper, "upper", err);
	errno = 0;
	if (result == 0 && layers->upper != NULL)
		result = name_layer(root, layers->work, "work", err);
	if (result < 0 || layers->count == 0)
		return result;
	/* Where mount points are missing can be seen only with what the layers delete taken away. */
	snprintf(options + lower_option(options, root, ""), 16, ",userxattr");
	if (fchdir(root->scratch) < 0 || mkdir("merged", 0755) < 0 || mount("tsrun", "merged", "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, options) < 0)
		return fail(err, errno, STEP, "an overlay of %zu layers", layers->count);
	close_fd(&root->tree.image);
	root->tree.image = openat(root->scratch, "merged", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root->tree.image < 0 ? fail(err, errno, STEP, "open it") : 0;
}

/* --- the skeleton below an upper layer --- */

static void copy_xattrs(const char *from, const char *to)
{
	cleanup_free char *names = malloc(2 * XATTRS_MAX);
	ssize_t len = names == NULL ? -1 : listxattr(from, names, XATTRS_MAX);

	for (const char *name = names; len > 0 && name < names + len; name += strlen(name) + 1) {
		char *value = names + XATTRS_MAX;
		ssize_t got = strncmp(name, "user.overlay.", 13) == 0 ? -1 : getxattr(from, name, value, XATTRS_MAX);

		if (got >= 0)
			(void)setxattr(to, name, value, (size_t)got, 0);
	}
}

/* A directory of the skeleton looks as the image's does, also where it is copied up. What cannot be had (an owner who is not mapped here, xattrs
 * on a tmpfs before Linux 6.6) the payload would not have got from the image either, or loses for this one directory. */
static void match_directory(int skeleton, int image, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	char from[32], to[32];

	snprintf(from, sizeof from, "/proc/self/fd/%d", image);
	snprintf(to, sizeof to, "/proc/self/fd/%d", skeleton);
	if (fchown(skeleton, st->st_uid, st->st_gid) == 0)
		(void)fchmod(skeleton, st->st_mode & 07777);
	copy_xattrs(from, to);
	(void)futimens(skeleton, times);
}

static int match_tree(int skeleton, int image)
{
	int listing = openat(skeleton, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = listing < 0 ? NULL : fdopendir(listing);
	const struct dirent *entry;
	struct stat st;
	int result = 0;

	if (dir == NULL) {
		close_fd(&listing);
		return -errno;
	}
	while (result == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		cleanup_fd int below_image = openat(image, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		cleanup_fd int below = openat(skeleton, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (below < 0)
			result = -errno;
		else if (below_image >= 0)
			result = match_tree(below, below_image);
	}
	if (result == 0 && errno != 0)
		result = -errno;
	if (result == 0 && fstat(image, &st) == 0)
		match_directory(dirfd(dir), image, &st);
	closedir(dir);
	return result;
}

static int match_skeleton(const struct root *root)
{
	cleanup_fd int image = openat(root->tree.image, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return image < 0 ? -errno : match_tree(root->tree.skeleton, image);
}

/* --- the overlay --- */

/* A tmpfs with "upper" and "work" in it. */
static int make_writes(const struct root *root, uint64_t size)
{
	char options[64] = "mode=0755";
	int result;

	if (mkdir("writes", 0755) < 0)
		return -errno;
	cleanup_fd int writes = openat(root->scratch, "writes", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (size > 0)
		snprintf(options, sizeof options, "mode=0755,size=%llu", (unsigned long long)size);
	result = writes < 0 ? -errno : mount_new("tmpfs", writes, 0, options);
	if (result < 0)
		return result;
	return fchdir(root->scratch) < 0 || mkdir("writes/upper", 0755) < 0 || mkdir("writes/work", 0755) < 0 ? -errno : 0;
}

int layers_mount(const struct root *root, const struct root_options *options)
{
	unsigned long flags = MS_NODEV | (options->set_ids ? 0 : MS_NOSUID);
	bool keep = root->layers->upper != NULL;
	char text[OPTIONS_MAX];
	size_t len = lower_option(text, root, "skeleton:");
	int result = 0;

	if (fchdir(root->scratch) < 0)
		return -errno;
	if (keep)
		result = match_skeleton(root);
	else if (options->writable)
		result = make_writes(root, options->size);
	if (result < 0)
		return result;
	/* userxattr: without it a user namespace cannot mark directories opaque (mkdir over a removed one fails), nor read a layer's marks. volatile: a layer that was
	 * not finished is thrown away, so nothing has to wait for the disk. */
	if (keep)
		snprintf(text + len, sizeof text - len, ",upperdir=upper,workdir=work,userxattr,volatile");
	else if (options->writable)
		snprintf(text + len, sizeof text - len, ",upperdir=writes/upper,workdir=writes/work,userxattr");
	else if (root->layers->count > 0)
		snprintf(text + len, sizeof text - len, ",userxattr");
	if (!keep && !options->writable)
		flags |= MS_RDONLY;
	return mount("tsrun", ".", "overlay", flags, text) < 0 ? -errno : 0;
}

/* --- an overlay that grows --- */

/* Attached nowhere: -EINVAL before Linux 6.5. */
static int new_overlay(const char *const (*options)[2], size_t count)
{
	cleanup_fd int context = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);

	if (context < 0)
		return -errno;
	for (size_t i = 0; i < count; i++) {
		bool has_value = options[i][1] != NULL;

		if (syscall(SYS_fsconfig, context, has_value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, options[i][0], options[i][1], 0) < 0)
			return -errno;
	}
	if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	int fd = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return fd < 0 ? -errno : fd;
}

int layers_grow(const struct root *root, unsigned number, bool attached)
{
	char upper[24], work[24], text[128];
	const char *const options[][2] = {{"source", "tsrun"}, {"lowerdir", "skeleton:image"}, {"upperdir", upper}, {"workdir", work}, {"userxattr", NULL}};
	struct stat st;

	snprintf(upper, sizeof upper, "upper%u", number);
	snprintf(work, sizeof work, "work%u", number);
	if (fchdir(root->scratch) < 0 || fstatat(root->scratch, "skeleton", &st, 0) < 0 || mkdir(upper, st.st_mode & 07777) < 0 || mkdir(work, 0755) < 0)
		return -errno;
	if (!attached)
		return new_overlay(options, ARRAY_LEN(options));
	snprintf(text, sizeof text, "lowerdir=skeleton:image,upperdir=%s,workdir=%s,userxattr", upper, work);
	return mount("tsrun", ".", "overlay", MS_NOSUID | MS_NODEV, text) < 0 ? -errno : 0;
}
