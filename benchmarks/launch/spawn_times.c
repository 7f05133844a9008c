/* Starts commands in turn and says how long each took, from before the fork to after the wait.
 *
 *   spawn_times ROUNDS [IN-A-ROW] -- COMMAND ARG… -- COMMAND ARG… …
 *
 * Each round has every command, so that what else the machine does meets all alike; in an order of its own (the same orders each time). A command is started
 * so many times in a row (1): the first one meets what the command before has left, in the processor's caches and to the kernel as work; the last one hardly.
 * "%" in an argument becomes the number of the start: calls that all differ. Standard input and output are /dev/null. Prints one line for each start:
 * COMMAND-NUMBER WALL-NS USER-US SYSTEM-US TURN, where TURN counts those in a row from 0. A command that fails ends everything with status 1. It is C and small
 * because the fork of a big process is slow by itself. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_COMMANDS 32
#define MAX_ARGS 64

static char *arguments[MAX_COMMANDS][MAX_ARGS + 1];

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long microseconds(struct timeval t)
{
	return t.tv_sec * 1000000LL + t.tv_usec;
}

static char *with_number(const char *text, int number)
{
	const char *mark = strchr(text, '%');
	char *out;

	if (mark == NULL)
		return strdup(text);
	if (asprintf(&out, "%.*s%d%s", (int)(mark - text), text, number, mark + 1) < 0)
		exit(1);
	return out;
}

static void start_once(int command, int number, int turn)
{
	char *argv[MAX_ARGS + 1] = {NULL};
	struct rusage usage;
	long long begin;
	int status;
	pid_t pid;

	for (int i = 0; arguments[command][i] != NULL; i++)
		argv[i] = with_number(arguments[command][i], number);
	begin = now();
	pid = vfork();
	if (pid == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &usage) != pid) {
		perror("spawn_times");
		exit(1);
	}
	printf("%d %lld %lld %lld %d\n", command, now() - begin, microseconds(usage.ru_utime), microseconds(usage.ru_stime), turn);
	if (status != 0) {
		fprintf(stderr, "spawn_times: %s: wait status %d\n", argv[0], status);
		exit(1);
	}
	for (int i = 0; argv[i] != NULL; i++)
		free(argv[i]);
}

/* Fisher and Yates' shuffle. */
static void shuffle(int *order, int count)
{
	for (int i = count - 1; i > 0; i--) {
		int j = (int)(random() % (i + 1)), other = order[j];

		order[j] = order[i];
		order[i] = other;
	}
}

int main(int argc, char **argv)
{
	int order[MAX_COMMANDS];
	int rounds = argc > 1 ? atoi(argv[1]) : 0;
	int in_a_row = 1, count = 0, length = 0, out;

	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			count++;
			length = 0;
		} else if (count == 0) {
			in_a_row = atoi(argv[i]);
		} else if (count <= MAX_COMMANDS && length < MAX_ARGS) {
			arguments[count - 1][length++] = argv[i];
		}
	}
	if (rounds <= 0 || in_a_row <= 0 || count == 0 || count > MAX_COMMANDS) {
		fprintf(stderr, "usage: spawn_times ROUNDS [IN-A-ROW] -- COMMAND ARG… …\n");
		return 2;
	}
	/* What is printed must not go to the commands. */
	out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	stdout = fdopen(out, "w");
	dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDIN_FILENO);
	dup2(STDIN_FILENO, STDOUT_FILENO);
	for (int i = 0; i < count; i++)
		order[i] = i;
	for (int round = 0; round < rounds; round++) {
		shuffle(order, count);
		for (int i = 0; i < count; i++)
			for (int turn = 0; turn < in_a_row; turn++)
				start_once(order[i], round * in_a_row + turn, turn);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
