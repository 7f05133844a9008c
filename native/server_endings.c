/* How the mount namespaces of runs end. Who ends the last process of a namespace unmounts all that is in it, some hundred microseconds, while its parent
 * still waits for it. So a run leaves its namespace in the socket to the server (server_leave_namespace()), where it stays unread: when the run has ended,
 * or the server has, the socket is closed, and the namespace with it. One that runs share (server_layouts.c) is closed when it is no longer kept. A thread does
 * it: the file server behind a mount may be gone, and others want to join. */
#include "server_internal.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>

#define STACK_BYTES ((size_t)64 << 10)

static void *close_them(void *from)
{
	int in = (int)(intptr_t)from, fd;

	sched_setscheduler(0, SCHED_BATCH, &(struct sched_param) { 0 }); /* takes nobody's processor when it is woken */
	while (read_full(in, &fd, sizeof fd) == 0)
		close(fd);
	return NULL;
}

/* Returns where to write descriptors to, or -1. */
static int start_thread(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ends[2], rc;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = fcntl(ends[1], F_SETFL, O_NONBLOCK) < 0 ? -errno : pthread_create(&thread, &attr, close_them, (void *)(intptr_t)ends[0]);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		return ends[1];
	close(ends[0]);
	close(ends[1]);
	return -1;
}

void server_let_go(struct server *server, int fd)
{
	if (server->endings == 0)
		server->endings = start_thread();
	if (server->endings < 0 || write(server->endings, &fd, sizeof fd) != (ssize_t)sizeof fd)
		close(fd);
}
