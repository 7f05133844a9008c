#include "init.h"

#include <linux/capability.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STEP "start PID 1"

/* PID 1 outlives its preparation and needs no right any more; what a payload could make of it should be nothing. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	syscall(SYS_capset, &header, none);
}

static void die_with_launcher(int channel)
{
	struct pollfd peer = {.fd = channel};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The launcher may have died before this took effect: then the other end is closed already. */
	if (poll(&peer, 1, 0) > 0 && (peer.revents & POLLHUP) != 0)
		_exit(125);
}

static void tell(int channel, enum init_event event, int value)
{
	const struct init_message message = {.event = event, .value = value};

	/* The launcher may be gone; then so are we in a moment. */
	(void)RETRY(send(channel, &message, sizeof message, MSG_NOSIGNAL));
}

int init_give_listener(const struct init *init, int listener)
{
	struct init_message message = {.event = LISTENER_MADE};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
	const struct msghdr envelope = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};

	memcpy(CMSG_DATA(&control.header), &listener, sizeof listener);
	if (RETRY(sendmsg(init->channel, &envelope, MSG_NOSIGNAL)) < 0)
		return -errno;
	/* The launcher looks into this process, which it may no more once ids have changed. */
	return RETRY(recv(init->channel, &message, sizeof message, 0)) == (ssize_t)sizeof message ? 0 : -ECONNRESET;
}

int init_split(struct init *init, struct err *err)
{
	static const struct sigaction on_child_default = {.sa_handler = SIG_DFL};
	static const int on = 1;
	sigset_t all;
	int channel[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0 || setsockopt(channel[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
		return fail(err, errno, STEP, "socketpair");
	/* Blocked in both processes from here on: the launcher reads them from a descriptor, PID 1 ignores them. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &init->mask);
	sigaction(SIGCHLD, &on_child_default, &init->on_child);
	pid = fork();
	if (pid < 0) {
		int errnum = errno;

		sigprocmask(SIG_SETMASK, &init->mask, NULL);
		return fail(err, errnum, STEP, "fork");
	}
	if (pid > 0) {
		close(channel[1]);
		supervise(pid, channel[0], init);
	}
	close(channel[0]);
	init->channel = channel[1];
	die_with_launcher(init->channel);
	return 0;
}

/* Reaps until the payload ends; the kernel then kills what is left of the namespace. */
static NORETURN void reap(pid_t payload, int channel)
{
	for (;;) {
		int status;
		pid_t pid = RETRY(waitpid(-1, &status, WUNTRACED | WCONTINUED));

		if (pid < 0)
			_exit(125);
		if (pid != payload)
			continue;
		if (WIFSTOPPED(status)) {
			tell(channel, PAYLOAD_STOPPED, WSTOPSIG(status));
			continue;
		}
		if (WIFCONTINUED(status)) {
			tell(channel, PAYLOAD_CONTINUED, 0);
			continue;
		}
		tell(channel, PAYLOAD_ENDED, status);
		_exit(0);
	}
}

int init_fork_payload(struct init *init, struct err *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return fail(err, errno, STEP, "fork the program");
	if (pid > 0) {
		close_all_but(&init->channel, 1);
		(void)!chdir("/");
		drop_capabilities();
		/* Once more: where ids have changed, the kernel has forgotten it. */
		die_with_launcher(init->channel);
		reap(pid, init->channel);
	}
	tell(init->channel, PAYLOAD_STARTED, 0);
	sigaction(SIGCHLD, &init->on_child, NULL);
	sigprocmask(SIG_SETMASK, &init->mask, NULL);
	return 0;
}
