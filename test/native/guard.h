/* No process outlives a test, in whatever way the test ends: killed in the midst of it, it would leave servers that it had stopped, and readers that wait for
 * them in the kernel and cannot be killed. The guard has a session of its own and adopts whatever the test starts. */
#ifndef TSRUN_TEST_GUARD_H
#define TSRUN_TEST_GUARD_H

#include "sample_tree.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define GUARD_MS (5 * 60 * 1000) /* a test that takes longer hangs */

/* Who ends a server ends with it what its readers wait for; the children of each that ends become ours. */
static void guard_end_all(void)
{
	int child;

	do {
		FILE *children = fopen(sample_text("/proc/self/task/%d/children", getpid()), "re");

		while (children != NULL && fscanf(children, "%d", &child) == 1)
			kill(child, SIGKILL);
		if (children != NULL)
			fclose(children);
	} while (waitpid(-1, NULL, 0) > 0);
}

static _Noreturn void guard(pid_t test, int front, const char *directory)
{
	struct pollfd ends[] = { { .fd = (int)syscall(SYS_pidfd_open, test, 0), .events = POLLIN }, { .fd = front, .events = POLLIN } };
	int status = 0, ended = poll(ends, 2, GUARD_MS);

	if (ended == 0)
		fprintf(stderr, "it has not ended in %d seconds\n", GUARD_MS / 1000);
	if (ended != 1 || ends[0].revents == 0)
		kill(test, SIGKILL);
	waitpid(test, &status, 0);
	guard_end_all();
	sample_run("rm -rf %s", directory);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Only the test goes on behind this; `directory` is removed after it. Who started the program waits for a process that does nothing. */
static void guard_begin(const char *directory)
{
	int front = (int)syscall(SYS_pidfd_open, getpid(), 0), status = 0;
	pid_t pid = fork();

	if (front < 0 || pid < 0)
		sample_fail("starting a guard");
	if (pid > 0) {
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	if (pid < 0)
		sample_fail("starting the test");
	if (pid > 0)
		guard(pid, front, directory);
	close(front);
}

#endif
