/* The runs of a scope: how they come, ask for an image and are answered, and that they have ended. */
#include "server_internal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#define LOOK_MS 1000
#define SOON_MS 50
#define SEND_MS 100
/* A run asks at once. One that was stopped before finds that nobody listens, and begins anew. */
#define QUESTION_MS 2000
/* Of all runs. The descriptors that wait in sockets are counted for the user: nobody whose RLIMIT_NOFILE is smaller than that can send any more. */
#define NAMESPACES_MAX 64

int server_watch(struct server *server, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

	return epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void server_unwatch(struct server *server, int fd)
{
	epoll_ctl(server->epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* --- runs --- */

static int pidfd_of_peer(const struct connection *connection)
{
	int fd;
	socklen_t len = sizeof fd;

	if (getsockopt(connection->sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
		return fd;
	fd = (int)syscall(SYS_pidfd_open, connection->peer.pid, 0); /* it waits for our answer, so the pid is still its own */
	return fd < 0 ? -errno : fd;
}

/* One run less, or one that was never seen: when it was the last, the linger time begins. */
static void linger(struct server *server, struct image *image)
{
	if (image == NULL && server->bare_runs == 0)
		server->bare_deadline = server_now_ms() + server->bare_linger_ms;
	else if (image != NULL && image->runs == 0)
		image->deadline = server_now_ms() + image->linger_ms;
}

/* The run at the other end of the socket; NULL: it cannot be known, or there is no memory for it, and the kernel keeps the mount for it. It is looked for soon,
 * and only one that is still there then is watched: to be told of the end of each would take the processor that its parent is about to run on. */
static struct run *add_run(struct server *server, const struct connection *connection, struct image *image)
{
	struct run *run = connection->peer.pid > 0 ? malloc(sizeof *run) : NULL;
	int cleanup_fd pidfd = run == NULL ? -1 : pidfd_of_peer(connection);
	int64_t due;

	if (run == NULL) {
		linger(server, image);
		return NULL;
	}
	if (pidfd >= server->fd_limit)
		close_fd(&pidfd);
	*run = (struct run) { .what = RUN, .pidfd = steal_fd(&pidfd), .pid = connection->peer.pid, .sock = -1, .image = image, .next = server->looked_for };
	due = server_now_ms() + (run->pidfd < 0 ? LOOK_MS : SOON_MS);
	if (server->looked_for == NULL || due < server->look_due)
		server->look_due = due;
	server->looked_for = run;
	*(image != NULL ? &image->runs : &server->bare_runs) += 1;
	if (image != NULL)
		supervised_used(image->serving, true);
	return run;
}

/* Whether it can leave its namespace in the socket: only a run whose end is told. */
static bool may_leave(const struct server *server, const struct run *run, int sock)
{
	return run != NULL && run->pidfd >= 0 && sock < server->fd_limit && server->namespaces + endings_left(&server->endings) < NAMESPACES_MAX;
}

void server_end_run(struct server *server, struct run *run)
{
	struct image *image = run->image;

	if (run->is_watched)
		server_unwatch(server, run->pidfd);
	close_fd(&run->pidfd);
	if (run->layout != NULL)
		layout_run_ended(server, run);
	if (run->sock >= 0) {
		server_let_go(server, &run->sock);
		server->namespaces--;
	}
	free(run);
	*(image != NULL ? &image->runs : &server->bare_runs) -= 1;
	if (image != NULL && image->runs == 0)
		supervised_used(image->serving, false);
	linger(server, image);
}

/* Should another process of the user have its pid by now, the server stays a while longer. */
static bool has_ended(const struct run *run)
{
	struct pollfd end = { .fd = run->pidfd, .events = POLLIN };

	return run->pidfd >= 0 ? poll(&end, 1, 0) > 0 : kill(run->pid, 0) < 0 && errno == ESRCH;
}

void server_look_for_runs(struct server *server)
{
	struct run **at = &server->looked_for;

	while (*at != NULL) {
		struct run *run = *at;

		if (has_ended(run)) {
			*at = run->next;
			server_end_run(server, run);
		} else if (run->pidfd >= 0 && server_watch(server, run->pidfd, run) == 0) {
			*at = run->next;
			run->is_watched = true;
		} else {
			at = &run->next;
		}
	}
	server->look_due = server_now_ms() + LOOK_MS;
	for (struct image *image = server->images; image != NULL; image = image->next)
		supervised_fill(image->serving);
}

/* --- joins --- */

static void hang_up(struct connection *connection)
{
	close(connection->sock);
	free(connection->layout);
	free(connection);
}

void server_refuse(struct connection *connection, int rc, const struct err *err)
{
	struct wire_reply reply = { .protocol = WIRE_PROTOCOL, .rc = rc, .err = *err };
	int none[WIRE_FDS] = { -1 };

	/* Should it have gone meanwhile, it does not want to know any more. */
	(void)!wire_send(connection->sock, &reply, sizeof reply, none);
	hang_up(connection);
}

/* A run that is killed meanwhile is noticed when it gets its answer. */
static void wait_in(struct connection **waiters, struct connection *connection)
{
	connection->next = *waiters;
	*waiters = connection;
}

void server_welcome(struct server *server, struct connection *connection, struct image *image)
{
	/* With few descriptors left nobody waits: others need them to ask. */
	bool shares = image != NULL && connection->layout_len > 0 && server->box.view < 0 && connection->sock < server->fd_limit / 2;
	struct layout *layout = shares ? layout_find(server, image, connection) : NULL;
	struct wire_reply reply = { .protocol = WIRE_PROTOCOL, .finish = shares && layout == NULL };
	struct err err = { 0 };
	int cleanup_fd own = -1;
	int fds[WIRE_FDS] = { server->box.userns, -1, -1 };
	const struct iovec message = { &reply, sizeof reply };
	struct run *run;
	bool leaves;

	if (layout != NULL && layout->state == LAYOUT_AWAITED) {
		wait_in(&layout->waiters, connection);
		return;
	}
	if (layout != NULL) {
		reply.mount = WIRE_MOUNT_FINISHED;
		fds[1] = layout->namespace;
	} else if (shares && (own = spares_take(image, connection)) >= 0) {
		reply.mount = WIRE_MOUNT_SPARE;
		fds[1] = own;
	} else if (image != NULL && (fds[1] = image_show(image, &reply, &own, &err)) < 0) {
		linger(server, image);
		if (fds[1] == -EMFILE)
			hang_up(connection); /* it asks again; by then others have their answers */
		else
			server_refuse(connection, fds[1], &err);
		return;
	}
	if (image != NULL) {
		/* Not when it is recorded what is touched first; and an image with a record of that says itself what to ask for. */
		reply.ahead = !image->was_lent && image->record < 0 && image->hot_size == 0;
		image->was_lent = true;
		image->linger_ms = connection->linger_ms;
	}
	/* It is known before it begins. */
	run = add_run(server, connection, image);
	if (run != NULL && layout != NULL)
		layout_add_run(layout, run);
	leaves = layout == NULL && may_leave(server, run, connection->sock);
	reply.finish = reply.finish && leaves;
	if (reply.finish && reply.mount != WIRE_MOUNT_SPARE)
		reply.lend_view = spares_are_wanted(image, connection);
	/* Before it is answered: else it may leave its namespace even so, and to close the socket would be to unmount that here. */
	if (layout == NULL && !leaves)
		shutdown(connection->sock, SHUT_RD);
	if (wire_send_parts(connection->sock, &message, 1, fds, SEND_MS) < 0) {
		hang_up(connection); /* when it has ended, the server is told as of any other */
		return;
	}
	if (leaves) {
		run->sock = connection->sock;
		server->namespaces++;
		if (reply.finish)
			layout_new(server, connection, run);
	} else {
		close(connection->sock);
	}
	free(connection->layout);
	free(connection);
}

static bool readable_fd(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_WRONLY;
}

static void tell_statistics(struct server *server, struct connection *connection)
{
	static char text[WIRE_STATISTICS_MAX];
	size_t len;

	server_look_for_runs(server);
	len = server_tell_statistics(&server->box, server->images, server->bare_runs, text, sizeof text);

	(void)!send(connection->sock, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	hang_up(connection);
}

void server_watch_image(struct server *server, struct image *image)
{
	image->is_watched = server_watch(server, supervised_channel(image->serving), &image->what) == 0;
	if (!image->is_watched)
		server_log(&server->box, "a serving process cannot be watched");
}

/* Until its question arrives. */
static void wait_for_question(struct server *server, struct connection *connection)
{
	if (server_watch(server, connection->sock, connection) < 0) {
		hang_up(connection);
		return;
	}
	connection->deadline = server_now_ms() + QUESTION_MS;
	wait_in(&server->silent, connection);
}

static void no_longer_silent(struct server *server, struct connection *connection)
{
	struct connection **at = &server->silent;

	while (*at != connection)
		at = &(*at)->next;
	*at = connection->next;
	server_unwatch(server, connection->sock);
}

void server_hear(struct server *server, struct connection *connection)
{
	no_longer_silent(server, connection);
	server_answer(server, connection);
}

int64_t server_drop_silent(struct server *server)
{
	int64_t now = server_now_ms(), due = INT64_MAX;

	for (struct connection *connection = server->silent, *next; connection != NULL; connection = next) {
		next = connection->next;
		if (connection->deadline > now) {
			due = connection->deadline;
		} else {
			no_longer_silent(server, connection);
			hang_up(connection);
		}
	}
	return due;
}

/* Without the memory for it, it shares none. */
static void take_layout(struct connection *connection, const char *layout, size_t len, size_t base)
{
	connection->layout = len > 0 ? malloc(len) : NULL;
	if (connection->layout == NULL)
		return;
	memcpy(connection->layout, layout, len);
	connection->layout_len = len;
	connection->layout_base = base <= len ? base : 0;
}

void server_answer(struct server *server, struct connection *connection)
{
	static struct {
		struct wire_request request;
		char layout[WIRE_LAYOUT_MAX];
	} question;
	const struct wire_request *request = &question.request;
	struct image *image = NULL;
	struct err err = { 0 };
	int fds[WIRE_FDS];
	int rc = wire_receive(connection->sock, &question, sizeof question.request, sizeof question, fds, MSG_DONTWAIT);

	if (rc == -EAGAIN) {
		wait_for_question(server, connection);
		return;
	}
	if (rc < 0) {
		hang_up(connection);
		return;
	}
	if (request->protocol == WIRE_PROTOCOL && request->wish == WIRE_STATISTICS) {
		wire_close(fds);
		tell_statistics(server, connection);
		return;
	}
	if (request->protocol != WIRE_PROTOCOL || (request->has_image != 0) != (fds[0] >= 0) || (fds[0] >= 0 && !readable_fd(fds[0]))
		|| (request->has_record != 0) != (fds[1] >= 0) || fds[2] >= 0) {
		wire_close(fds);
		server_refuse(connection, fail(&err, EPROTO, SERVER_STEP_SERVER, "it did not understand the request"), &err);
		return;
	}
	take_layout(connection, question.layout, (size_t)rc - sizeof question.request, request->layout_base);
	connection->linger_ms = request->linger_ms;
	server->bare_linger_ms = request->linger_ms;
	linger(server, NULL); /* also for who is refused: it may come back and ask for less */
	if (request->has_image) {
		image = images_find_or_open(&server->images, &server->box, request, fds[0], fds[1], &err);
		if (image == NULL) {
			server_refuse(connection, -err.errnum, &err);
			return;
		}
	}
	if (image != NULL && !image->is_watched)
		server_watch_image(server, image);
	if (image != NULL && image->state == IMAGE_OPENING)
		wait_in(&image->waiters, connection);
	else
		server_welcome(server, connection, image);
}

struct connection *server_connection(int sock)
{
	struct connection *connection = malloc(sizeof *connection);
	socklen_t len = sizeof connection->peer;

	if (connection == NULL)
		return NULL;
	*connection = (struct connection) { .what = CONNECTION, .sock = sock };
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &connection->peer, &len) == 0)
		return connection;
	free(connection);
	return NULL;
}

void server_accept_one(struct server *server)
{
	int cleanup_fd sock = RETRY(accept4(server->box.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	struct connection *connection = sock < 0 ? NULL : server_connection(sock);

	if (connection == NULL)
		return;
	steal_fd(&sock);
	/* Its question is usually there. */
	if (connection->peer.uid == server->box.uid)
		server_answer(server, connection);
	else
		hang_up(connection);
}

void server_answer_waiters(struct server *server, struct image *image, int rc, const struct err *err)
{
	struct connection *waiter = image->waiters;

	image->waiters = NULL;
	while (waiter != NULL) {
		struct connection *next = waiter->next;

		if (rc < 0)
			server_refuse(waiter, rc, err);
		else
			server_welcome(server, waiter, image);
		waiter = next;
	}
}
