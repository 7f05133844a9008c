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
#define LOCK_MS 50           /* for whoever has the lock to come */
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

static int64_t earlier(int64_t one, int64_t other)
{
	return one < other ? one : other;
}

/* Brings an image to the state it should be in, when it may be gone; says when it is to be looked at again. */
static int64_t settle_image(struct server *server, struct image *image)
{
	bool leave = image->ended || (image->runs == 0 && image->deadline <= server_now_ms());
	int64_t due = layouts_settle(server, image, leave);

	due = earlier(due, spares_settle(server, image, leave));
	due = earlier(due, supervised_settle(image->serving));
	if (image->ended && image->runs == 0) {
		image_forget(&server->images, image);
		return NEVER;
	}
	if (image->state == IMAGE_SERVING && leave)
		image_leave(image);
	return image->state == IMAGE_SERVING && image->runs == 0 ? earlier(due, image->deadline) : due;
}

/* --- why it is there ---
 *
 * What the server has belongs to something that ends by itself, and of whose end the kernel tells it, or a clock:
 *   a connection   its question, its end, or some seconds without either
 *   a run          its pidfd
 *   an image       its last run and the linger time: then the server lets go of all that it has of it; and whoever else has the mount, of which its device tells
 *   a layout       its last run and the linger time, or the image
 *   spares         the linger time after they were asked for, a change of mounts, or the image
 * The last two are of an image and are no reason of their own. Whoever is to go is gone when this returns, and it says when the next one is. */
static int64_t settle(struct server *server)
{
	int64_t due = server_drop_silent(server);

	if (server->looked_for != NULL && server->look_due <= server_now_ms())
		server_look_for_runs(server);
	for (struct image *image = server->images, *next; image != NULL; image = next) {
		next = image->next;
		due = earlier(due, settle_image(server, image));
	}
	due = earlier(due, endings_settle(&server->endings)); /* last: all of the above let go of something */
	return server->looked_for != NULL ? earlier(due, server->look_due) : due;
}

static bool is_needed(const struct server *server)
{
	return server->images != NULL || server->bare_runs > 0 || server->silent != NULL;
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

/* Takes the socket away, unless somebody comes. With the lock, nobody starts another server before this one's socket is gone; who has connected but was not
 * accepted sees a reset, and begins anew. Who has the lock may have been stopped: others come all the same. */
static bool end_of_scope(struct server *server)
{
	struct pollfd waiting = { .fd = server->box.listener, .events = POLLIN };
	int cleanup_fd lock = wire_try_lock(server->box.dir, server->box.key);

	if (lock == -EWOULDBLOCK || (lock >= 0 && poll(&waiting, 1, 0) > 0)) {
		server->bare_deadline = server_now_ms() + LOCK_MS;
		return false;
	}
	if (lock >= 0)
		server_leave_directory(&server->box);
	return true;
}

/* Until `due`, or until something happens. */
static void await(struct server *server, int64_t due)
{
	struct epoll_event events[64];
	int64_t left = due - server_now_ms();
	int n = epoll_wait(server->epoll, events, ARRAY_LEN(events), due == NEVER ? -1 : left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left);

	for (int i = 0; i < n; i++)
		if (*(const enum watched *)events[i].data.ptr == VIEW)
			spares_see_change(events[i].data.ptr);
	for (int i = 0; i < n; i++)
		handle(server, events[i].data.ptr);
}

static void serve_scope(struct server *server)
{
	for (;;) {
		int64_t due = settle(server);

		if (is_needed(server))
			await(server, due);
		else if (server->bare_deadline > server_now_ms())
			await(server, earlier(due, server->bare_deadline));
		else if (end_of_scope(server))
			return;
	}
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
	static struct server server; /* there are threads that have a part of it, to the very end */
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
