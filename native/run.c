#include "run.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "exec.h"
#include "extracted.h"
#include "init.h"
#include "mount.h"
#include "root.h"
#include "server.h"
#include "userns.h"

/* What is known of a mount operation before it is carried out. */
struct source {
	dev_t device;
	ino_t inode;
	mode_t mode;
	bool left_out; /* optional and not possible */
};

struct run {
	const struct plan *plan;
	const struct kept_files *files;
	size_t index;           /* of the op in hand: what a failure is blamed on */
	size_t userns_index;
	struct source *sources; /* for each op */
	int userns;             /* the scope's, or -1 */
	int image;              /* the image's mount, attached nowhere, or -1 */
	const char *image_directory;
	struct stat image_stat; /* of image_directory in the caller's view */
	int cwd;
	bool own_pids;
	struct init init;
	mode_t umask;
	struct root root;
	struct mounted_path *mounted;
};

/* --- in the caller's namespaces --- */

static int open_image(const struct run *run, int64_t handle, const char *path, struct err *err)
{
	int fd = handle >= 0 ? run->files->take(run->files->context, handle) : open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(err, handle >= 0 ? -fd : errno, "open the image", "%s", path);
	return fd;
}

/* Joins the scope; the server mounts the image when there is one (-1: only the user namespace is wanted). */
static int join_scope(struct run *run, int image, uint64_t offset, uint64_t size, struct err *err)
{
	const struct op *op = &run->plan->ops[run->userns_index];
	struct server_reply reply = {.userns_fd = -1, .mount_fd = -1};
	int result;

	if (op->kind != OP_scope)
		return 0;
	const struct server_request request = {
		.dir = op->scope.dir,
		.key = op->scope.key,
		.uid = (uid_t)op->scope.uid,
		.gid = (gid_t)op->scope.gid,
		.image_fd = image,
		.offset = offset,
		.size = size,
		.linger_ms = (uint32_t)op->scope.linger_ms,
		.cache_bytes = op->scope.cache_bytes,
	};
	result = server_join(&request, &reply, err);
	run->userns = reply.userns_fd;
	run->image = reply.mount_fd;
	return result;
}

static int use_directory(struct run *run, const char *path, struct err *err)
{
	run->image_directory = path;
	if (stat(path, &run->image_stat) < 0)
		return fail(err, errno, "open the image", "%s", path);
	if (!S_ISDIR(run->image_stat.st_mode))
		return fail(err, ENOTDIR, "open the image", "%s", path);
	return join_scope(run, -1, 0, 0, err);
}

static int do_image_mount(struct run *run, const struct op_image_mount *op, struct err *err)
{
	cleanup_fd int fd = open_image(run, op->handle, op->path, err);

	return fd < 0 ? fd : join_scope(run, fd, op->offset, op->size, err);
}

static int do_image_extracted(struct run *run, const struct op_image_extracted *op, struct err *err)
{
	cleanup_fd int fd = open_image(run, op->handle, op->path, err);
	int result = fd < 0 ? fd : extracted_directory(fd, op->offset, op->size, op->directory, err);

	return result < 0 ? result : use_directory(run, op->directory, err);
}

/* Looks at a bind's source where the caller sees it. Going through a directory (by "/.") makes an automounter mount it. */
static int look_at_source(const char *path, struct stat *st)
{
	char through[PATH_MAX + 2];

	snprintf(through, sizeof through, "%s/.", path);
	if (stat(through, st) == 0)
		return 0;
	if (errno != ENOTDIR && errno != EACCES && errno != ENAMETOOLONG)
		return -errno;
	return stat(path, st) < 0 ? -errno : 0;
}

static int look_at_sources(struct run *run, struct err *err)
{
	for (size_t i = run->index; run->plan->ops[i].kind != OP_pivot; i++) {
		const struct op *op = &run->plan->ops[i];
		struct source *source = &run->sources[i];
		struct stat st = {.st_mode = S_IFDIR};
		int result = 0;

		if (op->kind == OP_bind)
			result = look_at_source(op->bind.source, &st);
		else if (op->kind == OP_bind_cwd)
			result = stat(".", &st) < 0 ? -errno : 0;
		*source = (struct source){.device = st.st_dev, .inode = st.st_ino, .mode = st.st_mode};
		if (result == 0)
			continue;
		source->left_out = op->kind == OP_bind ? (op->bind.flags & FLAG_bind_optional) != 0 : (op->bind_cwd.flags & FLAG_bind_cwd_optional) != 0;
		if (!source->left_out) {
			run->index = i;
			return fail(err, -result, "find the source", "%s", op->kind == OP_bind ? op->bind.source : ".");
		}
	}
	return 0;
}

/* --- into namespaces of its own --- */

static int enter_userns(struct run *run, struct err *err)
{
	size_t index = run->index;
	const struct op *op = &run->plan->ops[run->userns_index];
	int result;

	run->index = run->userns_index;
	result = op->kind == OP_scope ? userns_join(run->userns, err) : userns_new((uid_t)op->userns.uid, (gid_t)op->userns.gid, err);
	if (result == 0)
		run->index = index;
	return result;
}

/* A new network namespace has nothing but a loopback device that is down. */
static int bring_up_loopback(struct err *err)
{
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	return fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? fail(err, errno, "start the loopback device", "lo") : 0;
}

/* The image as a mount of this run's namespace. */
static int copy_image(const struct run *run, struct mount_source *copy, struct err *err)
{
	struct bind_flags flags = ROOT_IMAGE_FLAGS;
	struct stat st;
	int result;

	if (run->image_directory == NULL) {
		result = mount_copy(copy, run->image, "", &flags);
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

static int do_unshare(struct run *run, const struct op_unshare *op, struct err *err)
{
	static const struct {
		uint64_t flag;
		int clone;
	} namespaces[] = {
		{FLAG_unshare_mount, CLONE_NEWNS}, {FLAG_unshare_pid, CLONE_NEWPID}, {FLAG_unshare_ipc, CLONE_NEWIPC},
		{FLAG_unshare_uts, CLONE_NEWUTS},  {FLAG_unshare_net, CLONE_NEWNET},
	};
	int clone = 0;
	int result = look_at_sources(run, err);

	if (result == 0)
		result = enter_userns(run, err);
	if (result < 0)
		return result;
	for (size_t i = 0; i < ARRAY_LEN(namespaces); i++)
		clone |= (op->flags & namespaces[i].flag) != 0 ? namespaces[i].clone : 0;
	if (unshare(clone) < 0)
		return fail(err, errno, "make namespaces", "unshare");
	run->own_pids = (clone & CLONE_NEWPID) != 0;
	/* unshare has moved the working directory into the new mount namespace; only from there can it be bound. */
	run->cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if ((clone & CLONE_NEWNET) != 0 && (result = bring_up_loopback(err)) < 0)
		return result;
	if (run->own_pids && (result = init_split(&run->init, err)) < 0)
		return result;
	cleanup_source struct mount_source image = MOUNT_SOURCE_NONE;
	result = copy_image(run, &image, err);
	if (result < 0)
		return result;
	run->umask = umask(0);
	return root_begin(&run->root, &image, err);
}

/* --- the root and what is mounted in it --- */

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
	struct spot spot;
	int result = tree_walk(tree, op_target(op), directory ? S_IFDIR | 0755 : S_IFREG | 0644, &spot, err);

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

		if (run->sources[i].left_out || op->kind == OP_directory || op->kind == OP_file || op->kind == OP_symlink)
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

static int do_root(struct run *run, const struct op_root *op, struct err *err)
{
	struct tree *tree = &run->root.tree;
	int result;

	run->mounted = calloc(run->plan->count, sizeof *run->mounted);
	if (run->mounted == NULL)
		return fail(err, ENOMEM, "prepare the targets", "%zu ops", run->plan->count);
	tree->mounted = run->mounted;
	result = make_targets(run, err);
	if (result == 0)
		result = root_seal(&run->root, (op->flags & FLAG_root_writable) != 0, op->size, err);
	/* From here on content is made inside the run, through whatever is mounted there. */
	close_fd(&tree->image);
	*tree = (struct tree){.skeleton = run->root.fd, .image = -1};
	return result;
}

static int open_target(const struct run *run, const char *target, struct err *err)
{
	int fd = path_open(run->root.fd, target);

	return fd < 0 ? fail(err, -fd, "open the target", "%s", target) : fd;
}

static int bind_one(const struct run *run, int dirfd, const char *path, const char *target, const struct bind_flags *flags, struct err *err)
{
	const struct source *seen = &run->sources[run->index];
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
	if (st.st_dev != seen->device || st.st_ino != seen->inode)
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

	return bind_one(run, AT_FDCWD, op->source, op->target, &flags, err);
}

static int do_bind_cwd(const struct run *run, const struct op_bind_cwd *op, struct err *err)
{
	const struct bind_flags flags = {.recursive = (op->flags & FLAG_bind_cwd_recursive) != 0,
	                                 .read_only = (op->flags & FLAG_bind_cwd_ro) != 0,
	                                 .devices = (op->flags & FLAG_bind_cwd_dev) != 0};

	return run->cwd < 0 ? fail(err, ENOENT, "find the source", ".") : bind_one(run, run->cwd, "", op->target, &flags, err);
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

/* --- inside --- */

static int do_notice(const struct op_notice *op)
{
	const struct iovec line[] = {{(void *)(uintptr_t)op->text, strlen(op->text)}, {(char[]){"\n"}, 1}};

	/* A message that cannot be shown is no reason not to run. */
	(void)!writev(STDERR_FILENO, line, 2);
	return 0;
}

static int do_exec(struct run *run, const struct op_exec *op, struct err *err)
{
	size_t count = run->plan->count;
	cleanup_free char **strings = calloc(count + 2, sizeof *strings);
	size_t args = 0, assignments = 0;
	char **envp;
	int result;

	if (strings == NULL)
		return fail(err, ENOMEM, "run the program", "%zu ops", count);
	for (size_t i = 0; i < count; i++)
		args += run->plan->ops[i].kind == OP_arg;
	envp = strings + args + 1;
	args = 0;
	for (size_t i = 0; i < count; i++) {
		const struct op *each = &run->plan->ops[i];

		if (each->kind == OP_arg)
			strings[args++] = (char *)(uintptr_t)each->arg.text;
		else if (each->kind == OP_env)
			envp[assignments++] = (char *)(uintptr_t)each->env.assignment;
	}
	umask(run->umask);
	if (run->own_pids && (result = init_fork_payload(&run->init, err)) < 0)
		return result;
	return payload_exec(op->file, strings, envp, err);
}

static int carry_out(struct run *run, const struct op *op, struct err *err)
{
	if (run->sources[run->index].left_out)
		return 0;
	switch (op->kind) {
	case OP_scope:
	case OP_userns:
		run->userns_index = run->index; /* entered with the other namespaces */
		return 0;
	case OP_image_mount:
		return do_image_mount(run, &op->image_mount, err);
	case OP_image_directory:
		return use_directory(run, op->image_directory.path, err);
	case OP_image_extracted:
		return do_image_extracted(run, &op->image_extracted, err);
	case OP_unshare:
		return do_unshare(run, &op->unshare, err);
	case OP_directory:
		return tree_directory(&run->root.tree, op->directory.target, (mode_t)op->directory.mode, err);
	case OP_file:
		return tree_file(&run->root.tree, op->file.target, (mode_t)op->file.mode, op->file.content, err);
	case OP_symlink:
		return tree_symlink(&run->root.tree, op->symlink.target, op->symlink.link, err);
	case OP_root:
		return do_root(run, &op->root, err);
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
	case OP_pivot:
		return root_pivot(&run->root, err);
	case OP_hostname:
		return sethostname(op->hostname.name, strlen(op->hostname.name)) < 0 ? fail(err, errno, "set the host name", "%s", op->hostname.name) : 0;
	case OP_no_new_privs:
		return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? fail(err, errno, "set no_new_privs", "prctl") : 0;
	case OP_notice:
		return do_notice(&op->notice);
	case OP_chdir:
		return chdir(op->chdir.path) < 0 ? fail(err, errno, "enter the directory", "%s", op->chdir.path) : 0;
	case OP_env:
	case OP_arg:
		return 0; /* collected by exec */
	case OP_exec:
		return do_exec(run, &op->exec, err);
	case OP_COUNT:
		break;
	}
	return fail(err, EPROTO, "carry out the plan", "unknown op");
}

void run_plan(const struct plan *plan, const struct kept_files *files, struct failure *failure)
{
	struct run run = {.plan = plan, .files = files, .userns = -1, .image = -1, .cwd = -1, .root = ROOT_NONE};
	int result = 0;

	memset(failure, 0, sizeof *failure);
	run.sources = calloc(plan->count, sizeof *run.sources);
	if (run.sources == NULL)
		result = fail(&failure->err, ENOMEM, "carry out the plan", "%zu ops", plan->count);
	for (; result == 0 && run.index < plan->count; run.index++) {
		const struct op *op = &plan->ops[run.index];

		result = carry_out(&run, op, &failure->err);
		if (result < 0)
			break;
	}
	failure->index = run.index;
	failure->op = plan->ops[run.index].kind;
	free(run.sources);
	for (size_t i = 0; run.mounted != NULL && i < plan->count; i++)
		free(run.mounted[i].path);
	free(run.mounted);
}

int failure_status(const struct failure *failure)
{
	if (failure->op != OP_exec)
		return 125;
	if (failure->err.errnum == ENOENT)
		return 127;
	return failure->err.errnum == EACCES || failure->err.errnum == ENOEXEC ? 126 : 125;
}
