#include "run.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "exec.h"
#include "layout.h"
#include "owners.h"
#include "run_state.h"

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

static int do_root(struct run *run, struct err *err)
{
	struct tree *tree = &run->root.tree;
	int result;

	run->mounted = calloc(run->plan->count, sizeof *run->mounted);
	if (run->mounted == NULL)
		return fail(err, ENOMEM, "prepare the targets", "%zu ops", run->plan->count);
	tree->mounted = run->mounted;
	result = make_targets(run, err);
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

/* --- inside --- */

static int do_notice(const struct op_notice *op)
{
	const struct iovec line[] = {{(void *)(uintptr_t)op->text, strlen(op->text)}, {(char[]){"\n"}, 1}};

	/* A message that cannot be shown is no reason not to run. */
	(void)!writev(STDERR_FILENO, line, 2);
	return 0;
}

static int do_owners(const struct run *run, const struct op_owners *op, struct err *err)
{
	int listener = owners_install((op->flags & FLAG_owners_devices) != 0, err);
	int result;

	if (listener < 0)
		return listener == -ENOSYS ? 0 : listener;
	result = init_give_listener(&run->init, listener);
	close(listener);
	return result < 0 ? fail(err, -result, "take care of owners", "give the launcher the listener") : 0;
}

static NOINLINE int do_ids(const struct op_ids *op, struct err *err)
{
	gid_t groups[PLAN_MAX_IDS];
	size_t count = 0;

	for (const char *at = op->groups; *at != '\0';) {
		char *end;

		groups[count++] = (gid_t)strtoul(at, &end, 10);
		at = end + (*end == ' ');
	}
	if (setgroups(count, groups) < 0)
		return fail(err, errno, "take the ids", "groups %s", op->groups);
	if (setresgid((gid_t)op->gid, (gid_t)op->gid, (gid_t)op->gid) < 0)
		return fail(err, errno, "take the ids", "gid %llu", (unsigned long long)op->gid);
	if (setresuid((uid_t)op->uid, (uid_t)op->uid, (uid_t)op->uid) < 0)
		return fail(err, errno, "take the ids", "uid %llu", (unsigned long long)op->uid);
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

bool run_keeps_rights(const struct run *run)
{
	const struct op *op = &run->plan->ops[run->userns_index];

	if (op->kind == OP_userns_ranges || run->own_pids)
		return true;
	return (op->kind == OP_scope ? op->scope.uid : op->userns.uid) == 0;
}

static int enter_root(struct run *run, struct err *err)
{
	int result = root_enter(&run->root, run_keeps_rights(run), err);

	return result < 0 ? result : layout_finish(run, err);
}

static int carry_out(struct run *run, const struct op *op, struct err *err)
{
	if (run->sources[run->index].left_out)
		return 0;
	switch (op->kind) {
	case OP_scope:
	case OP_userns:
	case OP_userns_ranges:
		run->userns_index = run->index; /* entered with the other namespaces */
		return 0;
	case OP_record:
		run->record = op->record.path;
		return 0;
	case OP_hot:
		run->hot = &op->hot;
		return 0;
	case OP_stage:
		run->stage = &op->stage;
		return 0;
	case OP_image_mount:
		return enter_image_mount(run, &op->image_mount, err);
	case OP_image_directory:
		return enter_image_directory(run, op->image_directory.path, err);
	case OP_image_extracted:
		return enter_image_extracted(run, &op->image_extracted, err);
	case OP_layer:
	case OP_upper:
		return 0; /* collected by unshare */
	case OP_unshare:
		return enter_unshare(run, &op->unshare, err);
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
	case OP_pivot:
		return enter_root(run, err);
	case OP_hostname:
		return sethostname(op->hostname.name, strlen(op->hostname.name)) < 0 ? fail(err, errno, "set the host name", "%s", op->hostname.name) : 0;
	case OP_no_new_privs:
		return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? fail(err, errno, "set no_new_privs", "prctl") : 0;
	case OP_owners:
		return do_owners(run, &op->owners, err);
	case OP_ids:
		return do_ids(&op->ids, err);
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
	struct run run = {.plan = plan, .files = files, .joined = SERVER_REPLY_NONE, .image = -1, .cwd = -ENOENT, .namespace = -1, .host_mounts = -1, .root = ROOT_NONE, .owners = OWNERS_NONE};
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
	free(run.layers.lower);
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
