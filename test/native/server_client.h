/* What tests of the image server begin with: an ordinary user, a runtime directory, a sample image, and processes that join and attach it as the launcher does. */
#ifndef TSRUN_SERVER_CLIENT_H
#define TSRUN_SERVER_CLIENT_H

#include "check.h"
#include "guard.h"
#include "sample_tree.h"

#include "../../native/server.h"
#include "../../native/server_wire.h"

#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>

#define USER 54321 /* an ordinary user needs no name */
#define LINGER_MS 150

#define PATIENCE_MS 30000

static char top[] = "/tmp/tsrun-server-test-XXXXXX";
static char root[PATH_MAX], runtime[PATH_MAX], image[PATH_MAX], attach[PATH_MAX];
static uid_t user;
static gid_t group;

__attribute__((unused)) static void become_user(void)
{
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(group, group, group) < 0 || setresuid(user, user, user) < 0))
		sample_fail("becoming an ordinary user");
}

__attribute__((unused)) static struct server_request request_for(const char *key, int fd)
{
	return (struct server_request) {
		.dir = runtime,
		.key = key,
		.uid = user,
		.gid = group,
		.image_fd = fd,
		.linger_ms = LINGER_MS,
	};
}

/* Prints what failed. */
__attribute__((unused)) static int join(const struct server_request *request, struct server_reply *reply)
{
	struct err err = { 0 };
	int rc = server_join(request, reply, &err);

	if (rc < 0)
		fprintf(stderr, "cannot %s: %s: %s\n", err.step, err.detail, strerror(-rc));
	return rc;
}

/* Joins and attaches the image at `attach` in a mount namespace of its own; the socket to the server stays open. */
__attribute__((unused)) static int join_and_attach_with(const struct server_request *request, struct server_reply *reply)
{
	int rc = join(request, reply);
	int clone;

	if (rc < 0)
		return rc;
	if (setns(reply->userns_fd, CLONE_NEWUSER) < 0 || (reply->view_fd >= 0 && setns(reply->view_fd, CLONE_NEWNS) < 0) || unshare(CLONE_NEWNS) < 0) {
		perror("setns, unshare");
		return -errno;
	}
	if (reply->view_fd >= 0) {
		if (mount(reply->path, attach, NULL, MS_BIND, NULL) < 0 || umount2(runtime, MNT_DETACH) < 0) {
			perror("binding the image");
			return -errno;
		}
		close(reply->view_fd);
		close(reply->userns_fd);
		return 0;
	}
	if (reply->mount_fd < 0)
		return 0;
	clone = reply->mount_is_own ? reply->mount_fd : (int)syscall(SYS_open_tree, reply->mount_fd, "", 1 | O_CLOEXEC | AT_EMPTY_PATH);
	if (!reply->mount_is_own)
		close(reply->mount_fd);
	close(reply->userns_fd);
	if (clone < 0 || syscall(SYS_move_mount, clone, "", AT_FDCWD, attach, 4) < 0) {
		perror("attaching the image");
		return -errno;
	}
	close(clone);
	return 0;
}

__attribute__((unused)) static int join_and_attach(const struct server_request *request)
{
	struct server_reply reply;

	return join_and_attach_with(request, &reply);
}

/* TSan's fork starts a thread in the child, and setns wants a process without. */
__attribute__((unused)) static pid_t plain_fork(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* A process of the user that does something and ends with its result as exit status (0: it holds). */
__attribute__((unused)) static pid_t start_as_user(int (*what)(void *), void *ctx)
{
	pid_t pid = plain_fork();

	if (pid == 0) {
		become_user();
		_exit(what(ctx));
	}
	return pid;
}

/* --- waiting without sleeping: for files of the runtime directory to go, and for processes to end --- */

/* And asks nothing. *pid: the server's; 0: there is none. */
__attribute__((unused)) static int connect_to(const char *key, pid_t *pid)
{
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer = { 0 };
	socklen_t len = sizeof peer;

	snprintf(address.sun_path, sizeof address.sun_path, "%.80s/%.16s.%d.sock", runtime, key, WIRE_PROTOCOL);
	if (connect(sock, (struct sockaddr *)&address, sizeof address) == 0)
		getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	*pid = peer.pid;
	return sock;
}

__attribute__((unused)) static pid_t server_pid(const char *key)
{
	pid_t pid;

	close(connect_to(key, &pid));
	return pid;
}

__attribute__((unused)) static bool ends_within(pid_t pid, int milliseconds)
{
	struct pollfd wait = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	bool ended = wait.fd < 0 || poll(&wait, 1, milliseconds) == 1;

	if (wait.fd >= 0)
		close(wait.fd);
	return ended;
}

/* Its exit status; 1000 + signal; -1: it does not end, and is left to the guard. */
__attribute__((unused)) static int status_within(pid_t pid, int milliseconds)
{
	int status = -1;

	if (!ends_within(pid, milliseconds) || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

__attribute__((unused)) static int status_of(pid_t pid)
{
	return status_within(pid, PATIENCE_MS);
}

__attribute__((unused)) static int as_user(int (*what)(void *), void *ctx)
{
	return status_of(start_as_user(what, ctx));
}

__attribute__((unused)) static bool runtime_is_empty(void)
{
	struct dirent **list;
	int n = scandir(runtime, &list, NULL, alphasort);
	bool empty = n == 2;

	for (int i = 0; i < n; i++) {
		if (list[i]->d_name[0] != '.')
			fprintf(stderr, "left over: %s\n", list[i]->d_name);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return empty;
}

__attribute__((unused)) static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits for what others do; a pause is no more than the time between two looks. */
__attribute__((unused)) static bool comes_true(bool (*fact)(void *), void *ctx)
{
	int64_t end = now_ms() + PATIENCE_MS;

	while (!fact(ctx)) {
		if (now_ms() > end)
			return false;
		poll(NULL, 0, 1);
	}
	return true;
}

/* Waits for all children; false: some do not end. */
__attribute__((unused)) static bool all_end(unsigned *failed, unsigned *killed)
{
	int64_t end = now_ms() + PATIENCE_MS;
	int status;
	pid_t pid;

	*failed = *killed = 0;
	while ((pid = waitpid(-1, &status, WNOHANG)) >= 0) {
		if (pid == 0 && now_ms() > end)
			return false;
		if (pid == 0)
			poll(NULL, 0, 1);
		*killed += pid > 0 && WIFSIGNALED(status);
		*failed += pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) != 0;
	}
	return true;
}

/* Runs start this program as the server. */
__attribute__((unused)) static void be_server_if_asked(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "@server") == 0)
		_exit(server_main(argc - 1, argv + 1)); /* the leak check at a usual end wants /proc, which the server has left behind */
}

/* Begins a test: guard, directories, and being where servers end up, so that their ends are seen. Skips it (false) where it cannot run. */
__attribute__((unused)) static bool begin_server_test(void)
{
	user = geteuid() == 0 ? USER : geteuid();
	group = geteuid() == 0 ? USER + 1 : getegid();
	if (access("/dev/fuse", R_OK | W_OK) < 0 || geteuid() != 0) {
		SKIP("FUSE: this test wants to begin as root, and /dev/fuse");
		return false;
	}
	chmod("/dev/fuse", 0666);
	umask(022);
	if (mkdtemp(top) == NULL || chmod(top, 0755) < 0)
		sample_fail("mkdtemp");
	guard_begin(top);
	snprintf(root, sizeof root, "%s/root", top);
	snprintf(runtime, sizeof runtime, "%s/run", top);
	snprintf(image, sizeof image, "%s/image", top);
	snprintf(attach, sizeof attach, "%s/attach", top);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (mkdir(attach, 0755) < 0 || mkdir(runtime, 0700) < 0 || chown(runtime, user, group) < 0)
		sample_fail("mkdir");
	sample_make(root);
	return true;
}

#ifdef __SANITIZE_THREAD__
/* The server starts processes, with threads of their own, while one of its threads ends mount namespaces. Its environment is empty, so that is said here. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}
#endif

#endif
