/* The image server's control loop: joins, ends of runs, linger times, its own end. One thread; the images' own processes answer the kernel.
 * It waits in epoll for what happens, and for the next deadline if there is one. */
#include "memory.h"
#include "server_internal.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define NEVER INT64_MAX
#define LOOK_MS 1000
#define START_GRACE_MS 10000 /* for the run that started us to ask */
#define CACHE_MAX (64u << 20)
#define CACHE_MIN (8u << 20)

struct connection { /* a run that wants to join; from accept to the answer */
	enum watched what;
	int sock;
};

struct run { /* one that has joined */
	enum watched what;
	int pidfd;           /* -1: its end is not told (before Linux 5.3, or there are too many), so it is looked for */
	pid_t pid;
	struct image *image; /* NULL: it has the user namespace only */
	struct run *next;    /* of those that are looked for */
};

struct server {
	struct server_box box;
	struct image *images;
	unsigned bare_runs; /* without an image */
	int64_t bare_deadline;
	uint32_t bare_linger_ms;
	unsigned connections; /* that wait for their question to arrive */
	struct run *looked_for;
	int64_t look_due;
	int epoll;
	int fd_limit; /* of pidfds: beyond are only enough for runs that come and their images */
};

static int watch(struct server *server, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

	return epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Before a descriptor is closed: a process that was just forked for an image may still have it, and then the kernel would go on telling us of it. */
static void unwatch(struct server *server, int fd)
{
	epoll_ctl(server->epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* --- runs --- */

static int pidfd_of_peer(int sock, pid_t *pid)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	int fd;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid <= 0)
		return -ESRCH;
	*pid = peer.pid;
	len = sizeof fd;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
		return fd;
	fd = (int)syscall(SYS_pidfd_open, peer.pid, 0); /* it waits for our answer, so the pid is still its own */
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

static void add_run(struct server *server, int sock, struct image *image)
{
	struct run *run = malloc(sizeof *run);
	pid_t pid = 0;
	int cleanup_fd pidfd = run == NULL ? -1 : pidfd_of_peer(sock, &pid);

	if (pidfd < 0 || pidfd >= server->fd_limit || fcntl(pidfd, F_SETFD, FD_CLOEXEC) < 0 || watch(server, pidfd, run) < 0)
		close_fd(&pidfd);
	if (pid == 0) { /* it has gone, or there is no memory to know it: the kernel keeps the mount for it */
		free(run);
		linger(server, image);
		return;
	}
	*run = (struct run) { RUN, steal_fd(&pidfd), pid, image, NULL };
	if (run->pidfd < 0) {
		run->next = server->looked_for;
		server->looked_for = run;
		server->look_due = server_now_ms() + LOOK_MS;
	}
	*(image != NULL ? &image->runs : &server->bare_runs) += 1;
	if (image != NULL)
		supervised_used(image->serving, true);
}

static void end_run(struct server *server, struct run *run)
{
	struct image *image = run->image;

	if (run->pidfd >= 0) {
		unwatch(server, run->pidfd);
		close(run->pidfd);
	}
	free(run);
	*(image != NULL ? &image->runs : &server->bare_runs) -= 1;
	if (image != NULL && image->runs == 0)
		supervised_used(image->serving, false);
	linger(server, image);
}

/* Should another process of the user have its pid by now, the server stays a while longer. */
static void look_for_runs(struct server *server)
{
	struct run **at = &server->looked_for;

	while (*at != NULL) {
		struct run *run = *at;

		if (kill(run->pid, 0) == 0 || errno != ESRCH) {
			at = &run->next;
			continue;
		}
		*at = run->next;
		end_run(server, run);
	}
	server->look_due = server_now_ms() + LOOK_MS;
}

/* --- joins --- */

static void hang_up(struct connection *connection)
{
	close(connection->sock);
	free(connection);
}

static void refuse(struct connection *connection, int rc, const struct err *err)
{
	struct wire_reply reply = { .protocol = WIRE_PROTOCOL, .rc = rc, .err = *err };
	int none[2] = { -1, -1 };

	/* Should it have gone meanwhile, it does not want to know any more. */
	(void)!wire_send(connection->sock, &reply, sizeof reply, none);
	hang_up(connection);
}

static void welcome(struct server *server, struct connection *connection, struct image *image, uint32_t linger_ms)
{
	struct wire_reply reply = { .protocol = WIRE_PROTOCOL };
	struct err err = { 0 };
	int cleanup_fd own = -1;
	int fds[2] = { server->box.userns, image != NULL ? image_show(image, &reply, &own, &err) : -1 };

	if (image != NULL && fds[1] < 0) {
		linger(server, image);
		refuse(connection, fds[1], &err);
		return;
	}
	if (image != NULL)
		image->linger_ms = linger_ms;
	if (wire_send(connection->sock, &reply, sizeof reply, fds) == 0)
		add_run(server, connection->sock, image);
	else
		linger(server, image);
	hang_up(connection);
}

/* A run that is killed meanwhile is noticed when it gets its answer. */
static void wait_for_image(struct connection *connection, struct image *image, uint32_t linger_ms)
{
	struct waiter *waiter = malloc(sizeof *waiter);

	if (waiter == NULL) {
		hang_up(connection);
		return;
	}
	*waiter = (struct waiter) { image->waiters, connection, linger_ms };
	image->waiters = waiter;
}

static bool readable_fd(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_WRONLY;
}

static void tell_statistics(const struct server *server, struct connection *connection)
{
	static char text[WIRE_STATISTICS_MAX];
	size_t len = server_tell_statistics(&server->box, server->images, server->bare_runs, text, sizeof text);

	(void)!send(connection->sock, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	hang_up(connection);
}

static void watch_image(struct server *server, struct image *image)
{
	image->is_watched = watch(server, supervised_channel(image->serving), &image->what) == 0;
	if (!image->is_watched)
		server_log(&server->box, "a serving process cannot be watched");
}

/* The question has arrived. */
static void answer(struct server *server, struct connection *connection)
{
	struct wire_request request;
	struct image *image = NULL;
	struct err err = { 0 };
	int fds[2];
	int rc = wire_receive(connection->sock, &request, sizeof request, fds, MSG_DONTWAIT);

	unwatch(server, connection->sock);
	server->connections--;
	if (rc < 0) {
		hang_up(connection);
		return;
	}
	if (request.protocol == WIRE_PROTOCOL && request.wish == WIRE_STATISTICS) {
		close_fd(&fds[0]);
		close_fd(&fds[1]);
		tell_statistics(server, connection);
		return;
	}
	if (request.protocol != WIRE_PROTOCOL || (request.has_image != 0) != (fds[0] >= 0) || (fds[0] >= 0 && !readable_fd(fds[0]))
		|| (request.has_record != 0) != (fds[1] >= 0)) {
		close_fd(&fds[0]);
		close_fd(&fds[1]);
		refuse(connection, fail(&err, EPROTO, SERVER_STEP_SERVER, "it did not understand the request"), &err);
		return;
	}
	server->bare_linger_ms = request.linger_ms;
	linger(server, NULL); /* also for who is refused: it may come back and ask for less */
	if (request.has_image) {
		image = images_find_or_open(&server->images, &server->box, &request, fds[0], fds[1], &err);
		if (image == NULL) {
			refuse(connection, -err.errnum, &err);
			return;
		}
	}
	if (image != NULL && !image->is_watched)
		watch_image(server, image);
	if (image != NULL && image->state == IMAGE_OPENING)
		wait_for_image(connection, image, request.linger_ms);
	else
		welcome(server, connection, image, request.linger_ms);
}

static bool is_own_user(int sock, uid_t uid)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == uid;
}

/* Returns whether somebody was there. */
static bool accept_one(struct server *server)
{
	int sock = RETRY(accept4(server->box.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	struct connection *connection;

	if (sock < 0)
		return false;
	connection = is_own_user(sock, server->box.uid) ? malloc(sizeof *connection) : NULL;
	if (connection == NULL) {
		close(sock);
		return true;
	}
	*connection = (struct connection) { CONNECTION, sock };
	if (watch(server, sock, connection) < 0)
		hang_up(connection);
	else
		server->connections++;
	return true;
}

/* --- images: what their processes say, and what is due --- */

static void answer_waiters(struct server *server, struct image *image, int rc, const struct err *err)
{
	struct waiter *waiter = image->waiters;

	image->waiters = NULL;
	while (waiter != NULL) {
		struct waiter *next = waiter->next;

		if (rc < 0)
			refuse(waiter->connection, rc, err);
		else
			welcome(server, waiter->connection, image, waiter->linger_ms);
		free(waiter);
		waiter = next;
	}
}

static void hear_image(struct server *server, struct image *image)
{
	struct err err = { 0 };

	unwatch(server, supervised_channel(image->serving));
	switch (supervised_hear(image->serving, &err)) {
	case NEWS_NONE:
	case NEWS_REPLACED:
		watch_image(server, image);
		break;
	case NEWS_OPENED:
		image->state = IMAGE_SERVING;
		image->deadline = server_now_ms();
		answer_waiters(server, image, 0, NULL);
		watch_image(server, image);
		break;
	case NEWS_FAILED:
		answer_waiters(server, image, err.errnum > 0 ? -err.errnum : -EIO, &err);
		image->ended = true;
		break;
	case NEWS_ENDED:
		image->ended = true;
		break;
	}
}

/* Brings an image to the state it should be in; it may be gone afterwards. */
static void settle_image(struct server *server, struct image *image)
{
	int64_t now = server_now_ms();

	if (supervised_due(image->serving) <= now)
		supervised_look(image->serving);
	if (image->ended && image->runs == 0)
		image_forget(&server->images, image);
	else if (image->state == IMAGE_SERVING && (image->ended || (image->runs == 0 && image->deadline <= now)))
		image_leave(image);
}

/* When something is due next, in milliseconds of epoll_wait: -1 never. */
static int until_due(const struct server *server)
{
	int64_t due = server->bare_runs == 0 && server->images == NULL && server->connections == 0 ? server->bare_deadline : NEVER;
	int64_t left;

	for (const struct image *image = server->images; image != NULL; image = image->next) {
		if (image->state == IMAGE_SERVING && image->runs == 0 && image->deadline < due)
			due = image->deadline;
		if (supervised_due(image->serving) < due)
			due = supervised_due(image->serving);
	}
	if (server->looked_for != NULL && server->look_due < due)
		due = server->look_due;
	if (due == NEVER)
		return -1;
	left = due - server_now_ms();
	return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

static bool nothing_to_do(const struct server *server)
{
	return server->images == NULL && server->bare_runs == 0 && server->connections == 0 && server->bare_deadline <= server_now_ms();
}

/* --- the loop --- */

static void handle(struct server *server, enum watched *what)
{
	switch (*what) {
	case LISTENER:
		accept_one(server);
		break;
	case CONNECTION:
		answer(server, (struct connection *)(void *)what);
		break;
	case RUN:
		end_run(server, (struct run *)(void *)what);
		break;
	case IMAGE:
		hear_image(server, (struct image *)(void *)what);
		break;
	}
}

/* Takes the socket away, unless somebody has just come. With the lock, nobody starts another server before this one's socket is gone; who has
 * connected but was not accepted sees a reset, and begins anew. */
static bool end_of_scope(struct server *server)
{
	int cleanup_fd lock = wire_lock(server->box.dir, server->box.key);

	if (lock >= 0 && accept_one(server))
		return false;
	if (lock >= 0)
		server_leave_directory(&server->box);
	return true;
}

static void serve_scope(struct server *server)
{
	struct epoll_event events[64];

	do {
		int n;

		while (!nothing_to_do(server)) {
			n = epoll_wait(server->epoll, events, ARRAY_LEN(events), until_due(server));
			for (int i = 0; i < n; i++)
				handle(server, events[i].data.ptr);
			if (server->looked_for != NULL && server->look_due <= server_now_ms())
				look_for_runs(server);
			for (struct image *image = server->images, *next; image != NULL; image = next) {
				next = image->next;
				settle_image(server, image);
			}
		}
	} while (!end_of_scope(server));
}

/* 2 % of the memory it may use, within bounds. Asked before the box is entered: there is no /proc in it. */
static uint64_t cache_size(uint64_t asked)
{
	uint64_t part = memory_limit("") / 50;

	return asked != 0 ? asked : part < CACHE_MIN ? CACHE_MIN : part > CACHE_MAX ? CACHE_MAX : part;
}

static int prepare_loop(struct server *server, struct err *err)
{
	static enum watched listener = LISTENER;
	struct rlimit files;
	int rc;

	server->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (server->epoll < 0)
		return fail(err, errno, SERVER_STEP_SERVER, "preparing its loop");
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		server->fd_limit = files.rlim_cur > INT_MAX ? INT_MAX : (int)(files.rlim_cur / 4 * 3);
	server->bare_deadline = server_now_ms() + START_GRACE_MS;
	rc = watch(server, server->box.listener, &listener);
	return rc < 0 ? fail(err, -rc, SERVER_STEP_SERVER, "watching its descriptors") : 0;
}

int server_main(int argc, char **argv)
{
	struct server server = { 0 };
	struct wire_reply ready = { .protocol = WIRE_PROTOCOL };
	uint64_t cache_bytes;

	if (argc != 5) {
		dprintf(STDERR_FILENO, "tsrun: @server is started by tsrun itself\n");
		return 2;
	}
	cache_bytes = cache_size(strtoull(argv[4], NULL, 10));
	ready.rc = server_enter_box(&server.box, argv[1], argv[2], argv[3], &ready.err);
	server.box.cache_bytes = cache_bytes;
	if (ready.rc == 0)
		ready.rc = prepare_loop(&server, &ready.err);
	if (ready.rc < 0)
		server_leave_directory(&server.box);
	if (write_full(WIRE_READY_FD, &ready, sizeof ready) < 0 && ready.rc < 0)
		return 1; /* nobody left to tell */
	close(WIRE_READY_FD);
	close(WIRE_LOCK_FD);
	if (ready.rc < 0)
		return 1;
	serve_scope(&server);
	return 0;
}
