/* `neighbour DIR:RANKS`: the ranks of a node read a number out of each other's memory, as MPI libraries do within a node. Each writes where its number is to a
 * file in DIR, reads everybody's, and waits until all have read its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile long number;

static void tell(const char *dir, const char *what, int rank)
{
	char path[PATH_MAX], fresh[PATH_MAX + 8];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s-%d", dir, what, rank);
	snprintf(fresh, sizeof fresh, "%s.new", path);
	file = fopen(fresh, "w");
	if (file == NULL || fprintf(file, "%d %p\n", getpid(), (void *)&number) < 0 || fclose(file) != 0 || rename(fresh, path) < 0) {
		perror(path);
		exit(1);
	}
}

static FILE *hear(const char *dir, const char *what, int rank)
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s-%d", dir, what, rank);
	while ((file = fopen(path, "r")) == NULL)
		usleep(1000); /* a rank that never comes is ended by the test's time limit */
	return file;
}

int main(int argc, char **argv)
{
	int own = atoi(getenv("SLURM_LOCALID")), ranks = atoi(strchr(argv[argc - 1], ':') + 1);
	const char *dir = strtok(argv[argc - 1], ":");

	number = 1000 + own;
	tell(dir, "at", own);
	for (int rank = 0; rank < ranks; rank++) {
		FILE *file = hear(dir, "at", rank);
		long value = 0;
		void *place;
		int pid;

		if (fscanf(file, "%d %p", &pid, &place) != 2)
			return 1;
		struct iovec local = {&value, sizeof value}, remote = {place, sizeof value};
		if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != sizeof value || value != 1000 + rank) {
			printf("%d cannot read from %d: %s\n", own, rank, strerror(errno));
			return 1;
		}
		fclose(file);
	}
	tell(dir, "read", own);
	for (int rank = 0; rank < ranks; rank++)
		fclose(hear(dir, "read", rank));
	printf("%d has read from all\n", own);
	return 0;
}
