/* `race OWN TARGET COUNT`: gives OWN away COUNT times while a second thread exchanges the path in memory with TARGET, and OWN itself with a symbolic link to it:
 * whoever reads it twice is led astray. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[4096];
static const char *own, *target;
static atomic_bool done;

static void *exchange(void *unused)
{
	while (!done) {
		strcpy(path, target);
		strcpy(path, own);
		unlink(own);
		(void)!symlink(target, own);
		unlink(own);
		close(open(own, O_CREAT | O_WRONLY, 0644));
	}
	return unused;
}

int main(int argc, char **argv)
{
	int count = argc == 4 ? atoi(argv[3]) : 0, worked = 0;
	pthread_t thread;

	if (count == 0)
		return 90;
	own = argv[1];
	target = argv[2];
	strcpy(path, own);
	pthread_create(&thread, NULL, exchange, NULL);
	for (int i = 0; i < count; i++)
		worked += chown(path, 5, 5) == 0;
	done = true;
	pthread_join(thread, NULL);
	printf("%d of %d calls\n", worked, count);
	return 0;
}
