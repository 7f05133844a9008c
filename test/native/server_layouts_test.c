/* Finished mount namespaces as the image server keeps them: runs that make one, enter one, wait for one; and makers that leave nothing, or nonsense. */
#include "server_client.h"

#include <sys/vfs.h>

#define FUSE_MAGIC 0x65735546
#define SCOPE "layouts"
#define BASE "base " /* of layouts that begin with it; nothing that roots could be made of */
#define KEPT_MS 3000
#define RUNS 300
#define AT_ONCE 24

/* The last ones are asked for what roots are made ahead from, too; the last of all sees a mount come before the server has it. */
enum maker { MAKES, LEAVES_NAMESPACE_ONLY, LEAVES_NONSENSE, LEAVES_NOTHING, MAKERS, LENDS = MAKERS, LENDS_NONSENSE, LENDS_OUTDATED };
/* How a process got its mounts; what it does when it is asked to make a layout. */
enum outcome { FAILED, MADE, MADE_WRONG, ENTERED, ALONE };

static bool sees_image(void)
{
	struct statfs fs;

	return statfs(attach, &fs) == 0 && fs.f_type == FUSE_MAGIC;
}

static void leave(struct server_reply *reply, enum maker maker, int host_mounts)
{
	int namespace = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), nonsense = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	int here = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	int view = open("/", O_PATH | O_CLOEXEC), view_mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

	if (maker == MAKES)
		server_leave_namespace(reply, &(struct server_left) { namespace, host_mounts, -1, -1 });
	else if (maker == LEAVES_NAMESPACE_ONLY)
		server_leave_namespace(reply, &(struct server_left) { namespace, -1, -1, -1 });
	else if (maker == LEAVES_NONSENSE)
		server_leave_namespace(reply, &(struct server_left) { nonsense, host_mounts, -1, -1 });
	else if (maker == LENDS)
		server_leave_namespace(reply, &(struct server_left) { namespace, host_mounts, view, view_mounts });
	else if (maker == LENDS_OUTDATED && mount("tsrun", attach, "tmpfs", 0, NULL) == 0)
		server_leave_namespace(reply, &(struct server_left) { namespace, here, view, view_mounts });
	else if (maker == LENDS_NONSENSE)
		server_leave_namespace(reply, &(struct server_left) { namespace, host_mounts, nonsense, nonsense });
	else
		close_fd(&reply->server_fd);
	close(here);
	close(view);
	close(view_mounts);
	close(namespace);
	close(nonsense);
}

static enum outcome join_layout(const char *layout, enum maker maker)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	struct server_request request = request_for(SCOPE, fd);
	struct server_reply reply;
	struct err err = { 0 };
	int host_mounts, clone;

	request.linger_ms = KEPT_MS;
	request.layout = layout;
	request.layout_len = strlen(layout);
	request.layout_base = strncmp(layout, BASE, strlen(BASE)) == 0 ? strlen(BASE) : 0;
	if (server_join(&request, &reply, &err) < 0) {
		fprintf(stderr, "cannot %s: %s\n", err.step, err.detail);
		return FAILED;
	}
	host_mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (setns(reply.userns_fd, CLONE_NEWUSER) < 0)
		return FAILED;
	if (reply.finished_fd >= 0) {
		close(reply.server_fd);
		return setns(reply.finished_fd, CLONE_NEWNS) == 0 && sees_image() ? ENTERED : FAILED;
	}
	if (unshare(CLONE_NEWNS) < 0)
		return FAILED;
	clone = reply.mount_is_own ? reply.mount_fd : (int)syscall(SYS_open_tree, reply.mount_fd, "", 1 | O_CLOEXEC | AT_EMPTY_PATH);
	if (syscall(SYS_move_mount, clone, "", AT_FDCWD, attach, 4) < 0 || !sees_image())
		return FAILED;
	if (!reply.finish)
		return ALONE;
	if (maker >= LENDS && !reply.lend_view)
		return FAILED;
	leave(&reply, maker, host_mounts);
	return maker == MAKES || maker >= LENDS ? MADE : MADE_WRONG;
}

/* Begun as the user; ends with its outcome as status, at once or when it is told (a byte in the pipe `wait`). */
static pid_t start_run(const char *layout, enum maker maker, int ready, int wait)
{
	pid_t pid = plain_fork();
	char outcome, byte;

	if (pid != 0)
		return pid;
	become_user();
	outcome = (char)join_layout(layout, maker);
	if (ready >= 0)
		(void)!write(ready, &outcome, 1);
	if (wait >= 0)
		(void)!read(wait, &byte, 1);
	_exit(outcome);
}

static int run_once(const char *layout, enum maker maker)
{
	return status_of(start_run(layout, maker, -1, -1));
}

/* After one that left it wrong: as long as the server has not heard of that, who comes waits for it, and then has to mount alone. */
static int run_after_wrong(const char *layout)
{
	int outcome;

	do
		outcome = run_once(layout, MAKES);
	while (outcome == ALONE);
	return outcome;
}

static void test_sharing(void)
{
	CHECK("the first run makes it", run_once("one", MAKES) == MADE);
	CHECK("the next enters it", run_once("one", MAKES) == ENTERED);
	CHECK("another layout is another", run_once("two", MAKES) == MADE);
	CHECK("and the first is still there", run_once("one", MAKES) == ENTERED);
	CHECK("a longer one is another", run_once("one1", MAKES) == MADE);
	for (enum maker maker = LEAVES_NAMESPACE_ONLY; maker < MAKERS; maker++) {
		CHECK("what is not left as it should be is not entered", run_once("wrong", maker) == MADE_WRONG);
		CHECK("the next one makes it", run_after_wrong("wrong") == MADE);
		CHECK("which then is entered", run_once("wrong", MAKES) == ENTERED);
		mount("tsrun", attach, "tmpfs", 0, NULL);
		CHECK("until something is mounted on the host", run_once("wrong", maker) == MADE_WRONG);
		umount2(attach, MNT_DETACH);
	}
}

static bool is_noted(void)
{
	return sample_run("grep -q 'no root can be made ahead' %s/" SCOPE ".%d.log 2>/dev/null", runtime, WIRE_PROTOCOL) == 0;
}

static void test_lending(void)
{
	int64_t end;

	CHECK("the first run of a base lends nothing", run_once(BASE "1", MAKES) == MADE);
	CHECK("the second one does; what was mounted before its server listens to that is not missed", run_once(BASE "2", LENDS_OUTDATED) == MADE);
	CHECK("so the next one is asked again, and what it lends may be nonsense", run_once(BASE "2", LENDS_NONSENSE) == MADE);
	CHECK("then the next one does", run_once(BASE "3", LENDS) == MADE);
	for (end = now_ms() + PATIENCE_MS; !is_noted() && now_ms() < end;)
		poll(NULL, 0, 10);
	CHECK("a base that is nonsense is noted, and given up", is_noted());
	CHECK("who has it makes its own", run_once(BASE "4", MAKES) == MADE);
	CHECK("which is entered", run_once(BASE "4", MAKES) == ENTERED);
	CHECK("nobody is asked again", run_once(BASE "5", LENDS) == FAILED);
	unlink(sample_text("%s/" SCOPE ".%d.log", runtime, WIRE_PROTOCOL));
}

/* Everyone at once, each with one of a few layouts, some of them useless makers; some stay for a while. */
static void test_crowd(void)
{
	int stay[2], counts[ALONE + 1] = { 0 };
	pid_t runs[AT_ONCE];
	unsigned seed = 1;

	if (pipe2(stay, O_CLOEXEC) < 0)
		sample_fail("pipe");
	for (unsigned done = 0; done < RUNS; done += AT_ONCE) {
		for (unsigned i = 0; i < AT_ONCE; i++) {
			enum maker maker = rand_r(&seed) % 3 == 0 ? (enum maker)(rand_r(&seed) % MAKERS) : MAKES;
			char layout[16];

			snprintf(layout, sizeof layout, "crowd %d", rand_r(&seed) % 12);
			runs[i] = start_run(layout, maker, -1, rand_r(&seed) % 4 == 0 ? stay[0] : -1);
		}
		for (unsigned i = 0; i < AT_ONCE; i++)
			(void)!write(stay[1], "", 1);
		for (unsigned i = 0; i < AT_ONCE; i++) {
			int outcome = status_of(runs[i]);

			counts[outcome < 0 || outcome > ALONE ? FAILED : outcome]++;
		}
		for (char byte; poll(&(struct pollfd) { .fd = stay[0], .events = POLLIN }, 1, 0) == 1;)
			(void)!read(stay[0], &byte, 1);
	}
	CHECK("nobody fails in a crowd", counts[FAILED] == 0);
	CHECK("some make, some make nonsense, some enter", counts[MADE] > 0 && counts[MADE_WRONG] > 0 && counts[ENTERED] > 0);
	close(stay[0]);
	close(stay[1]);
}

/* Its maker is alive, and does not get on. */
static void test_patience(void)
{
	int ready[2], wait[2];
	pid_t keeper, maker, waiter;
	char outcome = FAILED;
	int64_t begin;

	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(wait, O_CLOEXEC) < 0)
		sample_fail("pipe");
	keeper = start_run("keeper", MAKES, ready[1], wait[0]);
	CHECK("an image is there", read(ready[0], &outcome, 1) == 1 && outcome == MADE);
	maker = plain_fork();
	if (maker == 0) {
		struct server_request request = request_for(SCOPE, open(image, O_RDONLY | O_CLOEXEC));
		struct server_reply reply;

		become_user();
		request.linger_ms = KEPT_MS;
		request.layout = "slow";
		request.layout_len = 4;
		outcome = server_join(&request, &reply, NULL) == 0 && reply.finish ? MADE : FAILED;
		(void)!write(ready[1], &outcome, 1);
		(void)!read(wait[0], &outcome, 1);
		_exit(0);
	}
	CHECK("a run is asked to make it", read(ready[0], &outcome, 1) == 1 && outcome == MADE);
	begin = now_ms();
	waiter = start_run("slow", MAKES, -1, -1);
	CHECK("who waits for a slow one is told to go alone", status_of(waiter) == ALONE);
	CHECK("after a while", now_ms() - begin >= 800);
	waiter = start_run("slow", MAKES, -1, -1);
	CHECK("the next is asked to make it instead", status_of(waiter) == MADE);
	CHECK("the next enters that", run_once("slow", MAKES) == ENTERED);
	(void)!write(wait[1], "..", 2);
	CHECK("the slow one ends", status_of(maker) == 0 && status_of(keeper) == MADE);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(wait[i]);
	}
}

int main(int argc, char **argv)
{
	pid_t server;

	be_server_if_asked(argc, argv);
	if (!begin_server_test())
		return check_end();
	sample_image(root, image, "");
	/* Mounts of others are not to disturb: they would make layouts out of date. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		sample_fail("unshare");

	test_sharing();
	test_lending();
	test_crowd();
	test_patience();

	server = server_pid(SCOPE);
	CHECK("no server is left", server == 0 || ends_within(server, PATIENCE_MS));
	CHECK("it ended by itself, without an error", server == 0 || status_of(server) == 0);
	CHECK("no file is left", runtime_is_empty());
	return check_end();
}
