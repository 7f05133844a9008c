/* The image server, for real: as an ordinary user, joined by processes that attach the image as the launcher does. */
#include "server_client.h"

static int join_image(const char *key)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	struct server_request request = request_for(key, fd);
	int rc = join_and_attach(&request);

	close(fd);
	return rc;
}

/* --- what joined processes look at --- */

static int same_tree(void *expected)
{
	struct sample_view view = { 0 };
	char *found;
	bool same;

	if (join_image("tree") < 0)
		return 2;
	found = sample_manifest(attach, &view);
	same = sample_same(expected, found);
	free(found);
	return !same;
}

/* The original as the image server is to show it: everything is the user's. */
static char *expected_manifest(void)
{
	struct sample_view view = { .as_served = true, .no_owners = true };
	char *plain = sample_manifest(root, &view), *text = NULL, owner[64];
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	snprintf(owner, sizeof owner, " %u:%u", user, group);
	for (char *line = plain, *next; *line != '\0'; line = next) {
		/* "PATH: MODE TIME …": the owner belongs behind the mode; a name with a newline is a line without one. */
		char *mode;

		next = line + strcspn(line, "\n");
		next += *next == '\n';
		mode = strstr(line, ": ");
		if (mode == NULL || mode > next) {
			fwrite(line, 1, (size_t)(next - line), out);
			continue;
		}
		mode += 2 + strcspn(mode + 2, " \n");
		fprintf(out, "%.*s%s%.*s", (int)(mode - line), line, owner, (int)(next - mode), mode);
	}
	fclose(out);
	free(plain);
	return text;
}

static int permissions_are_told_truly(void *ctx)
{
	(void)ctx;
	if (join_image("tree") < 0)
		return 2;
	if (access(sample_text("%s/files/program", attach), X_OK) != 0 || access(sample_text("%s/files/1", attach), X_OK) == 0)
		return 3;
	if (access(sample_text("%s/files/private", attach), R_OK) != 0 || access(sample_text("%s/files/nobody", attach), R_OK) != 0
		|| access(sample_text("%s/closed/inside", attach), R_OK) != 0)
		return 4;
	if (open(sample_text("%s/files/1", attach), O_WRONLY | O_CLOEXEC) >= 0 || errno != EROFS)
		return 5;
	if (mkdir(sample_text("%s/new", attach), 0700) == 0 || errno != EROFS)
		return 6;
	return 0;
}

static int xattrs_are_there(void *ctx)
{
	char value[64], list[256];
	ssize_t n;

	(void)ctx;
	if (join_image("tree") < 0)
		return 2;
	n = getxattr(sample_text("%s/files/1", attach), "user.origin", value, sizeof value);
	if (n != 9 || memcmp(value, "somewhere", 9) != 0)
		return 3;
	if (getxattr(sample_text("%s/files/2", attach), "user.empty", value, sizeof value) != 0)
		return 4;
	if (getxattr(sample_text("%s/files/3", attach), "user.origin", value, sizeof value) >= 0 || errno != ENODATA)
		return 5;
	n = listxattr(sample_text("%s/files/2", attach), list, sizeof list);
	return n == (ssize_t)(sizeof "user.origin" + sizeof "user.empty") ? 0 : 6;
}

static int random_reads(void *ctx)
{
	unsigned seed = (unsigned)(uintptr_t)ctx;
	int fd;

	if (join_image("tree") < 0)
		return 2;
	fd = open(sample_text("%s/files/10", attach), O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 200; i++) {
		unsigned char block[3000];
		uint64_t at = (seed = seed * 1103515245 + 12345) % 3000000;
		ssize_t got = pread(fd, block, sizeof block, (off_t)at);

		if (got != (ssize_t)(3000000 - at < sizeof block ? 3000000 - at : sizeof block))
			return 3;
		for (ssize_t k = 0; k < got; k++)
			if (block[k] != sample_byte(10, at + (uint64_t)k))
				return 4;
	}
	return 0;
}

static int namespace_only(void *ctx)
{
	struct server_request request = request_for("bare", -1);
	char before[64] = "", after[64] = "";

	(void)ctx;
	if (readlink("/proc/self/ns/user", before, sizeof before - 1) < 0 || join_and_attach(&request) < 0
		|| readlink("/proc/self/ns/user", after, sizeof after - 1) < 0)
		return 2;
	return strcmp(before, after) == 0 || geteuid() != user || getegid() != group;
}

/* Joins, says so, and stays until told to go; then still reads a file. */
struct stay {
	int joined[2], go[2];
	const char *key;
};

static int join_and_stay(void *ctx)
{
	struct stay *stay = ctx;
	char byte = 'j';
	int rc = join_image(stay->key);

	close(stay->go[1]);
	if (rc < 0 || write(stay->joined[1], &byte, 1) != 1)
		return 2;
	if (read(stay->go[0], &byte, 1) != 0)
		return 3;
	return sample_hash(sample_text("%s/files/9", attach)) != sample_hash(sample_text("%s/root/files/9", top));
}

static pid_t start_staying(struct stay *stay, const char *key)
{
	pid_t pid;
	char byte;

	stay->key = key;
	if (pipe2(stay->joined, O_CLOEXEC) < 0 || pipe2(stay->go, O_CLOEXEC) < 0)
		sample_fail("pipe");
	pid = start_as_user(join_and_stay, stay);
	close(stay->joined[1]);
	close(stay->go[0]);
	if (read(stay->joined[0], &byte, 1) != 1)
		fprintf(stderr, "the staying process did not join\n");
	close(stay->joined[0]);
	return pid;
}

/* A payload that leaves a daemon behind: the run ends, the daemon reads on. */
static int join_and_leave_daemon(void *ctx)
{
	struct stay *stay = ctx;
	char byte = 'j';

	if (join_image(stay->key) < 0)
		return 2;
	if (plain_fork() == 0) {
		setsid();
		close(stay->go[1]);
		if (read(stay->go[0], &byte, 1) == 0
			&& sample_hash(sample_text("%s/files/9", attach)) == sample_hash(sample_text("%s/root/files/9", top))
			&& write(stay->joined[1], &byte, 1) == 1)
			_exit(0);
		_exit(1);
	}
	return 0;
}

/* --- the facts --- */

static void test_tree(void)
{
	char *expected = expected_manifest();

	for (unsigned i = 0; i < sizeof sample_compressors / sizeof sample_compressors[0]; i++) {
		sample_image(root, image, sample_text("-comp %s -b %s", sample_compressors[i], i == 1 ? "1M" : i == 2 ? "4K" : "128K"));
		CHECK("the mounted image is the tree it was made of, owned by the user", as_user(same_tree, expected) == 0);
		unlink(image);
	}
	free(expected);
	sample_image(root, image, "-comp zstd");
	CHECK("access and open say what the modes say, and nothing can be written", as_user(permissions_are_told_truly, NULL) == 0);
	if (sample_run("getfattr -n user.origin %s/files/1 >/dev/null 2>&1", root) == 0)
		CHECK("user xattrs are shown", as_user(xattrs_are_there, NULL) == 0);
	else
		SKIP("xattrs: the temporary directory's file system has none (or the package attr is missing)");
	CHECK("reads at any place give the right bytes", as_user(random_reads, (void *)7) == 0);
}

/* To this process, which is root. */
static bool answers_others(const char *key)
{
	struct wire_request request = { .protocol = WIRE_PROTOCOL, .wish = WIRE_STATISTICS };
	struct sockaddr_un address;
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), dir = open(runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char byte;
	bool answered;

	if (sock < 0 || dir < 0 || wire_address(&address, dir, key) < 0 || connect(sock, (struct sockaddr *)&address, sizeof address) < 0)
		sample_fail("connecting to a server");
	answered = send(sock, &request, sizeof request, MSG_NOSIGNAL) > 0 && recv(sock, &byte, 1, 0) > 0;
	close(sock);
	close(dir);
	return answered;
}

static void test_sharing(void)
{
	pid_t clients[64];
	struct stay stay;
	int failed = 0;
	pid_t keeper, first, second;

	for (int i = 0; i < 64; i++)
		clients[i] = start_as_user(random_reads, (void *)(uintptr_t)(i + 1));
	for (int i = 0; i < 64; i++)
		failed += status_of(clients[i]) != 0;
	CHECK("64 processes that start at once all join and read", failed == 0);

	keeper = start_staying(&stay, "shared");
	first = server_pid("shared");
	CHECK("a server answers nobody but its user", !answers_others("shared"));
	CHECK("a second run of the scope finds the same server", as_user(namespace_only, NULL) == 0 && server_pid("shared") == first && first > 0);
	/* The first run of a scope has its answer before the server listens; it does when another has been answered. */
	CHECK("a scope without an image takes a second run", as_user(namespace_only, NULL) == 0);
	second = server_pid("bare");
	CHECK("another scope has another server", second > 0 && second != first);
	close(stay.go[1]);
	CHECK("the first run still reads", status_of(keeper) == 0);
	CHECK("the server ends after the linger time", ends_within(first, 20 * LINGER_MS) && ends_within(second, 20 * LINGER_MS));
}

static void test_daemon(void)
{
	struct stay stay = { .key = "daemon" };
	pid_t run, server;
	char byte;

	if (pipe2(stay.joined, O_CLOEXEC) < 0 || pipe2(stay.go, O_CLOEXEC) < 0)
		sample_fail("pipe");
	run = start_as_user(join_and_leave_daemon, &stay);
	CHECK("a run that leaves a daemon ends", status_of(run) == 0);
	server = server_pid("daemon");
	close(stay.joined[1]);
	CHECK("the server does not end while a daemon of the run uses the image", server > 0 && !ends_within(server, 3 * LINGER_MS));
	close(stay.go[0]);
	close(stay.go[1]);
	CHECK("the daemon reads long after its run has ended", read(stay.joined[0], &byte, 1) == 1);
	close(stay.joined[0]);
	CHECK("the server ends when the daemon has", ends_within(server, 20 * LINGER_MS));
}

static void test_death(void)
{
	struct stay stay;
	pid_t keeper = start_staying(&stay, "killed"), server = server_pid("killed"), next;

	kill(server, SIGTERM);
	kill(server, SIGHUP);
	kill(server, SIGINT);
	CHECK("signals that end jobs do not end the server", !ends_within(server, 50));
	kill(server, SIGKILL);
	CHECK("a killed server is gone", ends_within(server, 5000));
	close(stay.go[1]);
	CHECK("a run whose server was killed reads on: the process that reads its image lives as long as the mount", status_of(keeper) == 0);
	CHECK("its socket stays", access(sample_text("%s/killed.%d.sock", runtime, WIRE_PROTOCOL), F_OK) == 0);
	keeper = start_staying(&stay, "killed");
	next = server_pid("killed");
	CHECK("the next run starts a new server", next > 0 && next != server);
	close(stay.go[1]);
	CHECK("which serves", status_of(keeper) == 0);
	CHECK("and ends", ends_within(next, 20 * LINGER_MS));
}

static int join_again_and_again(void *ctx)
{
	unsigned seed = (unsigned)(uintptr_t)ctx;

	/* With no linger time, servers end under the feet of those who join. */
	for (int i = 0; i < 25; i++) {
		pid_t pid = plain_fork();
		int status;

		if (pid == 0) {
			int fd = open(image, O_RDONLY | O_CLOEXEC);
			struct server_request request = request_for("race", (seed + (unsigned)i) % 3 == 0 ? -1 : fd);

			request.linger_ms = 0;
			_exit(join_and_attach(&request) < 0);
		}
		if (waitpid(pid, &status, 0) < 0 || status != 0)
			return 1;
	}
	return 0;
}

static void test_races(void)
{
	pid_t clients[8];
	int failed = 0;

	for (int i = 0; i < 8; i++)
		clients[i] = start_as_user(join_again_and_again, (void *)(uintptr_t)i);
	for (int i = 0; i < 8; i++)
		failed += status_of(clients[i]) != 0;
	CHECK("runs that come while the server goes always find one", failed == 0);
}

static int join_and_end(void *key)
{
	return join_image(key) < 0;
}

/* Whoever starts a server has the lock, and looks first whether there is one. */
static void test_last_moment(void)
{
	char key[] = "moment";
	struct stay stay;
	pid_t keeper = start_staying(&stay, key), server = server_pid(key);
	int dir = open(runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC), lock = wire_lock(dir, key);

	close(stay.go[1]);
	CHECK("its last run ends", lock >= 0 && status_of(keeper) == 0);
	CHECK("a server that is to end is there as long as somebody has the lock", server > 0 && !ends_within(server, 10 * LINGER_MS));
	CHECK("and answers who comes, should that one have been stopped", as_user(join_and_end, key) == 0 && server_pid(key) == server);
	close(lock);
	CHECK("it ends when nobody has it", ends_within(server, PATIENCE_MS));
	close(dir);
}

static void test_silence(void)
{
	char key[] = "silence", byte;
	struct stay stay;
	pid_t keeper = start_staying(&stay, key), server;
	int silent = connect_to(key, &server);

	close(stay.go[1]);
	CHECK("who connects and asks nothing keeps no server", status_of(keeper) == 0 && ends_within(server, PATIENCE_MS));
	CHECK("and is told so", recv(silent, &byte, sizeof byte, 0) == 0);
	close(silent);
}

static int error_of(const char *dir, int fd, uint64_t offset, const char *key, const char *step, const char *detail)
{
	struct server_request request = request_for(key, fd);
	struct server_reply reply;
	struct err err = { 0 };
	int rc;

	request.dir = dir;
	request.offset = offset;
	rc = server_join(&request, &reply, &err);
	if (rc < 0 && strcmp(err.step, step) == 0 && strstr(err.detail, detail) != NULL)
		return 0;
	fprintf(stderr, "%d: cannot %s: %s\n", rc, err.step, err.detail);
	return 1;
}

static int errors_have_texts(void *ctx)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_RDONLY | O_CLOEXEC), bad = 0;

	(void)ctx;
	bad += error_of(runtime, fd, 1, "errors", SERVER_STEP_IMAGE, "no SquashFS at offset 1");
	bad += error_of(runtime, null, 0, "errors", SERVER_STEP_IMAGE, "not a regular file");
	bad += error_of(runtime, fd, 0, "../up", SERVER_STEP_SERVER, "not a scope key");
	bad += error_of(sample_text("%s/squatted", top), fd, 0, "errors", SERVER_STEP_DIRECTORY, "belongs to user 0");
	bad += error_of(sample_text("%s/open", top), fd, 0, "errors", SERVER_STEP_DIRECTORY, "mode 755");
	/* Where no server of this user's listens already. */
	bad += error_of(sample_text("%s/link", top), fd, 0, "linked", SERVER_STEP_DIRECTORY, "/link");
	/* Somebody else listens in a directory of theirs: nothing is sent to them. */
	bad += error_of(sample_text("%s/foreign", top), fd, 0, "errors", SERVER_STEP_DIRECTORY, "belongs to user 0");
	return bad;
}

/* A socket at which root listens, under the name of the scope's, open to all. */
static int listen_in(const char *directory, const char *key)
{
	struct sockaddr_un address;
	int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char name[WIRE_NAME_MAX];

	wire_name(name, key, WIRE_SOCKET);
	if (dir < 0 || wire_address(&address, dir, key) < 0 || bind(sock, (struct sockaddr *)&address, sizeof address) < 0 || listen(sock, 8) < 0
		|| fchmodat(dir, name, 0777, 0) < 0)
		sample_fail("a socket");
	close(dir);
	return sock;
}

/* Whether anybody who connected has sent something. */
static bool was_told(int listener)
{
	char byte;
	int sock;

	while ((sock = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		if (recv(sock, &byte, 1, 0) > 0)
			return true;
		close(sock);
	}
	return false;
}

static int in_namespace_limit(void *ctx)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC), bad;
	int limit;

	(void)ctx;
	/* A user namespace of its own in which no more may be made. */
	if (unshare(CLONE_NEWUSER) < 0 || (limit = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC)) < 0)
		return 2;
	if (write(limit, "0", 1) != 1)
		return 3;
	bad = error_of(runtime, fd, 0, "limit", SERVER_STEP_NAMESPACE, "unshare");
	return bad;
}

static int changed_image(void *ctx)
{
	unsigned char byte;
	int fd;

	(void)ctx;
	if (join_image("changed") < 0)
		return 2;
	/* Somebody writes into the image while it is in use: its size stays, its time does not. */
	if (utimensat(AT_FDCWD, image, (struct timespec[2]) { { .tv_sec = 1 }, { .tv_sec = 1 } }, 0) < 0)
		return 3;
	fd = open(sample_text("%s/files/10", attach), O_RDONLY | O_CLOEXEC);
	return fd < 0 ? errno != EIO : pread(fd, &byte, 1, 2000000) >= 0 || errno != EIO;
}

static int replaced_image(void *ctx)
{
	(void)ctx;
	if (join_image("replaced") < 0)
		return 2;
	if (rename(sample_text("%s/image.other", top), image) < 0)
		return 3;
	return sample_hash(sample_text("%s/files/9", attach)) != sample_hash(sample_text("%s/root/files/9", top));
}

static void test_errors(void)
{
	pid_t server;
	int listener;

	if (mkdir(sample_text("%s/foreign", top), 0755) < 0 || mkdir(sample_text("%s/squatted", top), 0700) < 0 || mkdir(sample_text("%s/open", top), 0755) < 0
		|| chown(sample_text("%s/open", top), user, group) < 0 || symlink(runtime, sample_text("%s/link", top)) < 0)
		sample_fail("directories");
	listener = listen_in(sample_text("%s/foreign", top), "errors");
	CHECK("errors say what was tried and why it failed", as_user(errors_have_texts, NULL) == 0);
	CHECK("nothing is said to somebody else's server", !was_told(listener));
	close(listener);
	CHECK("a system without user namespaces is named", as_user(in_namespace_limit, NULL) == 0);
	sample_run("cp -p %s %s.other; cp -p %s %s.mine; chown %u:%u %s %s.other %s", image, image, image, image, user, group, image, image, top);
	CHECK("an image replaced by rename disturbs nobody", as_user(replaced_image, NULL) == 0);
	CHECK("an image changed in place is an I/O error", as_user(changed_image, NULL) == 0);
	server = server_pid("changed");
	CHECK("the server ends all the same", server == 0 || ends_within(server, 20 * LINGER_MS));
	/* Not before: the reader has its error before the server has written down why. */
	CHECK("and has noted it in the scope's log", sample_run("grep -q 'changed in place' %s/changed.%d.log", runtime, WIRE_PROTOCOL) == 0);
	unlink(sample_text("%s/changed.%d.log", runtime, WIRE_PROTOCOL));
}

/* Sanitizers tell of what they found by the exit status. One server was killed, one could not start. */
static void test_ends(void)
{
	unsigned killed, failed;

	CHECK("every other server ended by itself, without an error", all_end(&failed, &killed) && failed == 1 && killed == 1);
}

int main(int argc, char **argv)
{
	be_server_if_asked(argc, argv);
	if (!begin_server_test())
		return check_end();

	test_tree();
	test_sharing();
	test_daemon();
	test_death();
	test_races();
	test_last_moment();
	test_silence();
	test_errors();

	for (const char *const *key = (const char *const[]) { "tree", "bare", "race", "errors", "replaced", NULL }; *key != NULL; key++) {
		pid_t server = server_pid(*key);

		CHECK("no server is left", server == 0 || ends_within(server, 20 * LINGER_MS));
	}
	test_ends();
	CHECK("no file is left", runtime_is_empty());
	return check_end();
}
