/* The process that becomes a server, started by a run: as a session of its own, with nothing of the run's but three descriptors. */
#include "server.h"
#include "server_birth.h"
#include "server_wire.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* The caller's soft limit may be lower than what the descriptors need on their way to their places; the server raises the others itself. */
static void raise_limit_of_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

struct birth {
	char *const *argv;
	int starter, dir, lock; /* for the server's WIRE_…_FD */
	char *stack;            /* of the process that does the next step */
	int failure;            /* errno */
};
#define STACK_BYTES ((size_t)16 << 10)

/* A process that uses this one's memory, and this one waits until it does no longer: because it has become another program, or ended. To copy the memory of a planner
 * that has just planned would take as long as all the rest. */
static pid_t lend_memory(int (*main)(void *), struct birth *birth, int flags)
{
	birth->stack += STACK_BYTES;
	return clone(main, birth->stack, CLONE_VM | CLONE_VFORK | SIGCHLD | flags, birth);
}

/* In the new process. */
static int become_server(void *context)
{
	static char *const empty[] = { NULL };
	const struct birth *birth = context;
	struct wire_reply failed = { .protocol = WIRE_PROTOCOL };
	int null, high_starter, high_dir, high_lock;

	raise_limit_of_descriptors();
	null = open("/dev/null", O_RDWR);
	high_starter = fcntl(birth->starter, F_DUPFD, WIRE_FIRST_FREE_FD);
	high_dir = fcntl(birth->dir, F_DUPFD, WIRE_FIRST_FREE_FD);
	high_lock = fcntl(birth->lock, F_DUPFD, WIRE_FIRST_FREE_FD);
	if (null < 0 || high_starter < 0 || high_dir < 0 || high_lock < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0
		|| dup2(high_starter, WIRE_STARTER_FD) < 0 || dup2(high_dir, WIRE_DIR_FD) < 0 || dup2(high_lock, WIRE_LOCK_FD) < 0) {
		failed.rc = fail(&failed.err, errno, SERVER_STEP_SERVER, "opening /dev/null and placing its descriptors");
	} else {
		execve("/proc/self/exe", birth->argv, empty);
		failed.rc = fail(&failed.err, errno, SERVER_STEP_SERVER, "starting it from /proc/self/exe");
	}
	if (high_starter < 0)
		high_starter = birth->starter;
	wire_leave_unread(high_starter);
	(void)!send(high_starter, &failed, sizeof failed, MSG_NOSIGNAL);
	_exit(125);
}

static int start_session(void *context)
{
	struct birth *birth = context;

	setsid();
	if (lend_memory(become_server, birth, 0) < 0)
		birth->failure = errno;
	_exit(0);
}

/* By a process between, so that the server is nobody's child that would have to wait for it. Who traces the run and its children (strace -f) does not get the server: it
 * would wait for a page of the image when it reads their memory, and who has to answer would wait for it. */
pid_t server_spawn(char *const argv[], int starter, int dir, int lock)
{
	_Alignas(16) char stacks[2 * STACK_BYTES];
	struct birth birth = { .argv = argv, .starter = starter, .dir = dir, .lock = lock, .stack = stacks };
	sigset_t all, before;
	pid_t between;

	/* Were it stopped from the terminal now, this process could not be. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	between = lend_memory(start_session, &birth, CLONE_UNTRACED);
	if (between < 0)
		birth.failure = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (between > 0)
		RETRY(waitpid(between, NULL, 0));
	return birth.failure != 0 ? -birth.failure : between;
}
