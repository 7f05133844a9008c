/* Starts one command many times at once: spawn_many COUNT COMMAND ARG…
 *
 * All are started before one is waited for, from processes that wait behind a closed gate, so that making them is no part of the measure. Standard
 * input and output are /dev/null. Prints: WALL-NS USER-US SYSTEM-US, from the gate's opening to the end of the last, and the CPU time of all of them with what they
 * waited for. Status 1 when one of them fails. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[1]) : 0, failed = 0, gate[2], out, null;
	struct rusage before, after;
	long long begin;

	if (count <= 0 || pipe2(gate, O_CLOEXEC) < 0) {
		fprintf(stderr, "usage: spawn_many COUNT COMMAND ARG…\n");
		return 2;
	}
	out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	for (int i = 0; i < count; i++) {
		pid_t pid = fork();
		char byte;

		if (pid == 0) {
			close(gate[1]);
			(void)!read(gate[0], &byte, 1); /* its end: the gate is open */
			execv(argv[2], argv + 2);
			_exit(127);
		}
		if (pid < 0) {
			perror("spawn_many");
			return 1;
		}
	}
	getrusage(RUSAGE_CHILDREN, &before);
	begin = now();
	close(gate[1]);
	for (int i = 0; i < count; i++) {
		int status;

		if (wait(&status) < 0 || status != 0)
			failed++;
	}
	getrusage(RUSAGE_CHILDREN, &after);
	dprintf(out, "%lld %lld %lld\n", now() - begin, microseconds(after.ru_utime) - microseconds(before.ru_utime),
		microseconds(after.ru_stime) - microseconds(before.ru_stime));
	if (failed > 0)
		fprintf(stderr, "spawn_many: %d of %d failed\n", failed, count);
	return failed > 0;
}
