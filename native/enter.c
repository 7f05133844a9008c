#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "extracted.h"
#include "layout.h"
#include "mounting.h"
#include "run_state.h"
#include "server.h"
#include "spare.h"
#include "staged.h"
#include "statx.h"
#include "userns.h"

/* --- in the caller's namespaces --- */

static int open_image(const struct run *run, int64_t handle, const char *path, struct err *err)
{
	int fd = handle >= 0 ? run->files->take(run->files->context, handle) : open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(err, handle >= 0 ? -fd : errno, "open the image", "%s", path);
	return fd;
}

/* An inode's number alone is not enough: NFS servers give it to the next file at once, also while this machine still has the last one open. Where its client does not
 * tell when a file was born (before Linux 6.16), when it was changed is a sign of it, though not of that only. */
static void tell_birth(const char *path, const struct statx *st, int64_t born[2])
{
	const struct statx_timestamp *time = &st->stx_btime;
	struct statfs fs;

	if ((st->stx_mask & STATX_BTIME) == 0) {
		/* As long as it is mounted its number is nobody else's, and a layout ends with every unmounting. */
		if ((st->stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0)
			return;
		if (statfs(path, &fs) < 0 || fs.f_type != NFS_SUPER_MAGIC)
			return;
		time = &st->stx_ctime;
	}
	born[0] = time->tv_sec;
	born[1] = time->tv_nsec;
}

/* Where filters of old container engines say that statx is not permitted. Going through a directory (by "/.") makes an automounter mount it. */
static NOINLINE int look_at_less(const char *path, struct source *source)
{
	char through[PATH_MAX + 2];
	struct stat st;

	snprintf(through, sizeof through, "%s/.", path);
	if (stat(through, &st) < 0 && ((errno != ENOTDIR && errno != EACCES && errno != ENAMETOOLONG) || stat(path, &st) < 0))
		return -errno;
	*source = (struct source){.device = st.st_dev, .inode = st.st_ino, .mode = st.st_mode};
	return 0;
}

/* What `path` is for the caller. Unlike stat, statx makes an automounter mount a directory by itself. -errno. */
static int look_at(const char *path, struct source *source)
{
	struct statx more = {0};

	if (statx(AT_FDCWD, path, AT_STATX_SYNC_AS_STAT, STATX_TYPE | STATX_MODE | STATX_INO | STATX_CTIME | STATX_BTIME | STATX_MNT_ID, &more) < 0)
		return errno == ENOSYS || errno == EPERM ? look_at_less(path, source) : -errno;
	*source = (struct source){.device = makedev(more.stx_dev_major, more.stx_dev_minor), .inode = more.stx_ino, .mode = more.stx_mode};
	if ((more.stx_mask & STATX_MNT_ID) != 0)
		source->mount = more.stx_mnt_id;
	tell_birth(path, &more, source->born);
	return 0;
}

static int look_at_sources(struct run *run, struct err *err)
{
	for (size_t i = 0; run->plan->ops[i].kind != OP_pivot; i++) {
		const struct op *op = &run->plan->ops[i];
		struct source *source = &run->sources[i];
		int result = 0;

		if (op->kind == OP_bind && (op->bind.flags & FLAG_bind_inside) != 0)
			source->mode = S_IFREG; /* not there yet */
		else if (op->kind == OP_bind)
			result = look_at(op->bind.source, source);
		else if (op->kind == OP_bind_cwd)
			/* With the caller's own rights: in the new user namespace a closed directory of the caller's is open. */
			result = look_at(".", source);
		else
			source->mode = S_IFDIR;
		if (result == 0)
			continue;
		source->left_out = op->kind == OP_bind ? (op->bind.flags & FLAG_bind_optional) != 0 : (op->bind_cwd.flags & FLAG_bind_cwd_optional) != 0;
		if (!source->left_out) {
			run->index = i;
			return fail(err, -result, "find the source", "%s", op->kind == OP_bind ? op->bind.source : ".");
		}
	}
	return look_at("/", &run->here) < 0 ? fail(err, errno, "find the source", "/") : 0;
}

/* What the run becomes in the end, and where that is looked for. */
static void name_program(const struct plan *plan, struct server_request *request)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct op *op = &plan->ops[i];

		if (op->kind == OP_exec)
			request->program = op->exec.file;
		else if (op->kind == OP_env && strncmp(op->env.assignment, "PATH=", 5) == 0)
			request->search = op->env.assignment + 5;
	}
}

/* Joins the scope; the server mounts the image when there is one. `alone`: sharing the mounts of others did not work. */
static int join_scope(struct run *run, bool alone, struct err *err)
{
	const struct op *op = &run->plan->ops[run->userns_index];
	const struct op_image_mount *mount = run->image_mount;
	cleanup_free void *layout = NULL;
	size_t layout_len, layout_base = 0;

	if (op->kind != OP_scope)
		return 0;
	layout_len = mount == NULL || alone ? 0 : layout_of(run, &layout, &layout_base);
	cleanup_fd int record = mount == NULL || run->record == NULL ? -1 : open(run->record, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
	if (mount != NULL && run->record != NULL && record < 0)
		return fail(err, errno, "open the record", "%s", run->record);
	struct server_request request = {
		.image_name = mount != NULL ? mount->path : NULL,
		.hot_offset = run->hot != NULL ? run->hot->offset : 0,
		.hot_size = run->hot != NULL ? run->hot->size : 0,
		.record_fd = record,
		.dir = op->scope.dir,
		.key = op->scope.key,
		.uid = (uid_t)op->scope.uid,
		.gid = (gid_t)op->scope.gid,
		.image_fd = run->image,
		.offset = mount != NULL ? mount->offset : 0,
		.size = mount != NULL ? mount->size : 0,
		.linger_ms = (uint32_t)op->scope.linger_ms,
		.cache_bytes = op->scope.cache_bytes,
		.layout = layout,
		.layout_len = layout_len,
		.layout_base = layout_base,
	};
	name_program(run->plan, &request);
	return server_join(&request, &run->joined, err);
}

static int look_and_join(struct run *run, struct err *err)
{
	int result = look_at_sources(run, err);

	return result < 0 ? result : join_scope(run, false, err);
}

int enter_image_directory(struct run *run, const char *path, struct err *err)
{
	run->image_directory = path;
	if (stat(path, &run->image_stat) < 0)
		return fail(err, errno, "open the image", "%s", path);
	if (!S_ISDIR(run->image_stat.st_mode))
		return fail(err, ENOTDIR, "open the image", "%s", path);
	return look_and_join(run, err);
}

int enter_image_mount(struct run *run, const struct op_image_mount *op, struct err *err)
{
	cleanup_fd int fd = open_image(run, op->handle, op->path, err);

	run->image_mount = op;
	run->image = fd < 0 || run->stage == NULL ? fd : staged_file(fd, run->stage->path, (run->stage->flags & FLAG_stage_memory) != 0, err);
	if (run->image == fd)
		steal_fd(&fd);
	return run->image < 0 ? run->image : look_and_join(run, err);
}

int enter_image_extracted(struct run *run, const struct op_image_extracted *op, struct err *err)
{
	cleanup_fd int fd = open_image(run, op->handle, op->path, err);
	int result = fd < 0 ? fd : extracted_directory(fd, op->offset, op->size, op->directory, err);

	return result < 0 ? result : enter_image_directory(run, op->directory, err);
}

/* --- into namespaces of its own --- */

static int enter_userns(struct run *run, struct err *err)
{
	size_t index = run->index;
	const struct op *op = &run->plan->ops[run->userns_index];
	int result;

	run->index = run->userns_index;
	if (op->kind == OP_scope)
		result = userns_join(run->joined.userns_fd, err);
	else if (op->kind == OP_userns_ranges)
		result = userns_ranges(op->userns_ranges.newuidmap, op->userns_ranges.newgidmap, op->userns_ranges.uid_map, op->userns_ranges.gid_map, err);
	else
		result = userns_new((uid_t)op->userns.uid, (gid_t)op->userns.gid, err);
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

/* Into the server's mount namespace (before the run makes a copy of its own), on kernels where that is the only way to the image's mount. */
static int enter_view(struct run *run, struct err *err)
{
	char path[PATH_MAX];
	bool known = getcwd(path, sizeof path) != NULL && path[0] == '/';

	if (setns(run->joined.view_fd, CLONE_NEWNS) < 0)
		return fail(err, errno, "make namespaces", "setns");
	close_fd(&run->joined.view_fd);
	/* It begins at "/". A working directory that is not found again shows when it is bound. */
	if (known)
		(void)!chdir(path);
	return 0;
}

/* What the server has mounted over the runtime directory, once the image is taken from there. */
static void uncover_runtime_directory(const struct run *run)
{
	umount2(run->plan->ops[run->userns_index].scope.dir, MNT_DETACH);
}

static bool binds_cwd(const struct run *run)
{
	for (size_t i = run->index; run->plan->ops[i].kind != OP_pivot; i++) {
		if (run->plan->ops[i].kind == OP_bind_cwd)
			return true;
	}
	return false;
}

/* What is said of the root, and of what the launcher is to have open, before and after this op. */
static int gather(struct run *run, struct err *err)
{
	size_t unshare_index = run->index;

	run->layers.lower = calloc(run->plan->count, sizeof *run->layers.lower);
	if (run->layers.lower == NULL)
		return fail(err, ENOMEM, "make the root", "%zu ops", run->plan->count);
	for (size_t i = 0; i < run->plan->count; i++) {
		const struct op *op = &run->plan->ops[i];

		if (op->kind == OP_layer) {
			run->layers.lower[run->layers.count++] = op->layer.directory;
		} else if (op->kind == OP_upper) {
			run->layers.upper = op->upper.directory;
			run->layers.work = op->upper.work;
		} else if (op->kind == OP_owners) {
			run->index = i;
			if (owners_open(&run->owners, op->owners.table, run->layers.upper, err) < 0)
				return -err->errnum;
			run->init.owners = &run->owners;
			run->index = unshare_index;
		} else if (op->kind == OP_root) {
			run->root_options = (struct root_options){.writable = (op->root.flags & FLAG_root_writable) != 0,
			                                          .in_place = (op->root.flags & FLAG_root_in_place) != 0,
			                                          .set_ids = (op->root.flags & FLAG_root_suid) != 0,
			                                          .size = op->root.size};
		}
	}
	return 0;
}

/* All of it is there already. */
static int skip_mounting(struct run *run)
{
	close_fd(&run->image);
	while (run->plan->ops[run->index].kind != OP_pivot)
		run->index++;
	run->umask = umask(0);
	return 0;
}

/* What the server had ready does not fit. Where that server was killed meanwhile, another one answers, or is started from in here: its user namespace is not the one
 * that this run is in, but its mount is for processes of the caller's ids in any (configure() in fuse/mount.c). */
static int mount_alone(struct run *run, struct err *err)
{
	int result;

	layout_give_up(run);
	result = join_scope(run, true, err);
	if (result == 0)
		layout_unshared(run);
	return result;
}

int enter_unshare(struct run *run, const struct op_unshare *op, struct err *err)
{
	static const struct {
		uint64_t flag;
		int clone;
	} namespaces[] = {
		{FLAG_unshare_mount, CLONE_NEWNS}, {FLAG_unshare_pid, CLONE_NEWPID}, {FLAG_unshare_ipc, CLONE_NEWIPC},
		{FLAG_unshare_uts, CLONE_NEWUTS},  {FLAG_unshare_net, CLONE_NEWNET},
	};
	int clone = 0;
	int result = gather(run, err);

	if ((op->flags & FLAG_unshare_leash) != 0)
		run->init.leash = getppid();
	layout_begin(run);
	if (result == 0)
		result = enter_userns(run, err);
	if (result == 0 && run->joined.finished_fd >= 0) {
		if (layout_enter(run) == 0)
			return skip_mounting(run);
		result = join_scope(run, true, err);
	}
	if (result == 0 && run->joined.view_fd >= 0)
		result = enter_view(run, err);
	if (result < 0)
		return result;
	for (size_t i = 0; i < ARRAY_LEN(namespaces); i++)
		clone |= (op->flags & namespaces[i].flag) != 0 ? namespaces[i].clone : 0;
	if (unshare(clone) < 0)
		return fail(err, errno, "make namespaces", "unshare");
	layout_unshared(run);
	if (run->joined.spare_fd >= 0 && spare_enter(run) < 0)
		result = mount_alone(run, err);
	close_fd(&run->image);
	if (result < 0)
		return result;
	run->own_pids = (clone & CLONE_NEWPID) != 0;
	/* unshare has moved the working directory into the new mount namespace; only from there can it be bound. */
	if (binds_cwd(run) && (run->cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		run->cwd = -errno;
	if ((clone & CLONE_NEWNET) != 0 && (result = bring_up_loopback(err)) < 0)
		return result;
	if (run->own_pids && (result = init_split(&run->init, err)) < 0)
		return result;
	result = run->root.fd >= 0 ? 0 : mounting_begin(run, err);
	if (run->joined.path[0] != '\0')
		uncover_runtime_directory(run);
	return result;
}
