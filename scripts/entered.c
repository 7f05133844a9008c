/* Says which functions a program enters before it becomes another one, or ends:
 *
 *   nm PROGRAM.full | entered PROGRAM ARG…
 *
 * with a breakpoint at each function that nm names, taken away when it is met. Made for start-order.sh; for x86-64. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_FUNCTIONS 65536

static struct function {
	unsigned long at;
	char *name;
	unsigned char byte; /* what the breakpoint is in the place of */
	bool entered;
} functions[MAX_FUNCTIONS];
static size_t count;

static void read_names(void)
{
	unsigned long at;
	char kind, name[512];

	while (count < MAX_FUNCTIONS && scanf("%lx %c %511s", &at, &kind, name) == 3)
		if (strchr("tTwW", kind) != NULL)
			functions[count++] = (struct function) { .at = at, .name = strdup(name) };
}

static void put_byte(int memory, unsigned long at, unsigned char byte)
{
	if (pwrite(memory, &byte, 1, (off_t)at) != 1) {
		perror("entered: breakpoint");
		exit(1);
	}
}

/* A function can have several names. */
static bool enter(int memory, unsigned long at)
{
	bool found = false;

	for (size_t i = 0; i < count; i++) {
		if (functions[i].at != at)
			continue;
		if (!found)
			put_byte(memory, at, functions[i].byte);
		found = functions[i].entered = true;
	}
	return found;
}

static void follow(pid_t pid, int memory)
{
	int status, number = 0;

	while (ptrace(PTRACE_CONT, pid, NULL, number) == 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		struct user_regs_struct registers;

		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8))
			return;
		number = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		if (number != 0)
			continue;
		ptrace(PTRACE_GETREGS, pid, NULL, &registers);
		if (enter(memory, --registers.rip))
			ptrace(PTRACE_SETREGS, pid, NULL, &registers);
	}
}

int main(int argc, char **argv)
{
	char path[64];
	pid_t pid;
	int memory;

	if (argc < 2)
		return 2;
	read_names();
	pid = fork();
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execv(argv[1], argv + 1);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
	snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
	memory = open(path, O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < count; i++)
		if (pread(memory, &functions[i].byte, 1, (off_t)functions[i].at) != 1)
			return 1;
	for (size_t i = 0; i < count; i++)
		put_byte(memory, functions[i].at, 0xcc);
	follow(pid, memory);
	for (size_t i = 0; i < count; i++)
		if (functions[i].entered)
			puts(functions[i].name);
	return 0;
}
