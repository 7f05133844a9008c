/* The run's side: find the server, or start it. */
#include "server.h"
#include "server_birth.h"
#include "server_wire.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

/* Answers take milliseconds; a minute means that the image's file system hangs. */
#define ANSWER_SECONDS 60
#define WAKE_SECONDS 1 /* after so long a server may be one that somebody has stopped, with a whole job maybe */
#define TRIES 64

static int open_dir(const char *path, struct err *err)
{
	int cleanup_fd dir = -1;
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return fail(err, errno, SERVER_STEP_DIRECTORY, "making %.300s", path);
	/* Before it is opened, which somebody else's would not let us; and again after. */
	if (lstat(path, &st) == 0 && st.st_uid != geteuid())
		return fail(err, EPERM, SERVER_STEP_DIRECTORY, "%.300s belongs to user %u: somebody else made it", path, st.st_uid);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st) < 0)
		return fail(err, errno, SERVER_STEP_DIRECTORY, "%.300s", path);
	if (st.st_uid != geteuid())
		return fail(err, EPERM, SERVER_STEP_DIRECTORY, "%.300s was replaced", path);
	if (st.st_mode & 077)
		return fail(err, EPERM, SERVER_STEP_DIRECTORY, "%.300s has mode %03o: others could reach into it", path, st.st_mode & 0777u);
	return steal_fd(&dir);
}

/* `seconds`: how long it may take to be let in. */
static int connect_address(const struct sockaddr_un *address, int seconds)
{
	struct timeval patience = { .tv_sec = WAKE_SECONDS }, entry = { .tv_sec = seconds };
	int cleanup_fd sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (sock < 0)
		return -errno;
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &entry, sizeof entry);
	if (RETRY(connect(sock, (const struct sockaddr *)address, sizeof *address)) < 0)
		return -errno;
	return steal_fd(&sock);
}

/* -ENOENT or -ECONNREFUSED: there is no server. */
static int connect_server(int dir, const char *key)
{
	struct sockaddr_un address;

	return wire_address(&address, dir, key) < 0 ? -ENAMETOOLONG : connect_address(&address, ANSWER_SECONDS);
}

/* The usual case, without a look at the directory: whoever listens there, it is a process of this user's, and that is all that the directory could
 * prove. Negative: to be tried the long way. */
static int connect_at_once(const char *dir, const char *key)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t len = sizeof peer;
	char name[WIRE_NAME_MAX];
	int cleanup_fd sock = -1;

	wire_name(name, key, WIRE_SOCKET);
	if (snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", dir, name) >= (int)sizeof address.sun_path)
		return -ENAMETOOLONG;
	sock = connect_address(&address, 1);
	if (sock < 0)
		return sock;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != geteuid())
		return -EPERM;
	return steal_fd(&sock);
}

/* A question is on its way to a server. */
struct asked {
	int sock;
	pid_t group; /* of a server that was started for it; 0: it was there */
};

static bool is_absent(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED;
}

/* --- asking --- */

static int put_question(int sock, const struct server_request *request)
{
	struct wire_request question = {
		.protocol = WIRE_PROTOCOL,
		.has_image = request->image_fd >= 0,
		.offset = request->offset,
		.size = request->size,
		.linger_ms = request->linger_ms,
		.has_record = request->image_fd >= 0 && request->record_fd > 0,
		.hot_offset = request->hot_offset,
		.hot_size = request->hot_size,
		.layout_base = (uint32_t)request->layout_base,
	};
	size_t name_len = request->image_name == NULL ? 0 : strlen(request->image_name);
	const struct iovec parts[] = { { &question, sizeof question }, { (void *)(uintptr_t)request->layout, request->layout_len } };
	int sent[WIRE_FDS] = { request->image_fd, request->image_fd >= 0 && request->record_fd > 0 ? request->record_fd : -1, -1 };

	if (name_len > 0)
		snprintf(question.name, sizeof question.name, "%s", request->image_name + (name_len < sizeof question.name ? 0 : name_len - sizeof question.name + 1));
	snprintf(question.program, sizeof question.program, "%s", request->program == NULL ? "" : request->program);
	snprintf(question.search, sizeof question.search, "%s", request->search == NULL ? "" : request->search);
	return wire_send_parts(sock, parts, ARRAY_LEN(parts), sent, ANSWER_SECONDS * 1000);
}

/* Other runs wait for it as well. If it is only slow, it does not notice. */
static void wake(const struct asked *asked)
{
	struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	struct ucred peer;
	socklen_t len = sizeof peer;

	setsockopt(asked->sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (asked->group > 0)
		kill(-asked->group, SIGCONT);
	else if (getsockopt(asked->sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.pid > 0)
		kill(peer.pid, SIGCONT);
}

static int take_answer(const struct asked *asked, const struct server_request *request, struct server_reply *out, uint64_t *view_of, struct err *err)
{
	static const struct wire_reply none;
	struct wire_reply reply = none;
	int fds[WIRE_FDS];
	int rc = wire_receive(asked->sock, &reply, sizeof reply, sizeof reply, fds, 0);

	if (rc == -EAGAIN) {
		wake(asked);
		rc = wire_receive(asked->sock, &reply, sizeof reply, sizeof reply, fds, 0);
	}
	if (rc == -EAGAIN)
		return fail(err, ETIMEDOUT, SERVER_STEP_SERVER, "it did not answer within %d seconds", ANSWER_SECONDS);
	if (rc < 0)
		return rc;
	if (reply.rc == 0 && (fds[0] < 0 || (fds[1] >= 0) != (request->image_fd >= 0) || (fds[1] >= 0) != (reply.mount != WIRE_MOUNT_NONE)))
		reply.rc = fail(&reply.err, EPROTO, SERVER_STEP_SERVER, "it answered without the descriptors");
	if (reply.rc < 0) {
		wire_close(fds);
		if (err != NULL)
			*err = reply.err;
		return reply.rc;
	}
	out->userns_fd = fds[0];
	out->finish = reply.finish != 0;
	out->ahead = reply.ahead != 0;
	out->lend_view = reply.lend_view != 0;
	if (reply.mount == WIRE_MOUNT_SPARE) {
		out->spare_fd = fds[1];
		return 0;
	}
	if (reply.mount == WIRE_MOUNT_FINISHED) {
		out->finished_fd = fds[1];
		return 0;
	}
	if (reply.mount != WIRE_MOUNT_VIEW) {
		out->mount_fd = fds[1];
		out->mount_is_own = reply.mount == WIRE_MOUNT_OWN;
		return 0;
	}
	out->view_fd = fds[1];
	*view_of = reply.view_of;
	return snprintf(out->path, sizeof out->path, "%s/%u", request->dir, reply.number) < (int)sizeof out->path ? 0 : -ENAMETOOLONG;
}

/* With the scope's lock held. The server holds it, too, until it listens: nobody else starts one, even if this process is killed now. It finds the question in its end of
 * a pair of sockets, and so begins with the image before it listens for others. */
static int start_server(const struct server_request *request, int dir, int lock, struct asked *asked, struct err *err)
{
	char name[] = "tsrun", role[] = "@server", key[96], uid[16], gid[16], cache[24];
	char *argv[] = { name, role, key, uid, gid, cache, NULL };
	struct timeval patience = { .tv_sec = WAKE_SECONDS };
	int cleanup_fd ours = -1, cleanup_fd theirs = -1;
	int pair[2], rc;

	snprintf(key, sizeof key, "%s", request->key);
	snprintf(uid, sizeof uid, "%u", request->uid);
	snprintf(gid, sizeof gid, "%u", request->gid);
	snprintf(cache, sizeof cache, "%" PRIu64, request->cache_bytes);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(err, errno, SERVER_STEP_SERVER, "making a pair of sockets");
	ours = pair[0];
	theirs = pair[1];
	setsockopt(ours, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	rc = put_question(ours, request);
	if (rc < 0)
		return fail(err, -rc, SERVER_STEP_SERVER, "asking it");
	asked->group = server_spawn(argv, theirs, dir, lock);
	if (asked->group < 0)
		return fail(err, -asked->group, SERVER_STEP_SERVER, "starting a process");
	asked->sock = steal_fd(&ours);
	return 0;
}

static int ask(int sock, const struct server_request *request, struct asked *asked)
{
	int cleanup_fd connected = sock;
	int rc = sock < 0 ? sock : put_question(sock, request);

	if (rc == 0)
		*asked = (struct asked) { .sock = steal_fd(&connected) };
	return rc;
}

static int ask_or_start(const struct server_request *request, int dir, struct asked *asked, struct err *err)
{
	int cleanup_fd lock = -1;
	int sock = connect_server(dir, request->key);

	if (!is_absent(sock))
		return ask(sock, request, asked);
	lock = wire_lock(dir, request->key);
	if (lock < 0)
		return fail(err, -lock, SERVER_STEP_DIRECTORY, "locking %s", request->key);
	/* Whoever had the lock before has probably started it. */
	sock = connect_server(dir, request->key);
	return is_absent(sock) ? start_server(request, dir, lock, asked, err) : ask(sock, request, asked);
}

static void say_if_unsaid(struct err *err, int rc)
{
	if (err != NULL && err->step[0] == '\0')
		fail(err, -rc, SERVER_STEP_SERVER, "%s", rc == -ECONNRESET ? "it ended each time when it was asked" : "talking to it");
}

static int join(const struct server_request *request, struct server_reply *reply, uint64_t *view_of, struct err *err)
{
	int rc = -ECONNRESET;
	int cleanup_fd dir = -1;
	unsigned born_dead = 0;

	/* A server that was about to end has hung up: then there is none now, or another. */
	for (int i = 0; i < TRIES && born_dead < 2 && (rc == -ECONNRESET || is_absent(rc)); i++) {
		struct asked asked = { .sock = -1 };

		/* Or it has no descriptors left for this run, until others have their answers. */
		if (i > 2)
			poll(NULL, 0, i);
		rc = i == 0 ? ask(connect_at_once(request->dir, request->key), request, &asked) : -1;
		if (rc < 0 && dir < 0 && (dir = open_dir(request->dir, err)) < 0)
			return dir;
		if (rc < 0)
			rc = ask_or_start(request, dir, &asked, err);
		int cleanup_fd sock = asked.sock;
		if (rc == 0)
			rc = take_answer(&asked, request, reply, view_of, err);
		if (rc == 0)
			reply->server_fd = steal_fd(&sock);
		born_dead += rc == -ECONNRESET && asked.group > 0;
		if (err != NULL && err->step[0] != '\0')
			break;
	}
	if (rc == -ECONNRESET && born_dead > 0)
		return fail(err, EIO, SERVER_STEP_SERVER, "it died while starting");
	if (rc < 0)
		say_if_unsaid(err, rc);
	return rc;
}

int server_join(const struct server_request *request, struct server_reply *reply, struct err *err)
{
	struct server_request own_view = *request;
	uint64_t view_of = 0;
	char key[100];
	struct stat view;
	int rc;

	*reply = SERVER_REPLY_NONE;
	if (!wire_key_ok(request->key))
		return fail(err, EINVAL, SERVER_STEP_SERVER, "'%.100s' is not a scope key", request->key);
	if (err != NULL)
		*err = (struct err) { 0 };
	rc = join(request, reply, &view_of, err);
	if (rc < 0 || reply->view_fd < 0 || stat("/proc/self/ns/mnt", &view) < 0 || view.st_ino == view_of)
		return rc;
	/* It would show us the files as somebody else sees them: there is another server for those who see them as we do. */
	close_fd(&reply->userns_fd);
	close_fd(&reply->view_fd);
	close_fd(&reply->server_fd);
	*reply = SERVER_REPLY_NONE;
	snprintf(key, sizeof key, "%.64s.%" PRIx64, request->key, (uint64_t)view.st_ino);
	own_view.key = key;
	rc = join(&own_view, reply, &view_of, err);
	if (rc == 0 && view_of != view.st_ino)
		return fail(err, EXDEV, SERVER_STEP_SERVER, "it sees other files than this process");
	return rc;
}

void server_leave_namespace(struct server_reply *reply, const struct server_left *left)
{
	static const char nothing = 0;

	/* Where it does not work, this process does the unmounting after all. */
	if (left->namespace >= 0 && reply->server_fd >= 0)
		(void)!wire_send(reply->server_fd, &nothing, sizeof nothing, (const int[WIRE_FDS]) { left->namespace, left->host_mounts, left->view, left->view_mounts });
	close_fd(&reply->server_fd);
}
