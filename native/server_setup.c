/* How the server becomes one: nothing of the run that started it stays open, a user namespace of its own, and a root with nothing in it
 * but the fuse device: so it neither pins file systems of the host nor offers them to whoever might take it over through a hostile image. */
#include "server_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif

#define DEVICE "/dev/fuse"
#define LOG_LINES_MAX 200

static void close_inherited(void)
{
	DIR *listing;
	struct dirent *entry;

#ifdef SYS_close_range
	if (syscall(SYS_close_range, WIRE_FIRST_FREE_FD, ~0u, 0) == 0)
		return;
#endif
	listing = opendir("/proc/self/fd");
	while (listing != NULL && (entry = readdir(listing)) != NULL) {
		int fd = atoi(entry->d_name);

		if (fd >= WIRE_FIRST_FREE_FD && fd != dirfd(listing))
			close(fd);
	}
	if (listing != NULL)
		closedir(listing);
}

/* The signals with which jobs are told to end or to write checkpoints are not for us: our end is the runs' end. */
static void ignore_signals(void)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP, SIGTTIN, SIGTTOU, SIGXCPU };
	sigset_t none;

	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	/* Inherited as ignored, it would hide how our processes ended. */
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void raise_limits(void)
{
	for (int resource = 0; resource < RLIM_NLIMITS; resource++) {
		struct rlimit limit;

		if (resource == RLIMIT_CORE || getrlimit(resource, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
			continue;
		limit.rlim_cur = limit.rlim_max;
		setrlimit(resource, &limit);
	}
}

/* The run that starts us may be bound to one core and its memory; we serve all runs of the scope. The kernel cuts the mask to the cpuset. */
static void leave_binding(void)
{
	cpu_set_t all[8]; /* more than any kernel's */

	memset(all, 0xff, sizeof all);
	sched_setaffinity(0, sizeof all, all);
	syscall(SYS_set_mempolicy, 0 /* MPOL_DEFAULT */, NULL, 0);
}

static int parse_id(const char *text, unsigned *id)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	*id = (unsigned)value;
	return *text < '0' || *text > '9' || *end != '\0' || errno != 0 || value >= UINT32_MAX ? -EINVAL : 0;
}

int server_listen(struct server_box *box, struct err *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char name[WIRE_NAME_MAX];
	struct stat st;
	int rc;

	wire_name(name, box->key, WIRE_SOCKET);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", name);
	unlinkat(box->dir, name, 0);
	/* No *at() call binds a socket, and there may be no /proc any more. */
	rc = fchdir(box->dir) < 0 || bind(box->listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(box->listener, 4096) < 0 ? -errno : 0;
	if (rc == 0)
		wire_clear();
	if (fchdir(box->home) < 0 || rc < 0)
		return fail(err, rc < 0 ? -rc : errno, SERVER_STEP_DIRECTORY, "binding the socket %s", name);
	if (fstatat(box->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, errno, SERVER_STEP_DIRECTORY, "looking at the socket %s", name);
	box->socket_ino = st.st_ino;
	return 0;
}

/* Someone who cleans directories may have removed them; then they may be another server's now. */
void server_leave_directory(const struct server_box *box)
{
	char name[WIRE_NAME_MAX];
	struct stat st;

	wire_name(name, box->key, WIRE_SOCKET);
	if (box->socket_ino != 0 && (fstatat(box->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != box->socket_ino))
		return;
	unlinkat(box->dir, name, 0);
	wire_name(name, box->key, WIRE_LOCK);
	unlinkat(box->dir, name, 0);
}

static int write_text(const char *path, const char *text)
{
	int cleanup_fd fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write_full(fd, text, strlen(text));
}

static int make_namespaces(struct server_box *box, struct err *err)
{
	struct stat namespace;
	char map[64];
	int rc;

	/* A launcher that its user may not read has made this process undumpable, and its own /proc files root's. */
	prctl(PR_SET_DUMPABLE, 1);
	if (unshare(CLONE_NEWUSER) < 0)
		return fail(err, errno, SERVER_STEP_NAMESPACE, "unshare");
	rc = write_text("/proc/self/setgroups", "deny");
	if (rc < 0 && rc != -ENOENT)
		return fail(err, -rc, SERVER_STEP_NAMESPACE, "denying setgroups");
	snprintf(map, sizeof map, "%u %u 1\n", box->uid, box->uid);
	rc = write_text("/proc/self/uid_map", map);
	if (rc == 0) {
		snprintf(map, sizeof map, "%u %u 1\n", box->gid, box->gid);
		rc = write_text("/proc/self/gid_map", map);
	}
	if (rc < 0)
		return fail(err, -rc, SERVER_STEP_NAMESPACE, "mapping user %u and group %u", box->uid, box->gid);
	box->userns = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	box->view_of = stat("/proc/self/ns/mnt", &namespace) == 0 ? namespace.st_ino : 0;
	if (box->userns < 0 || unshare(CLONE_NEWNS) < 0)
		return fail(err, errno, SERVER_STEP_NAMESPACE, "making a mount namespace in it");
	return 0;
}

static int sys_move_mount(int from, int to, const char *path)
{
	return (int)syscall(SYS_move_mount, from, "", to, path, MOVE_MOUNT_F_EMPTY_PATH);
}

/* A detached tmpfs with one file in it, over which the device is then mounted. */
static int make_small_root(void)
{
	int cleanup_fd fs = (int)syscall(SYS_fsopen, "tmpfs", 1 /* FSOPEN_CLOEXEC */);
	int cleanup_fd root = -1;
	int cleanup_fd file = -1;

	if (fs < 0 || syscall(SYS_fsconfig, fs, 1 /* SET_STRING */, "size", "64k", 0) < 0
		|| syscall(SYS_fsconfig, fs, 1 /* SET_STRING */, "mode", "0700", 0) < 0 || syscall(SYS_fsconfig, fs, 6 /* CMD_CREATE */, NULL, NULL, 0) < 0)
		return -errno;
	root = (int)syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, 0);
	if (root < 0)
		return -errno;
	file = openat(root, "fuse", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	return file < 0 ? -errno : steal_fd(&root);
}

/* Returns whether the root is a tmpfs with only the device in it, and the working directory there. */
static bool shrink_root(struct server_box *box)
{
	int cleanup_fd device = (int)syscall(SYS_open_tree, AT_FDCWD, DEVICE, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int cleanup_fd root = device < 0 ? -1 : make_small_root();

	/* Stays open: the kernel waits for other processors when a mount ends. An automounter has no part in it, the flag marks this question for test/native/payload/deny.c. */
	if (root >= 0)
		box->detached = (int)syscall(SYS_open_tree, root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_NO_AUTOMOUNT);
	/* In this order: before Linux 6.15 nothing can be attached to what is attached nowhere itself. */
	if (root < 0 || sys_move_mount(root, AT_FDCWD, "/") < 0 || sys_move_mount(device, root, "fuse") < 0 || fchdir(root) < 0)
		return false;
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		umount2(".", MNT_DETACH);
	else if (chroot(".") < 0) /* instead of pivot_root where "/" is the kernel's first root (diskless nodes) */
		return false;
	return chdir("/") == 0;
}

/* Without the mount calls of Linux 5.2: the host's tree stays (what is unmounted there is then unmounted here, too), runs come into it, and images are mounted
 * in a tmpfs over the runtime directory, the one place that is ours. The working directory is the runtime directory, seen from this namespace. */
static int open_view(struct server_box *box, struct err *err)
{
	char path[PATH_MAX], options[64];

	snprintf(options, sizeof options, "size=64k,mode=0700,uid=%u,gid=%u", box->uid, box->gid);
	if (getcwd(path, sizeof path) == NULL || path[0] != '/')
		return fail(err, errno, SERVER_STEP_DIRECTORY, "looking for its path");
	if (mount("tsrun", ".", "tmpfs", MS_NOSUID | MS_NODEV, options) < 0 || chdir(path) < 0)
		return fail(err, errno, SERVER_STEP_NAMESPACE, "mounting a tmpfs at %.300s", path);
	box->view = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	return box->view < 0 ? fail(err, errno, SERVER_STEP_NAMESPACE, "opening the mount namespace") : 0;
}

int server_enter_box(struct server_box *box, const char *key, const char *uid, const char *gid, struct err *err)
{
	int rc;

	*box = (struct server_box) { .dir = WIRE_DIR_FD, .home = -1, .listener = -1, .userns = -1, .view = -1, .detached = -1, .key = key, .device_path = DEVICE };
	close_inherited();
	ignore_signals();
	umask(077);
	raise_limits();
	leave_binding();
	prctl(PR_SET_NAME, "tsrun-server");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	for (int fd = WIRE_STARTER_FD; fd < WIRE_FIRST_FREE_FD; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return fail(err, errno, SERVER_STEP_SERVER, "descriptor %d is missing: this role is started by tsrun itself", fd);
	if (!wire_key_ok(key) || parse_id(uid, &box->uid) < 0 || parse_id(gid, &box->gid) < 0)
		return fail(err, EINVAL, SERVER_STEP_SERVER, "wrong arguments");
	/* The new mount namespace's copy of it is then what "." is. */
	rc = fchdir(WIRE_DIR_FD) < 0 ? fail(err, errno, SERVER_STEP_DIRECTORY, "entering it") : make_namespaces(box, err);
	if (rc == 0 && shrink_root(box)) {
		box->device_path = "/fuse";
	} else if (rc == 0) {
		close_fd(&box->detached);
		rc = open_view(box, err);
	}
	if (rc < 0)
		return rc;
	/* Now, while there are descriptors left. */
	box->home = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	box->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (box->home < 0 || box->listener < 0)
		return fail(err, errno, SERVER_STEP_SERVER, "making its socket");
	/* From here on no process of the same user, the payload least of all, can trace us or read our memory. */
	prctl(PR_SET_DUMPABLE, 0);
	return 0;
}

void server_log(const struct server_box *box, const char *text)
{
	static unsigned lines;
	char name[WIRE_NAME_MAX], line[1024], date[32];
	time_t now = time(NULL);
	struct tm tm;
	int cleanup_fd fd = -1;
	int len;

	if (lines++ >= LOG_LINES_MAX) /* what goes wrong again and again has been told */
		return;
	wire_name(name, box->key, WIRE_LOG);
	gmtime_r(&now, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
	len = snprintf(line, sizeof line, "%s image server: %.900s\n", date, text);
	fd = openat(box->dir, name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 && write_full(fd, line, (size_t)len) < 0)
		return; /* a full disk: there is nobody left to tell */
}
