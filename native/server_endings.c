/* How the mount namespaces of runs end. Who ends the last process of a namespace unmounts all that is in it, some hundred microseconds, while its parent
 * still waits for it. So a run leaves its namespace in the socket to the server (server_leave_namespace()), where it stays unread: when the run has ended,
 * or the server has, the socket is closed, and the namespace with it. One that runs share (server_layouts.c) is closed when it is no longer kept. A thread does
 * it: the file server behind a mount may be gone, and others want to join.
 *
 * Where it is, the thread may wait in the kernel for as long as that lasts. An image whose last mount is behind it would stay, and the server with it: so another
 * thread goes on with the others. What hangs is bounded, too: with many namespaces on their way no run leaves one more (may_leave()), and does the unmounting
 * itself. The server's end waits for none of them: where the kernel does, what is left of the process keeps nobody, its socket has gone before. */
#include "server_internal.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>

#define STACK_BYTES ((size_t)64 << 10)
#define PATIENCE_MS 1000 /* to unmount what is in one of them takes a few milliseconds */
#define THREADS_MAX 4u   /* as many file systems may hang */

static void *close_them(void *from)
{
	struct endings *endings = from;
	int fd;

	sched_setscheduler(0, SCHED_BATCH, &(struct sched_param) { 0 }); /* takes nobody's processor when it is woken */
	while (read_full(endings->from, &fd, sizeof fd) == 0) {
		close(fd);
		atomic_fetch_add(&endings->done, 1);
	}
	return NULL;
}

static bool start_thread(struct endings *endings)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	rc = pthread_create(&thread, &attr, close_them, endings);
	pthread_attr_destroy(&attr);
	endings->threads += rc == 0;
	return rc == 0;
}

static bool begin(struct endings *endings)
{
	int ends[2];

	if (endings->threads > 0)
		return true;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	endings->from = ends[0];
	endings->to = ends[1];
	if (fcntl(endings->to, F_SETFL, O_NONBLOCK) == 0 && start_thread(endings))
		return true;
	close(ends[0]);
	close(ends[1]);
	return false;
}

void server_let_go(struct server *server, int *fd)
{
	struct endings *endings = &server->endings;

	if (*fd < 0)
		return;
	if (begin(endings) && write(endings->to, fd, sizeof *fd) == (ssize_t)sizeof *fd)
		endings->given++;
	else
		close(*fd); /* no thread can be had */
	*fd = -1;
}

unsigned endings_left(const struct endings *endings)
{
	return endings->given - atomic_load(&endings->done);
}

int64_t endings_settle(struct endings *endings)
{
	unsigned done = atomic_load(&endings->done);
	int64_t now = server_now_ms();

	if (endings->given - done <= endings->threads || endings->threads == THREADS_MAX) {
		endings->deadline = 0;
		return INT64_MAX;
	}
	if (endings->deadline != 0 && endings->deadline <= now && done == endings->seen)
		start_thread(endings);
	if (endings->deadline <= now || done != endings->seen) {
		endings->seen = done;
		endings->deadline = now + PATIENCE_MS;
	}
	return endings->deadline;
}
