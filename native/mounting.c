/* The part of a run from its own mount namespace to the root in which all is mounted. */
#include "mounting.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

/* The image as a mount of this run's namespace. */
static int copy_image(const struct run *run, struct mount_source *copy, struct err *err)
{
	const struct bind_flags in_place = {.set_ids = run->root_options.set_ids};
	struct bind_flags flags = run->root_options.in_place ? in_place : ROOT_IMAGE_FLAGS;
	struct stat st;
	int result;

	if (run->image_directory == NULL) {
		const struct server_reply *joined = &run->joined;

		if (joined->mount_is_own)
			result = mount_take(copy, joined->mount_fd, &flags);
		else if (joined->path[0] != '\0')
			result = mount_copy(copy, AT_FDCWD, joined->path, &flags);
		else
			result = mount_copy(copy, joined->mount_fd, "", &flags);
		return result < 0 ? fail(err, -result, "copy the image's mount", "from the scope's server") : 0;
	}
	result = mount_copy(copy, AT_FDCWD, run->image_directory, &flags);
	/* A directory with the host's mounts below it may only be copied with them. */
	if (result == -EINVAL) {
		flags.recursive = true;
		result = mount_copy(copy, AT_FDCWD, run->image_directory, &flags);
	}
	if (result < 0 || fstat(copy->fd, &st) < 0)
		return fail(err, result < 0 ? -result : errno, "open the image", "%s", run->image_directory);
	if (st.st_dev != run->image_stat.st_dev || st.st_ino != run->image_stat.st_ino)
		return fail(err, ESTALE, "open the image", "%s was replaced just now", run->image_directory);
	return 0;
}

int mounting_begin(struct run *run, struct err *err)
{
	cleanup_source struct mount_source image = MOUNT_SOURCE_NONE;
	int result = copy_image(run, &image, err);

	if (result < 0)
		return result;
	run->umask = umask(0);
	return root_begin(&run->root, &image, &run->layers, &run->root_options, err);
}

static bool is_optional(const struct op *op)
{
	return (op->kind == OP_bind && (op->bind.flags & FLAG_bind_optional) != 0) ||
	       (op->kind == OP_bind_cwd && (op->bind_cwd.flags & FLAG_bind_cwd_optional) != 0);
}

/* Sees to it that a mount's target is there, of the right kind. */
static int make_target(struct run *run, const struct op *op, const struct source *source, struct err *err)
{
	struct tree *tree = &run->root.tree;
	bool directory = S_ISDIR(source->mode);
	struct spot spot = {0};
	int result = 0;

	if (op->kind == OP_bind_cwd && (op->bind_cwd.flags & FLAG_bind_cwd_absent) != 0)
		result = tree_walk(tree, op_target(op), 0, &spot, err);
	if (result == 0 && spot.mode != 0 && !spot.below_mount)
		return fail(err, EEXIST, "prepare the target", "%s is in the image", op_target(op));
	if (result == 0)
		result = tree_walk(tree, op_target(op), directory ? S_IFDIR | 0755 : S_IFREG | 0644, &spot, err);
	if (result < 0 || spot.below_mount)
		return result;
	if (directory != S_ISDIR(spot.mode))
		return fail(err, directory ? ENOTDIR : EISDIR, "prepare the target", "%s is %s directory, what is to be mounted on it is %s", op_target(op),
		            directory ? "not a" : "a", directory ? "one" : "not");
	run->mounted[tree->mounted_count] = (struct mounted_path){.length = strlen(spot.path), .path = strdup(spot.path)};
	if (run->mounted[tree->mounted_count].path == NULL)
		return fail(err, ENOMEM, "prepare the target", "%s", op_target(op));
	tree->mounted_count++;
	return 0;
}

static int make_targets(struct run *run, struct err *err)
{
	size_t root_index = run->index;

	for (size_t i = root_index + 1; run->plan->ops[i].kind != OP_pivot; i++) {
		const struct op *op = &run->plan->ops[i];
		int result;

		if (run->sources[i].left_out || op->kind == OP_uncovered || op->kind == OP_directory || op->kind == OP_file || op->kind == OP_symlink || op->kind == OP_owner)
			continue;
		run->index = i;
		result = make_target(run, op, &run->sources[i], err);
		if (result < 0 && is_optional(op))
			run->sources[i].left_out = true;
		else if (result < 0)
			return result;
	}
	run->index = root_index;
	return 0;
}

int mounting_targets(struct run *run, struct err *err)
{
	run->mounted = calloc(run->plan->count, sizeof *run->mounted);
	if (run->mounted == NULL)
		return fail(err, ENOMEM, "prepare the targets", "%zu ops", run->plan->count);
	run->root.tree.mounted = run->mounted;
	return make_targets(run, err);
}

static int do_root(struct run *run, struct err *err)
{
	struct tree *tree = &run->root.tree;
	int result = mounting_targets(run, err);

	if (result == 0)
		result = root_seal(&run->root, &run->root_options, err);
	/* From here on content is made inside the run, through whatever is mounted there. */
	tree_close(tree);
	*tree = TREE_NONE;
	tree->skeleton = run->root.fd;
	return result;
}

static int open_target(const struct run *run, const char *target, struct err *err)
{
	int fd = path_open(run->root.fd, target);

	return fd < 0 ? fail(err, -fd, "open the target", "%s", target) : fd;
}

/* `seen`: what the source was for the caller; NULL: it is of the run. */
static int bind_one(const struct run *run, int dirfd, const char *path, const struct source *seen, const char *target, const struct bind_flags *flags, struct err *err)
{
	bool optional = is_optional(&run->plan->ops[run->index]);
	const char *name = path[0] == '\0' ? "the working directory" : path;
	cleanup_source struct mount_source source = MOUNT_SOURCE_NONE;
	int result = mount_copy(&source, dirfd, path, flags);
	struct stat st = {0};

	if (result < 0 && optional)
		return 0;
	if (result == -EINVAL && !flags->recursive)
		return fail(err, EINVAL, "bind", "%s: there are mounts below it, it can only be bound with them", name);
	if (result < 0 || fstat(source.fd, &st) < 0)
		return fail(err, result < 0 ? -result : errno, "find the source", "%s", name);
	if (seen != NULL && (st.st_dev != seen->device || st.st_ino != seen->inode))
		return fail(err, ESTALE, "find the source", "%s was replaced just now", name);
	cleanup_fd int at = open_target(run, target, err);
	if (at < 0)
		return optional ? 0 : at;
	result = mount_attach(&source, at);
	/* The kernel attaches nothing that has no name any more. */
	if (result == -ENOENT && st.st_nlink == 0)
		return optional ? 0 : fail(err, ENOENT, "bind", "%s: it has been removed", name);
	return result < 0 ? fail(err, -result, "bind", "%s on %s", name, target) : 0;
}

static int do_bind(const struct run *run, const struct op_bind *op, struct err *err)
{
	const struct bind_flags flags = {.recursive = (op->flags & FLAG_bind_recursive) != 0,
	                                 .read_only = (op->flags & FLAG_bind_ro) != 0,
	                                 .devices = (op->flags & FLAG_bind_dev) != 0};

	if ((op->flags & FLAG_bind_inside) != 0) {
		cleanup_fd int source = path_open(run->root.fd, op->source);

		return source < 0 ? fail(err, -source, "find the source", "%s", op->source) : bind_one(run, source, "", NULL, op->target, &flags, err);
	}
	return bind_one(run, AT_FDCWD, op->source, &run->sources[run->index], op->target, &flags, err);
}

static int do_bind_cwd(const struct run *run, const struct op_bind_cwd *op, struct err *err)
{
	const struct bind_flags flags = {.recursive = (op->flags & FLAG_bind_cwd_recursive) != 0,
	                                 .read_only = (op->flags & FLAG_bind_cwd_ro) != 0,
	                                 .devices = (op->flags & FLAG_bind_cwd_dev) != 0};

	if (run->cwd < 0)
		return (op->flags & FLAG_bind_cwd_optional) != 0 ? 0 : fail(err, -run->cwd, "find the source", ".");
	return bind_one(run, run->cwd, "", &run->sources[run->index], op->target, &flags, err);
}

static int mount_at(const struct run *run, const char *type, const char *target, unsigned long flags, const char *options, struct err *err)
{
	cleanup_fd int at = open_target(run, target, err);
	int result = at < 0 ? at : mount_new(type, at, flags, options);

	return at >= 0 && result < 0 ? fail(err, -result, "mount", "%s on %s", type, target) : result;
}

static int do_tmpfs(const struct run *run, const struct op_tmpfs *op, struct err *err)
{
	char options[64];
	int len = snprintf(options, sizeof options, "mode=%o", (unsigned)op->mode);

	if (op->size > 0)
		snprintf(options + len, sizeof options - (size_t)len, ",size=%llu", (unsigned long long)op->size);
	return mount_at(run, "tmpfs", op->target, 0, options, err);
}

int mounting_do(struct run *run, const struct op *op, struct err *err)
{
	switch (op->kind) {
	case OP_directory:
		return tree_directory(&run->root.tree, op->directory.target, (mode_t)op->directory.mode, err);
	case OP_file:
		return tree_file(&run->root.tree, op->file.target, (mode_t)op->file.mode, op->file.content, err);
	case OP_symlink:
		return tree_symlink(&run->root.tree, op->symlink.target, op->symlink.link, err);
	case OP_owner:
		return tree_owner(&run->root.tree, op->owner.target, (uid_t)op->owner.uid, (gid_t)op->owner.gid, err);
	case OP_root:
		return do_root(run, err);
	case OP_uncovered:
		return root_uncover(&run->root, op->uncovered.target + 1, err);
	case OP_bind:
		return do_bind(run, &op->bind, err);
	case OP_bind_cwd:
		return do_bind_cwd(run, &op->bind_cwd, err);
	case OP_tmpfs:
		return do_tmpfs(run, &op->tmpfs, err);
	case OP_proc:
		return mount_at(run, "proc", op->proc.target, MS_NOEXEC, NULL, err);
	case OP_sysfs:
		return mount_at(run, "sysfs", op->sysfs.target, MS_NOEXEC | MS_RDONLY, NULL, err);
	case OP_devpts:
		return mount_at(run, "devpts", op->devpts.target, MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620", err);
	case OP_mqueue:
		return mount_at(run, "mqueue", op->mqueue.target, MS_NOEXEC, NULL, err);
	default:
		return fail(err, EPROTO, "carry out the plan", "%s mounts nothing", op_name(op->kind));
	}
}
