/* How the launcher stops as its payload has stopped, and that it does not where the payload goes on already, however short ago that was told. */
#include <signal.h>

static int raise_when_told(int sig);
#define raise raise_when_told
#include "../../native/supervise.c"
#undef raise

#include "check.h"

static int told = -1; /* where PID 1 tells more, just before the stop */

static void tell_more(int channel)
{
	static const struct init_message goes_on = {.event = PAYLOAD_CONTINUED};

	if (send(channel, &goes_on, sizeof goes_on, 0) != (ssize_t)sizeof goes_on)
		_exit(2);
}

static int raise_when_told(int sig)
{
	if (told >= 0)
		tell_more(told);
	return raise(sig);
}

enum when { BEFORE, AT, AFTER };

/* How a process ends that stops by that signal and is told more: 0 as it should; 1000: it has stopped, and nothing else ends that. */
static int stops(int sig, enum when when)
{
	int channel[2], status = 0;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		sigset_t all;

		setpgid(0, 0); /* where nobody could have it go on, the kernel would not stop it */
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
		if (when == BEFORE)
			tell_more(channel[1]);
		if (when == AT)
			told = channel[1];
		stop_like(sig, channel[0]);
		_exit(0);
	}
	if (when == AFTER) {
		if (RETRY(waitpid(pid, &status, WUNTRACED)) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != sig)
			return 1;
		tell_more(channel[1]);
	}
	RETRY(waitpid(pid, &status, when == AFTER ? 0 : WUNTRACED));
	if (WIFSTOPPED(status)) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(channel[0]);
	close(channel[1]);
	return WIFSTOPPED(status) ? 1000 : WEXITSTATUS(status);
}

int main(void)
{
	CHECK("it stops by the same signal, and goes on when it is told more", stops(SIGTSTP, AFTER) == 0 && stops(SIGSTOP, AFTER) == 0 && stops(SIGTTIN, AFTER) == 0);
	CHECK("not where that waits already", stops(SIGTSTP, BEFORE) == 0 && stops(SIGSTOP, BEFORE) == 0);
	CHECK("nor where it is told in the moment of the stop", stops(SIGTSTP, AT) == 0 && stops(SIGTTOU, AT) == 0);
	return check_end();
}
