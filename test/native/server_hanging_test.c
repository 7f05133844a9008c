/* What happens when a file system hangs: the one on which an image lies, or one that is in the mount namespace of a run that has ended. */
#include "server_readers.h"

#include <netinet/in.h>

#define INNER_FD 100
#define WAITING 40u   /* more than there are workers */
#define SURVIVORS 5u

/* --- an image within an image --- */

static char state_of(pid_t pid)
{
	FILE *stat = fopen(sample_text("/proc/%d/stat", pid), "re");
	char state = 0;

	if (stat != NULL) {
		(void)!fscanf(stat, "%*d (%*[^)]) %c", &state);
		fclose(stat);
	}
	return state;
}

static bool waits_in_kernel(void *ctx)
{
	char state = state_of(*(pid_t *)ctx);

	return state == 'S' || state == 'D';
}

/* A signal stops each thread when it runs next: on a busy machine some go on working for a while. */
static bool is_stopped(void *ctx)
{
	pid_t pid = *(pid_t *)ctx;
	struct dirent **list;
	int n = scandir(sample_text("/proc/%d/task", pid), &list, NULL, alphasort);
	bool all = n > 2;

	for (int i = 0; i < n; i++) {
		if (list[i]->d_name[0] != '.')
			all = all && state_of(atoi(list[i]->d_name)) == 'T';
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return all;
}

static bool has_begun(void *ctx)
{
	return atomic_load(&progress->reads) == 1 + *(unsigned *)ctx;
}

static bool is_told_to_leave(void *ctx)
{
	(void)ctx;
	return atomic_load(&progress->leave);
}

static int hold_inner_image(unsigned number)
{
	(void)number;
	if (dup2(open(sample_text("%s/inner", attach), O_RDONLY), INNER_FD) != INNER_FD)
		return 2;
	atomic_fetch_add(&progress->joined, 1);
	return comes_true(is_told_to_end, NULL) ? 0 : 3;
}

/* Ends by itself, with an open file: no signal reaches it any more. */
static int leave_when_told(unsigned number)
{
	(void)number;
	if (open(sample_text("%s/files/10", attach), O_RDONLY | O_CLOEXEC) < 0)
		return 2;
	atomic_fetch_add(&progress->joined, 1);
	return comes_true(is_told_to_leave, NULL) ? 0 : 3;
}

static bool all_wait_in_kernel(void *ctx)
{
	(void)ctx;
	for (unsigned i = 0; i < WAITING; i++)
		if (!waits_in_kernel(&readers[i]))
			return false;
	return true;
}

/* An image that lies in another image, whose server stops: as a network file system does whose server is gone. */
static void test_hanging_storage(void)
{
	pid_t keeper, outer, outer_serving, inner, inner_serving, leaver;
	char plain[PATH_MAX];
	unsigned gone = 0, well = 0;
	int fd, pidfd;

	sample_run("mkdir %s/outer && cp %s %s/outer/inner && mksquashfs %s/outer %s/outer.image -noappend -quiet -no-progress -noD >/dev/null", top, image,
		top, top, top);
	strcpy(plain, image);
	snprintf(image, sizeof image, "%s/outer.image", top);
	begin();
	keeper = start("outer", -1, hold_inner_image, 0);
	CHECK("the outer image is mounted", comes_true(all_joined, &(unsigned) { 2 }));
	outer = server_pid("outer");
	outer_serving = serving_pid(outer);
	pidfd = (int)syscall(SYS_pidfd_open, keeper, 0);
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, INNER_FD, 0);
	for (unsigned i = 0; i < WAITING; i++)
		readers[i] = start("inner", fd, read_when_told, i + 1);
	leaver = start("inner", fd, leave_when_told, 0);
	CHECK("the inner image is mounted", comes_true(all_joined, &(unsigned) { 2 + 2 * WAITING + 2 }));
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	inner = server_pid("inner");
	inner_serving = serving_pid(inner);
	kill(outer, SIGSTOP); /* first: it would have the other one go on */
	CHECK("the outer server stops", comes_true(is_stopped, &outer));
	kill(outer_serving, SIGSTOP);
	CHECK("the process that serves the outer image stops", comes_true(is_stopped, &outer_serving));
	atomic_store(&progress->reads, 1);
	CHECK("the readers wait", comes_true(has_begun, &(unsigned) { WAITING }) && comes_true(all_wait_in_kernel, NULL));
	atomic_store(&progress->leave, true);
	CHECK("who ends by itself meanwhile need not wait", comes_true(is_gone, &leaver));
	poll(NULL, 0, 5 * WATCH_TICK_MS);
	CHECK("the process that serves them is not taken for one that hangs", serving_pid(inner) == inner_serving && inner_serving > 0);
	for (unsigned i = SURVIVORS; i < WAITING; i++)
		kill(readers[i], SIGKILL);
	for (unsigned i = SURVIVORS; i < WAITING && gone == i - SURVIVORS; i++)
		gone += comes_true(is_gone, &readers[i]);
	CHECK("readers can be killed while the image's file system hangs, also when everyone who could answer them hangs in it", gone == WAITING - SURVIVORS);
	kill(outer, SIGCONT);
	kill(outer_serving, SIGCONT);
	for (unsigned i = 0; i < SURVIVORS; i++)
		well += status_of(readers[i]) == 0;
	CHECK("those who were not killed get right data when it is back", well == SURVIVORS);
	atomic_store(&progress->stop, true);
	CHECK("the outer image's user ends well", status_of(keeper) == 0);
	close(fd);
	close(pidfd);
	strcpy(image, plain);
}

/* --- what a run has left --- */

#define ENDINGS 120u
#define LEFT_MAX 64u /* NAMESPACES_MAX */
#define OPEN_MAX 25u /* what a server has open beside those */

static struct sockaddr_in nobody = { .sin_family = AF_INET };

/* Who closes it last waits, as for a file server that is gone: it has more to send than anybody takes. */
static int hanging_descriptor(void)
{
	static const struct linger linger = { .l_onoff = 1, .l_linger = 3600 };
	static const char bytes[4096];
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pollfd room = { .fd = sock, .events = POLLOUT };

	setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &(int) { sizeof bytes }, sizeof(int));
	if (setsockopt(sock, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) < 0 || connect(sock, (struct sockaddr *)&nobody, sizeof nobody) < 0)
		return -1;
	while (poll(&room, 1, 20) > 0)
		if (send(sock, bytes, sizeof bytes, MSG_DONTWAIT) < 0 && errno != EAGAIN)
			return -1;
	return sock;
}

static int leave_what_hangs(void *key)
{
	struct server_request request = request_for(key, -1);
	struct server_left left = SERVER_LEFT_NONE;
	struct server_reply reply;

	left.namespace = hanging_descriptor();
	if (left.namespace < 0 || join(&request, &reply) < 0)
		return 2;
	server_leave_namespace(&reply, &left);
	return 0;
}

static int leave_image(void *key)
{
	struct server_request request = request_for(key, open(image, O_RDONLY | O_CLOEXEC));
	struct server_left left = SERVER_LEFT_NONE;
	struct server_reply reply;

	if (join_and_attach_with(&request, &reply) < 0)
		return 2;
	left.namespace = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	server_leave_namespace(&reply, &left);
	atomic_fetch_add(&progress->joined, 1);
	return comes_true(is_told_to_end, NULL) ? 0 : 3;
}

/* Of a mount namespace of the caller's, which the server is the last to have open. */
static int leave_layout(void *key)
{
	struct server_request request = request_for(key, open(image, O_RDONLY | O_CLOEXEC));
	struct server_left left = SERVER_LEFT_NONE;
	struct server_reply reply;

	request.layout = key;
	request.layout_len = 1;
	left.namespace = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	left.host_mounts = hanging_descriptor();
	if (left.host_mounts < 0 || join(&request, &reply) < 0)
		return 2;
	server_leave_namespace(&reply, &left);
	return 0;
}

static unsigned entries(const char *path)
{
	struct dirent **list;
	int n = scandir(path, &list, NULL, alphasort);

	for (int i = 0; i < n; i++)
		free(list[i]);
	if (n >= 0)
		free(list);
	return n < 2 ? 0 : (unsigned)n - 2;
}

static bool closes(void *ctx)
{
	return entries(sample_text("/proc/%d/task", *(pid_t *)ctx)) >= 2;
}

/* It may have to look for the last runs first. */
static bool has_few_open(void *ctx)
{
	return entries(sample_text("/proc/%d/fd", *(pid_t *)ctx)) <= LEFT_MAX + OPEN_MAX;
}

static int listen_to_nobody(void)
{
	socklen_t len = sizeof nobody;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &(int) { 4096 }, sizeof(int));
	if (bind(listener, (struct sockaddr *)&nobody, sizeof nobody) < 0 || listen(listener, 2 * ENDINGS) < 0
		|| getsockname(listener, (struct sockaddr *)&nobody, &len) < 0)
		sample_fail("listening");
	return listener;
}

static void test_hanging_end(void)
{
	int listener = listen_to_nobody();
	pid_t last, server;
	unsigned well = 0;

	begin();
	last = start_as_user(leave_image, (char[]) { "ending" });
	CHECK("the image is mounted", comes_true(all_joined, &(unsigned) { 1 }));
	server = server_pid("ending");
	CHECK("a run ends, and what it leaves hangs", as_user(leave_what_hangs, (char[]) { "ending" }) == 0 && comes_true(closes, &server));
	atomic_store(&progress->stop, true);
	CHECK("the image's last run ends", status_of(last) == 0);
	CHECK("its mount does not wait behind that, and the server ends", ends_within(server, PATIENCE_MS));

	last = start_as_user(leave_image, (char[]) { "layout" });
	server = comes_true(all_joined, &(unsigned) { 2 }) ? server_pid("layout") : 0;
	CHECK("a run leaves a layout to others", as_user(leave_layout, (char[]) { "layout" }) == 0 && status_of(last) == 0);
	CHECK("what its list of mounts belongs to hangs, and the server ends", ends_within(server, PATIENCE_MS));

	begin();
	last = start_as_user(leave_image, (char[]) { "endings" });
	CHECK("the image is mounted", comes_true(all_joined, &(unsigned) { 1 }));
	server = server_pid("endings");
	for (unsigned i = 0; i < ENDINGS; i++)
		well += as_user(leave_what_hangs, (char[]) { "endings" }) == 0;
	CHECK("all that runs leave hangs, and they end as ever", well == ENDINGS);
	CHECK("the server does not keep more of it than a few", comes_true(has_few_open, &server));
	close(listener);
	atomic_store(&progress->stop, true);
	CHECK("the server ends when nothing hangs any more", status_of(last) == 0 && ends_within(server, PATIENCE_MS));
}

int main(int argc, char **argv)
{
	be_server_if_asked(argc, argv);
	if (!begin_server_test())
		return check_end();
	make_progress();
	sample_image(root, image, "-comp zstd -b 16K");

	test_hanging_storage();
	test_hanging_end();
	test_ends();
	return check_end();
}
