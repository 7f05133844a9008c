/* Runs that have the same mounted share one mount namespace. The first run of a layout is asked to leave its namespace, once all is mounted in it; who comes meanwhile
 * waits for that, who comes later enters it and has nothing to mount. Nobody can change it: payloads have no rights in the user namespace that owns it.
 *
 * A layout is found by its bytes, in which the run has put the plan's mounts and what it saw of their sources; and only as long as nothing was mounted, unmounted or
 * remounted in the namespace that it was copied from, which a poll of that one's mountinfo tells. It is kept for the linger time after the last of its runs, as its
 * image is; then the thread of server_endings.c unmounts what is in it. */
#include "server_internal.h"

#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef NS_GET_NSTYPE
#define NS_GET_NSTYPE 0xb703
#endif
/* To be found, for each image. */
#define LAYOUTS_MAX 8
/* A run is done with its mounts in a millisecond; one that was stopped meanwhile is not waited for. */
#define PATIENCE_MS 1000

static bool is_mount_namespace(int fd)
{
	return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNS;
}

bool layout_is_out_of_date(struct layout *layout)
{
	struct pollfd changes = { .fd = layout->host_mounts, .events = POLLPRI };

	layout->out_of_date = layout->out_of_date || (layout->state == LAYOUT_FINISHED && poll(&changes, 1, 0) != 0);
	return layout->out_of_date;
}

static bool is_expired(const struct layout *layout, int64_t now)
{
	return (layout->state == LAYOUT_AWAITED || layout->runs == 0) && layout->deadline <= now;
}

/* To those who wait; alone: they are to mount everything themselves. */
static void answer_waiters(struct server *server, struct layout *layout, bool alone)
{
	struct connection *waiter = layout->waiters;

	layout->waiters = NULL;
	while (waiter != NULL) {
		struct connection *next = waiter->next;

		if (alone)
			waiter->layout_len = 0;
		server_welcome(server, waiter, layout->image);
		waiter = next;
	}
}

/* Its runs keep it, nobody else finds it. */
static void hide(struct server *server, struct layout *layout)
{
	layout->state = LAYOUT_HIDDEN;
	server_let_go(server, &layout->host_mounts);
	answer_waiters(server, layout, true);
}

struct layout *layout_find(struct server *server, struct image *image, const struct connection *connection)
{
	struct layout **at = &image->layouts;
	struct layout *layout;

	while (*at != NULL
		&& ((*at)->state == LAYOUT_HIDDEN || (*at)->len != connection->layout_len || memcmp((*at)->bytes, connection->layout, connection->layout_len) != 0))
		at = &(*at)->next;
	layout = *at;
	if (layout == NULL)
		return NULL;
	if (is_expired(layout, server_now_ms()) || layout_is_out_of_date(layout)) {
		hide(server, layout);
		return NULL;
	}
	*at = layout->next; /* those that are asked for come first */
	layout->next = image->layouts;
	image->layouts = layout;
	return layout;
}

/* Once another one is finished: whoever mounts anything just now would have to wait for the kernel to unmount what is in the one that goes. */
static void make_room(struct server *server, const struct image *image)
{
	struct layout *oldest = NULL;
	unsigned count = 0;

	for (struct layout *layout = image->layouts; layout != NULL; layout = layout->next) {
		count += layout->state == LAYOUT_FINISHED;
		if (layout->state == LAYOUT_FINISHED)
			oldest = layout;
	}
	if (count > LAYOUTS_MAX)
		hide(server, oldest);
}

void layout_add_run(struct layout *layout, struct run *run)
{
	run->layout = layout;
	layout->runs++;
}

void layout_new(struct server *server, const struct connection *connection, struct run *maker)
{
	struct image *image = maker->image;
	struct layout *layout = maker->sock >= 0 ? malloc(sizeof *layout + connection->layout_len) : NULL;

	if (layout == NULL || server_watch(server, maker->sock, layout) < 0) {
		free(layout);
		return;
	}
	*layout = (struct layout) { .what = LAYOUT, .image = image, .next = image->layouts, .state = LAYOUT_AWAITED, .maker = maker, .namespace = -1,
		.host_mounts = -1, .deadline = server_now_ms() + PATIENCE_MS, .len = connection->layout_len, .base = connection->layout_base };
	memcpy(layout->bytes, connection->layout, connection->layout_len);
	layout_add_run(layout, maker);
	image->layouts = layout;
}

static void maker_is_done(struct server *server, struct layout *layout)
{
	server_unwatch(server, layout->maker->sock);
	close_fd(&layout->maker->sock);
	server->namespaces--;
	layout->maker = NULL;
}

void layout_hear(struct server *server, struct layout *layout)
{
	struct run *maker = layout->maker;
	char nothing;
	struct server_left left;
	int fds[WIRE_FDS];
	int rc = maker == NULL ? -EAGAIN : wire_receive(maker->sock, &nothing, sizeof nothing, sizeof nothing, fds, MSG_DONTWAIT);

	if (rc == -EAGAIN)
		return;
	maker_is_done(server, layout);
	if (rc < 0) {
		hide(server, layout);
		return;
	}
	left = (struct server_left) { .namespace = fds[0], .host_mounts = fds[1], .view = fds[2], .view_mounts = fds[3] };
	if (left.namespace >= server->fd_limit || !is_mount_namespace(left.namespace))
		server_let_go(server, &left.namespace);
	layout->namespace = left.namespace;
	if (layout->state == LAYOUT_AWAITED && left.namespace >= 0 && left.host_mounts >= 0 && left.host_mounts < server->fd_limit && left.view_mounts < server->fd_limit) {
		layout->host_mounts = left.host_mounts;
		layout->state = LAYOUT_FINISHED;
		spares_begin(server, layout, left.view, left.view_mounts);
		answer_waiters(server, layout, false);
		make_room(server, layout->image);
	} else {
		server_let_go(server, &left.host_mounts);
		server_let_go(server, &left.view);
		server_let_go(server, &left.view_mounts);
		hide(server, layout);
	}
}

void layout_run_ended(struct server *server, struct run *run)
{
	struct layout *layout = run->layout;

	if (layout->maker == run)
		layout_hear(server, layout); /* it may have left its namespace, and ended at once */
	if (layout->maker == run) {
		maker_is_done(server, layout);
		hide(server, layout);
	}
	layout->runs--;
	layout->deadline = server_now_ms() + layout->image->linger_ms;
}

int64_t layouts_settle(struct server *server, struct image *image, bool leave)
{
	struct layout **at = &image->layouts;
	int64_t now = server_now_ms(), due = INT64_MAX;

	while (*at != NULL) {
		struct layout *layout = *at;

		if (layout->state != LAYOUT_HIDDEN && (leave || is_expired(layout, now)))
			hide(server, layout);
		if (layout->runs > 0 || layout->state != LAYOUT_HIDDEN) {
			if ((layout->state == LAYOUT_AWAITED ? layout->waiters != NULL : layout->runs == 0) && layout->deadline < due)
				due = layout->deadline;
			at = &layout->next;
			continue;
		}
		*at = layout->next;
		server_let_go(server, &layout->namespace);
		free(layout);
	}
	return due;
}
