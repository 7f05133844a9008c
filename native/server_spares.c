/* A root for each image in which all is mounted that calls have in common, ready before the next one asks (spare.h says what for).
 *
 * It is made by a process of its own, in a copy of the mount namespace that a run has lent, in which the host's files are still seen as that run's caller sees them. Nobody
 * waits for that process: it may have to wait itself, for the one that serves the image or for somebody's file server. It begins when nobody else is mounting anything.
 *
 * Roots are for runs whose base has the same bytes; and only as long as nothing was mounted, unmounted or remounted where that caller was. They are let go at once when it was:
 * an unmounted file system is not to be kept. */
#include "server_internal.h"
#include "spare.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Ready at a time: one call may come right after the other. */
#define ROOTS_MAX 2u
#define FAILURES_MAX 3u
/* So many calls of another base, and the roots are made for that one. */
#define STRANGERS_MAX 8u
/* So often of no use to anybody before they were out of date, as where something is mounted all the time, and there are no more. */
#define WASTED_MAX 8u

struct spares {
	struct watched_part {
		enum watched what;
		struct spares *of;
	} view_part, maker_part;
	struct image *image;
	int namespace, view, view_mounts; /* see struct server_left */
	bool out_of_date;
	pid_t pid;   /* of the process that makes them; 0: there is none */
	int maker;   /* socket to it, or -1 */
	bool asked;  /* it is making one */
	int roots[ROOTS_MAX];
	unsigned ready; /* of these */
	unsigned failures, strangers;
	struct spares *next; /* of those whose process is to be buried */
	int64_t deadline; /* milliseconds of CLOCK_MONOTONIC */
	size_t len;
	char base[];
};

static bool has_base(const struct spares *spares, const char *base, size_t len)
{
	return spares->len == len && memcmp(spares->base, base, len) == 0;
}

static bool is_out_of_date(struct spares *spares)
{
	struct pollfd changes = { .fd = spares->view_mounts, .events = POLLPRI };

	spares->out_of_date = spares->out_of_date || poll(&changes, 1, 0) != 0;
	return spares->out_of_date;
}

void spares_see_change(void *what)
{
	((struct watched_part *)what)->of->out_of_date = true;
}

int spares_take(struct image *image, const struct connection *connection)
{
	struct spares *spares = image->spares;

	if (spares == NULL || connection->layout_base == 0 || !has_base(spares, connection->layout, connection->layout_base))
		return -1;
	spares->deadline = server_now_ms() + image->linger_ms;
	spares->strangers = 0;
	if (spares->ready == 0 || is_out_of_date(spares))
		return -1;
	image->wasted_spares = 0;
	return spares->roots[--spares->ready];
}

bool spares_are_wanted(const struct image *image, const struct connection *connection)
{
	struct spares *spares = image->spares;

	if (connection->layout_base == 0 || image->wasted_spares >= WASTED_MAX)
		return false;
	if (spares != NULL) {
		if (!has_base(spares, connection->layout, connection->layout_base) && ++spares->strangers > STRANGERS_MAX)
			spares->out_of_date = true;
		return false;
	}
	for (const struct layout *layout = image->layouts; layout != NULL; layout = layout->next) {
		if (layout->base == connection->layout_base && memcmp(layout->bytes, connection->layout, layout->base) == 0)
			return true;
	}
	return false;
}

/* The process may be waiting for somebody's file server, and ends when that answers. */
static void drop(struct server *server, struct spares *spares)
{
	if (spares->maker >= 0)
		server_unwatch(server, spares->maker);
	if (spares->view_mounts >= 0)
		server_unwatch(server, spares->view_mounts);
	close_fd(&spares->maker);
	server_let_go(server, &spares->view);
	server_let_go(server, &spares->view_mounts);
	while (spares->ready > 0)
		server_let_go(server, &spares->roots[--spares->ready]);
	server_let_go(server, &spares->namespace);
	if (spares->pid == 0) {
		free(spares);
		return;
	}
	kill(spares->pid, SIGKILL);
	spares->next = server->dropped_spares;
	server->dropped_spares = spares;
}

static int watch_view(struct server *server, struct spares *spares)
{
	struct epoll_event event = { .events = EPOLLPRI, .data.ptr = &spares->view_part };

	return epoll_ctl(server->epoll, EPOLL_CTL_ADD, spares->view_mounts, &event) < 0 ? -errno : 0;
}

void spares_begin(struct server *server, struct layout *layout, int view, int view_mounts)
{
	struct image *image = layout->image;
	struct spares *spares = image->spares != NULL || view < 0 || view_mounts < 0 ? NULL : malloc(sizeof *spares + layout->base);

	if (spares == NULL) {
		server_let_go(server, &view);
		server_let_go(server, &view_mounts);
		return;
	}
	*spares = (struct spares) { .view_part = { VIEW, spares }, .maker_part = { SPARE, spares }, .image = image, .view = view, .view_mounts = view_mounts, .maker = -1,
		.namespace = fcntl(layout->namespace, F_DUPFD_CLOEXEC, 0), .deadline = server_now_ms() + image->linger_ms, .len = layout->base };
	memcpy(spares->base, layout->bytes, layout->base);
	/* mountinfo tells of a change once, and epoll asks when it begins to watch without passing that on: then the layout's, which was opened before, still tells of it. */
	if (spares->namespace < 0 || spares->namespace >= server->fd_limit || watch_view(server, spares) < 0 || layout_is_out_of_date(layout))
		drop(server, spares);
	else
		image->spares = spares;
	image->wasted_spares++; /* until one is taken */
}

/* --- making them --- */

NORETURN static void make(const struct spares *spares, int channel)
{
	struct wire_reply shown = { 0 };
	struct err err;
	int own;
	int mount = image_show(spares->image, &shown, &own, &err);

	spare_main(&(struct spare_order) { .base = spares->base, .base_len = spares->len, .namespace = spares->namespace, .view = spares->view, .image = mount,
		.image_is_own = shown.mount == WIRE_MOUNT_OWN, .channel = channel });
}

static void start_maker(struct server *server, struct spares *spares)
{
	int cleanup_fd ours = -1, cleanup_fd theirs = -1;
	int pair[2];

	spares->failures++; /* set back when it has made one */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	ours = pair[0];
	theirs = pair[1];
	if (ours >= server->fd_limit || server_watch(server, ours, &spares->maker_part) < 0)
		return;
	spares->pid = fork();
	if (spares->pid == 0)
		make(spares, theirs);
	if (spares->pid < 0) {
		server_unwatch(server, ours);
		spares->pid = 0;
		return;
	}
	spares->maker = steal_fd(&ours);
}

static void ask_for_one(struct server *server, struct spares *spares)
{
	static const char wanted;

	/* Its hang-up may be heard after its burial. */
	if (spares->pid == 0 && spares->maker < 0 && spares->failures < FAILURES_MAX)
		start_maker(server, spares);
	if (spares->maker >= 0)
		spares->asked = send(spares->maker, &wanted, sizeof wanted, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof wanted;
}

static void tell_failure(const struct server *server, struct spare_answer *answer)
{
	char text[sizeof answer->err.detail + 80];

	answer->err.detail[sizeof answer->err.detail - 1] = '\0';
	snprintf(text, sizeof text, "no root can be made ahead of runs (%s: %s)", answer->err.detail, strerror(-answer->rc));
	server_log(&server->box, text);
}

void spares_hear(struct server *server, void *what)
{
	struct spares *spares = ((struct watched_part *)what)->of;
	struct spare_answer answer = { .rc = -ECONNRESET, .err.detail = "the process that makes it has ended" };
	int fds[WIRE_FDS];
	int rc = wire_receive(spares->maker, &answer, sizeof answer, sizeof answer, fds, MSG_DONTWAIT);

	if (rc == -EAGAIN)
		return;
	spares->asked = false;
	if (fds[0] >= server->fd_limit)
		close_fd(&fds[0]);
	if (fds[0] >= 0) {
		spares->roots[spares->ready++] = fds[0];
		spares->failures = 0;
		return;
	}
	if (spares->failures == FAILURES_MAX)
		tell_failure(server, &answer);
	/* Another one is started when it has been buried. */
	server_unwatch(server, spares->maker);
	close_fd(&spares->maker);
}

static bool somebody_mounts(const struct image *image)
{
	for (const struct layout *layout = image->layouts; layout != NULL; layout = layout->next) {
		if (layout->state == LAYOUT_AWAITED)
			return true;
	}
	return false;
}

int64_t spares_settle(struct server *server, struct image *image, bool leave)
{
	struct spares *spares = image->spares;

	if (spares == NULL)
		return INT64_MAX;
	if (leave || spares->out_of_date || spares->deadline <= server_now_ms()) {
		image->spares = NULL;
		drop(server, spares);
		return INT64_MAX;
	}
	if (spares->ready < ROOTS_MAX && !spares->asked && !somebody_mounts(image))
		ask_for_one(server, spares);
	return spares->deadline;
}

static bool bury(struct spares *spares)
{
	if (spares->pid == 0 || waitpid(spares->pid, NULL, WNOHANG) != spares->pid)
		return false;
	spares->pid = 0;
	return true;
}

void spares_bury(struct server *server)
{
	struct spares **at = &server->dropped_spares;

	for (struct image *image = server->images; image != NULL; image = image->next) {
		if (image->spares != NULL)
			bury(image->spares);
	}
	while (*at != NULL) {
		struct spares *spares = *at;

		if (!bury(spares)) {
			at = &spares->next;
			continue;
		}
		*at = spares->next;
		free(spares);
	}
}
