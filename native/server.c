/* The image server's control loop: what happened, what is due, its own end. One thread; the images' own processes answer the kernel.
 * It waits in epoll for what happens, and for the next deadline if there is one. */
#include "memory.h"
#include "server_internal.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#define NEVER INT64_MAX
#define START_GRACE_MS 10000 /* for the run that started us to ask */
#define CACHE_MAX (64u << 20)
#define CACHE_MIN (8u << 20)

/* --- images: what their processes say, and what is due --- */

static void hear_image(struct server *server, struct image *image)
{
	struct err err = { 0 };

	server_unwatch(server, supervised_channel(image->serving));
	switch (supervised_hear(image->serving, &err)) {
	case NEWS_NONE:
	case NEWS_REPLACED:
		server_watch_image(server, image);
		break;
	case NEWS_OPENED:
		image->state = IMAGE_SERVING;
		image->deadline = server_now_ms();
		server_answer_waiters(server, image, 0, NULL);
		server_watch_image(server, image);
		break;
	case NEWS_FAILED:
		server_answer_waiters(server, image, err.errnum > 0 ? -err.errnum : -EIO, &err);
		image->ended = true;
		break;
	case NEWS_ENDED:
		image->ended = true;
		break;
	}
}

static void hear_of_children(struct server *server)
{
	struct signalfd_siginfo told;

	(void)!read(server->children, &told, sizeof told);
	for (const struct image *image = server->images; image != NULL; image = image->next) {
		supervised_resume(image->serving);
		supervised_bury_fetcher(image->serving);
	}
	spares_bury(server);
}

/* Brings an image to the state it should be in; it may be gone afterwards. */
static void settle_image(struct server *server, struct image *image)
{
	int64_t now = server_now_ms();

	if (supervised_due(image->serving) <= now)
		supervised_look(image->serving);
	bool leave = image->ended || (image->runs == 0 && image->deadline <= now);

	layouts_settle(server, image, leave);
	spares_settle(server, image, leave);
	if (image->ended && image->runs == 0)
		image_forget(&server->images, image);
	else if (image->state == IMAGE_SERVING && leave)
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
		if (layouts_due(image) < due)
			due = layouts_due(image);
		if (spares_due(image) < due)
			due = spares_due(image);
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
		server_accept_one(server);
		break;
	case CONNECTION:
		server_hear(server, (struct connection *)(void *)what);
		break;
	case RUN:
		server_end_run(server, (struct run *)(void *)what);
		break;
	case LAYOUT:
		layout_hear(server, (struct layout *)(void *)what);
		break;
	case SPARE:
		spares_hear(server, what);
		break;
	case VIEW:
		break; /* has been seen */
	case IMAGE:
		hear_image(server, (struct image *)(void *)what);
		break;
	case CHILDREN:
		hear_of_children(server);
		break;
	}
}

/* Takes the socket away, unless somebody has just come. With the lock, nobody starts another server before this one's socket is gone; who has
 * connected but was not accepted sees a reset, and begins anew. */
static bool end_of_scope(struct server *server)
{
	struct pollfd waiting = { .fd = server->box.listener, .events = POLLIN };
	int cleanup_fd lock = wire_lock(server->box.dir, server->box.key);

	if (lock >= 0 && poll(&waiting, 1, 0) > 0) {
		close_fd(&lock);
		server_accept_one(server);
		return false;
	}
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
				if (*(const enum watched *)events[i].data.ptr == VIEW)
					spares_see_change(events[i].data.ptr);
			for (int i = 0; i < n; i++)
				handle(server, events[i].data.ptr);
			if (server->looked_for != NULL && server->look_due <= server_now_ms())
				server_look_for_runs(server);
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
	static enum watched children = CHILDREN;
	struct rlimit files;
	sigset_t child;
	int rc;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	server->children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	server->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (server->children < 0 || server->epoll < 0)
		return fail(err, errno, SERVER_STEP_SERVER, "preparing its loop");
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		server->fd_limit = files.rlim_cur > INT_MAX ? INT_MAX : (int)(files.rlim_cur / 4 * 3);
	server->bare_deadline = server_now_ms() + START_GRACE_MS;
	rc = server_watch(server, server->children, &children);
	return rc < 0 ? fail(err, -rc, SERVER_STEP_SERVER, "watching its descriptors") : 0;
}

static int let_others_in(struct server *server, struct err *err)
{
	static enum watched listener = LISTENER;
	int rc = server_listen(&server->box, err);

	if (rc < 0)
		return rc;
	close(WIRE_LOCK_FD);
	rc = server_watch(server, server->box.listener, &listener);
	return rc < 0 ? fail(err, -rc, SERVER_STEP_SERVER, "watching its descriptors") : 0;
}

int server_main(int argc, char **argv)
{
	struct server server = { 0 };
	struct connection *starter;
	struct err err = { 0 };
	uint64_t cache_bytes;
	int rc;

	if (argc != 5) {
		dprintf(STDERR_FILENO, "tsrun: @server is started by tsrun itself\n");
		return 2;
	}
	cache_bytes = cache_size(strtoull(argv[4], NULL, 10));
	rc = server_enter_box(&server.box, argv[1], argv[2], argv[3], &err);
	server.box.cache_bytes = cache_bytes;
	starter = server_connection(WIRE_STARTER_FD);
	if (starter == NULL)
		return 1;
	if (rc == 0)
		rc = prepare_loop(&server, &err);
	if (rc < 0) {
		wire_leave_unread(WIRE_STARTER_FD);
		server_refuse(starter, rc, &err);
		server_leave_directory(&server.box);
		return 1;
	}
	server_answer(&server, starter);
	/* While the process that was just started opens the image. */
	rc = let_others_in(&server, &err);
	for (struct image *image = server.images; rc < 0 && image != NULL; image = image->next)
		server_answer_waiters(&server, image, rc, &err);
	if (rc < 0) {
		server_leave_directory(&server.box);
		return 1;
	}
	serve_scope(&server);
	return 0;
}
