#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "init.h"
#include "owners.h"

struct supervisor {
	pid_t init;
	pid_t payload;    /* 0 until it runs */
	int terminal;     /* whose foreground we are, or -1 */
	struct owners *owners;
	struct owner_service *service; /* NULL until there is a listener */
	int status;       /* how the payload ended */
	bool ended;       /* `status` is known */
	sigset_t held;    /* signals from before the payload ran, which it is to get */
	sigset_t ignored; /* what the caller ignores, the payload ignores */
	sigset_t blocked; /* likewise */
};

/* Ends this process as the payload ended, by the same signal where it was one. */
static NORETURN void end_like(int status)
{
	static const struct sigaction by_default = {.sa_handler = SIG_DFL};
	sigset_t only;
	int sig;

	if (!WIFSIGNALED(status))
		_exit(WEXITSTATUS(status));
	sig = WTERMSIG(status);
	/* The payload's core has been written; ours would be of no use. A dump to a pipe heeds only the second. */
	setrlimit(RLIMIT_CORE, &(struct rlimit){0});
	prctl(PR_SET_DUMPABLE, 0);
	sigaction(sig, &by_default, NULL);
	sigemptyset(&only);
	sigaddset(&only, sig);
	raise(sig);
	sigprocmask(SIG_UNBLOCK, &only, NULL);
	_exit(128 + sig);
}

static int own_terminal(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (tcgetpgrp(fd) == getpgrp())
			return fd;
	}
	return -1;
}

/*
 * A shell that ran jobs would give the terminal back to the group that had it, which it does not see from its namespace. Who waits for us could not
 * read from it then. Taken only from a group in which nobody is left: another shell may have put us into the background.
 */
static void take_terminal_back(int terminal)
{
	pid_t group = terminal < 0 ? -1 : tcgetpgrp(terminal);

	if (group > 1 && kill(-group, 0) < 0 && errno == ESRCH)
		(void)tcsetpgrp(terminal, getpgrp());
}

static NORETURN void end_with_init(const struct supervisor *supervisor)
{
	int status = 125 << 8;

	/* When PID 1 can be waited for, nothing of its namespace is left. */
	(void)RETRY(waitpid(supervisor->init, &status, 0));
	take_terminal_back(supervisor->terminal);
	end_like(supervisor->ended ? supervisor->status : status);
}

/* What PID 1 says next then has us go on, by the signal for that. */
static void wake_when_told(int channel, bool wake)
{
	int flags = fcntl(channel, F_GETFL);

	fcntl(channel, F_SETOWN, getpid());
	fcntl(channel, F_SETSIG, SIGCONT);
	fcntl(channel, F_SETFL, wake ? flags | O_ASYNC : flags & ~O_ASYNC);
}

static bool is_told_more(int channel)
{
	struct pollfd more = {.fd = channel, .events = POLLIN};

	return poll(&more, 1, 0) > 0;
}

/* Unless it is told more. A stop that is blocked waits, and the kernel takes it back for a SIGCONT: so nothing is missed that is told later. SIGSTOP waits for nothing. */
static void stop_by(int sig, int channel)
{
	static const struct timespec at_once;
	struct sigaction now;
	sigset_t only;

	if (sigaction(sig, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
		sig = SIGSTOP;
	sigemptyset(&only);
	sigaddset(&only, sig);
	if (is_told_more(channel))
		return;
	raise(sig);
	if (is_told_more(channel))
		sigtimedwait(&only, NULL, &at_once);
	sigprocmask(SIG_UNBLOCK, &only, NULL);
	/* Here we are stopped. The SIGCONT that ends it is blocked, so it is read and handed on like other signals. */
	sigprocmask(SIG_BLOCK, &only, NULL);
}

/* The shell that started us sees us stop as the payload stopped, and gets its terminal back. Who suspends a job and resumes it has stopped us, too: then we may
 * hear of the payload's stop when it goes on already, and nobody tells us a second time. */
static void stop_like(int sig, int channel)
{
	wake_when_told(channel, true);
	stop_by(sig, channel);
	wake_when_told(channel, false);
}

static void take_listener(struct supervisor *supervisor, int channel, struct msghdr *envelope)
{
	static const struct init_message ready = {.event = LISTENER_MADE};

	for (struct cmsghdr *header = CMSG_FIRSTHDR(envelope); header != NULL; header = CMSG_NXTHDR(envelope, header)) {
		int listener;

		if (header->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(&listener, CMSG_DATA(header), sizeof listener);
		if (supervisor->owners != NULL && owners_serve(supervisor->owners, listener, supervisor->init, &supervisor->service) == 0 &&
		    RETRY(send(channel, &ready, sizeof ready, MSG_NOSIGNAL)) == (ssize_t)sizeof ready)
			continue;
		/* The payload's calls would wait for ever. */
		kill(supervisor->init, SIGKILL);
	}
}

/* False once PID 1 is gone. */
static bool hear(struct supervisor *supervisor, int channel)
{
	struct init_message message;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
	struct msghdr envelope = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	const struct cmsghdr *header;

	if (RETRY(recvmsg(channel, &envelope, MSG_CMSG_CLOEXEC)) != (ssize_t)sizeof message)
		return false;
	header = CMSG_FIRSTHDR(&envelope);
	switch ((enum init_event)message.event) {
	case PAYLOAD_STARTED:
		if (header != NULL && header->cmsg_type == SCM_CREDENTIALS) {
			struct ucred sender;

			memcpy(&sender, CMSG_DATA(header), sizeof sender);
			supervisor->payload = sender.pid;
		}
		for (int sig = 1; sig < NSIG; sig++) {
			if (sigismember(&supervisor->held, sig) == 1)
				kill(supervisor->payload, sig);
		}
		break;
	case PAYLOAD_STOPPED:
		stop_like(message.value, channel);
		break;
	case PAYLOAD_CONTINUED:
		break; /* has woken us */
	case PAYLOAD_ENDED:
		supervisor->ended = true;
		supervisor->status = message.value;
		break;
	case LISTENER_MADE:
		take_listener(supervisor, channel, &envelope);
		break;
	}
	return true;
}

static bool ends_by_default(int sig)
{
	return sig != SIGCHLD && sig != SIGCONT && sig != SIGURG && sig != SIGWINCH;
}

static bool stops_by_default(int sig)
{
	return sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

static void pass_on(struct supervisor *supervisor, const struct signalfd_siginfo *info)
{
	int sig = (int)info->ssi_signo;

	if (sig == SIGCHLD)
		return;
	if (supervisor->payload > 0) {
		/* What the kernel itself sends (a terminal's Ctrl-C, Ctrl-Z, resize, hang-up) goes to the whole process group: the payload has it. Or it is for us (stop_like). */
		if (info->ssi_code <= 0 && !supervisor->ended)
			kill(supervisor->payload, sig);
		return;
	}
	/* Before the payload runs, a signal does what it would do to the launcher. */
	if (sigismember(&supervisor->ignored, sig) == 1)
		return;
	if (stops_by_default(sig) || sigismember(&supervisor->blocked, sig) == 1) {
		sigaddset(&supervisor->held, sig);
	} else if (ends_by_default(sig)) {
		kill(supervisor->init, SIGKILL);
		supervisor->ended = true;
		supervisor->status = sig;
		end_with_init(supervisor);
	}
}

static void note_ignored(sigset_t *ignored)
{
	sigemptyset(ignored);
	for (int sig = 1; sig < NSIG; sig++) {
		struct sigaction now;

		if (sigaction(sig, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
			sigaddset(ignored, sig);
	}
}

static void keep_only(const struct supervisor *supervisor, int channel, int signals)
{
	const struct owners *owners = supervisor->owners;
	int keep[6] = {channel, signals};
	size_t count = 2;

	if (supervisor->terminal >= 0)
		keep[count++] = supervisor->terminal;
	if (owners != NULL) {
		keep[count++] = owners->proc;
		keep[count++] = owner_table_fd(owners->table);
		if (owners->upper >= 0)
			keep[count++] = owners->upper;
	}
	close_all_but(keep, count);
}

/* The kernel sees to it, from here on: entering a user namespace would have undone it. */
static void die_with_parent(pid_t parent, const struct supervisor *supervisor)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent)
		return;
	kill(supervisor->init, SIGKILL);
	end_with_init(supervisor);
}

NORETURN void supervise(pid_t init_pid, int channel, const struct init *init)
{
	struct supervisor supervisor = {.init = init_pid, .terminal = own_terminal(), .blocked = init->mask, .owners = init->owners};
	sigset_t all;
	int signals;

	sigemptyset(&supervisor.held);
	note_ignored(&supervisor.ignored);
	sigfillset(&all);
	signals = signalfd(-1, &all, SFD_CLOEXEC);
	if (signals < 0) {
		kill(init_pid, SIGKILL);
		end_with_init(&supervisor);
	}
	if (init->leash > 0)
		die_with_parent(init->leash, &supervisor);
	keep_only(&supervisor, channel, signals);
	/* Nor must the caller's directory stay in use. */
	(void)!chdir("/");
	for (;;) {
		struct pollfd wait_for[3] = {{.fd = channel, .events = POLLIN}, {.fd = signals, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
		struct signalfd_siginfo info;

		if (supervisor.service != NULL)
			wait_for[2].fd = owners_listener(supervisor.service);
		if (RETRY(poll(wait_for, 3, -1)) < 0)
			continue;
		if ((wait_for[2].revents & POLLIN) != 0)
			owners_answer(supervisor.service);
		else if (wait_for[2].revents != 0)
			supervisor.service = NULL; /* nobody is left who could ask */
		/* The channel first: a signal must not be sent to a pid that has just been let go. */
		if (wait_for[0].revents != 0) {
			if (!hear(&supervisor, channel))
				end_with_init(&supervisor);
		} else if (wait_for[1].revents != 0 && RETRY(read(signals, &info, sizeof info)) == (ssize_t)sizeof info) {
			pass_on(&supervisor, &info);
		}
	}
}
