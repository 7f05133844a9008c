#include "spare.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "layout.h"
#include "mounting.h"
#include "server_wire.h"
#include "statx.h"

#define STEP "make a root ahead"
/* By one process: what was written to their upper layers stays in its tmpfs. */
#define ROOTS_MAX 256u

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

/* --- making them --- */

/* Anywhere: over "/" it is in nobody's way. */
static int attach_image(int image, struct err *err)
{
	cleanup_fd int over = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int result = over < 0 ? -errno : mount_attach(&(struct mount_source){.fd = image, .is_copy = true, .restricted = true}, over);

	return result < 0 ? fail(err, -result, STEP, "attaching the image") : 0;
}

static int enter_view(const struct spare_order *order, struct err *err)
{
	if (setns(order->namespace, CLONE_NEWNS) < 0 || fchdir(order->view) < 0 || chroot(".") < 0 || unshare(CLONE_NEWNS) < 0)
		return fail(err, errno, STEP, "entering the view");
	return order->image_is_own ? attach_image(order->image, err) : 0;
}

/* What all of them have below: skeleton and image, and where in the plan they become a root. */
static int begin(const struct spare_order *order, struct run *run, struct plan *plan, struct err *err)
{
	int result = layout_read_base(order->base, order->base_len, run, plan, err);

	if (result == 0)
		result = enter_view(order, err);
	if (result == 0)
		result = mounting_begin(run, err);
	for (run->index = 1; result == 0 && plan->ops[run->index].kind != OP_root; run->index++)
		result = mounting_do(run, &plan->ops[run->index], err);
	return result < 0 ? result : mounting_targets(run, err);
}

/* What was attached, to be copied as a whole. */
static int take_off(int root, struct err *err)
{
	static const struct bind_flags as_it_is = {.recursive = true, .devices = true, .set_ids = true};
	cleanup_source struct mount_source copy = MOUNT_SOURCE_NONE;
	int result = mount_copy(&copy, root, "", &as_it_is);

	if (result < 0 || !copy.is_copy)
		return fail(err, result < 0 ? -result : ENOSYS, STEP, "taking it off");
	if (fchdir(root) < 0 || umount2(".", MNT_DETACH) < 0)
		return fail(err, errno, STEP, "clearing up");
	return steal_fd(&copy.fd);
}

/* One root with all its mounts, attached nowhere. */
static int make(struct run *run, unsigned number, bool attached, struct err *err)
{
	const struct op *ops = run->plan->ops;
	size_t root_index = run->index;
	int result = root_grow(&run->root, number, attached);
	cleanup_fd int root = run->root.fd;

	if (result < 0)
		return fail(err, -result, STEP, "an overlay above the image");
	for (run->index++; result == 0 && ops[run->index].kind != OP_pivot; run->index++) {
		if (!run->sources[run->index].left_out)
			result = mounting_do(run, &ops[run->index], err);
	}
	run->index = root_index;
	if (result < 0)
		return result;
	return attached ? take_off(root, err) : steal_fd(&root);
}

NORETURN void spare_main(const struct spare_order *order)
{
	int kept[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, order->image, order->namespace, order->view, order->channel};
	struct plan plan;
	struct run run = {.plan = &plan, .joined = {.mount_fd = order->image}, .cwd = -ENOENT, .root = ROOT_NONE};
	struct spare_answer answer = {.rc = 0};
	char wanted;

	prctl(PR_SET_NAME, "tsrun-spare");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}); /* takes nobody's processor when it is woken */
	close_all_but(kept, ARRAY_LEN(kept));
	answer.rc = begin(order, &run, &plan, &answer.err);
	for (unsigned made = 0; made < ROOTS_MAX && answer.rc == 0 && RETRY(recv(order->channel, &wanted, sizeof wanted, 0)) == sizeof wanted; made++) {
		cleanup_fd int root = make(&run, made, order->image_is_own, &answer.err);

		answer.rc = root < 0 ? root : 0;
		if (answer.rc == 0 && wire_send(order->channel, &answer, sizeof answer, (const int[WIRE_FDS]){root, -1}) < 0)
			_exit(1);
	}
	if (answer.rc < 0)
		(void)!wire_send(order->channel, &answer, sizeof answer, (const int[WIRE_FDS]){-1});
	_exit(0);
}
