/* unshare_exec COMMAND ARG…: a user and a mount namespace, then the command: what the kernel takes for them, and nothing else. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 2 || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
		perror("unshare_exec");
		return 1;
	}
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
