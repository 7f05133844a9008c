#include "spare.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "layout.h"
#include "mounting.h"
#include "server_wire.h"
#include "statx.h"

#define STEP "make a root ahead"

/* --- moving in --- */

static int open_in(int root, const char *path, uint64_t flags, uint64_t resolve)
{
	const struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | resolve};
	int fd = (int)syscall(SYS_openat2, root, path[0] == '\0' ? "." : path, &how, sizeof how);

	return fd < 0 ? -errno : fd;
}

/* So nothing is mounted below it either. */
static bool is_empty(int root, const char *path)
{
	cleanup_fd int fd = open_in(root, path, O_RDONLY | O_DIRECTORY, 0);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (listing == NULL)
		return false;
	steal_fd(&fd);
	while ((errno = 0, entry = readdir(listing)) != NULL && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0))
		;
	bool empty = entry == NULL && errno == 0;
	closedir(listing);
	return empty;
}

/* Whether something can be mounted on what is there as if it had been mounted before all else. */
static int check_target(int root, const char *path, int target, bool directory)
{
	struct statx st;

	if (statx(target, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0)
		return -errno;
	if (directory != S_ISDIR(st.stx_mode) || (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0)
		return -EINVAL;
	return !directory || is_empty(root, path) ? 0 : -ENOTEMPTY;
}

/* The deepest directory on the way to `path` that is there, and of the root's own file system; *rest is what comes behind it. */
static int open_deepest(int root, const char *path, const char **rest)
{
	char parent[PATH_MAX];
	int fd = -ENOENT;

	strcpy(parent, path);
	while (fd == -ENOENT && parent[0] != '\0') {
		char *slash = strrchr(parent, '/');

		*(slash == NULL ? parent : slash) = '\0';
		fd = open_in(root, parent, O_PATH | O_DIRECTORY, RESOLVE_NO_XDEV);
	}
	*rest = path + strlen(parent) + (parent[0] != '\0');
	return fd;
}

static int make_target(int root, const char *path, bool directory)
{
	const char *rest;
	cleanup_fd int parent = open_deepest(root, path, &rest);

	while (parent >= 0) {
		size_t len = strcspn(rest, "/");
		bool last = rest[len] == '\0';
		char name[NAME_MAX + 1];
		int next = -1;

		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, rest, len);
		name[len] = '\0';
		rest += len + !last;
		if (last && !directory)
			next = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		else if (mkdirat(parent, name, 0755) == 0)
			next = last ? 0 : openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -errno;
		if (last) {
			if (!directory)
				close(next);
			return 0;
		}
		close_fd(&parent);
		parent = next;
	}
	return parent;
}

static int prepare_target(int root, const struct op *op, bool directory)
{
	const char *path = op_target(op) + 1;
	cleanup_fd int target = open_in(root, path, O_PATH, 0);

	if (target == -ENOENT)
		return make_target(root, path, directory);
	if (target < 0)
		return target;
	if (op->kind == OP_bind_cwd && (op->bind_cwd.flags & FLAG_bind_cwd_absent) != 0)
		return -EEXIST;
	return check_target(root, path, target, directory);
}

int spare_enter(struct run *run)
{
	const struct op *ops = run->plan->ops;
	size_t first = run->index + 1;
	int result = 0;

	run->umask = umask(0);
	for (size_t i = first; result == 0 && ops[i].kind != OP_pivot; i++) {
		if (layout_is_own(&ops[i]) && !run->sources[i].left_out)
			result = prepare_target(run->joined.spare_fd, &ops[i], S_ISDIR(run->sources[i].mode));
	}
	if (result == 0)
		result = root_take(&run->root, run->joined.spare_fd);
	if (result < 0) {
		umask(run->umask);
		return result;
	}
	run->joined.spare_fd = -1;
	for (size_t i = first; ops[i].kind != OP_pivot; i++)
		run->sources[i].left_out |= !layout_is_own(&ops[i]);
	return 0;
}

/* --- making one --- */

static int make(const struct spare_order *order, struct err *err)
{
	static const struct bind_flags as_it_is = {.recursive = true, .devices = true, .set_ids = true};
	cleanup_source struct mount_source copy = MOUNT_SOURCE_NONE;
	struct plan plan;
	struct run run = {.plan = &plan, .joined = SERVER_REPLY_NONE, .cwd = -ENOENT, .root = ROOT_NONE, .root_options = {.grows = true}};
	int result = layout_read_base(order->base, order->base_len, &run, &plan, err);

	run.joined.mount_fd = order->image;
	run.joined.mount_is_own = order->image_is_own;
	if (result < 0)
		return result;
	if (setns(order->namespace, CLONE_NEWNS) < 0 || fchdir(order->view) < 0 || chroot(".") < 0 || unshare(CLONE_NEWNS) < 0)
		return fail(err, errno, STEP, "entering the view");
	result = mounting_begin(&run, err);
	for (run.index = 1; result == 0 && plan.ops[run.index].kind != OP_pivot; run.index++) {
		if (!run.sources[run.index].left_out)
			result = mounting_do(&run, &plan.ops[run.index], err);
	}
	if (result < 0)
		return result;
	result = mount_copy(&copy, run.root.fd, "", &as_it_is);
	if (result < 0 || !copy.is_copy)
		return fail(err, result < 0 ? -result : ENOSYS, STEP, "taking it off");
	return steal_fd(&copy.fd);
}

NORETURN void spare_main(const struct spare_order *order)
{
	int kept[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, order->image, order->namespace, order->view, order->answer};
	struct spare_answer answer = {.rc = 0};
	int root;

	prctl(PR_SET_NAME, "tsrun-spare");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_all_but(kept, ARRAY_LEN(kept));
	root = make(order, &answer.err);
	answer.rc = root < 0 ? root : 0;
	(void)!wire_send(order->answer, &answer, sizeof answer, (const int[WIRE_FDS]){root < 0 ? -1 : root, -1});
	_exit(0);
}
