/* What happens when the process that serves an image is killed, stopped, dies of a request or hangs, and when the image's own file system hangs. The
 * server is the real one, but for four names: looking for "poison" ends the process, looking for "hang" does not return, both twice: a third time they would be
 * answered. Looking for "unlucky" kills it as somebody outside would, three times; looking for "cursed" always. */
#define imagefs_answer plain_answer
#include "../../native/fuse/ops.c"
#undef imagefs_answer
void imagefs_answer(struct imagefs_worker *worker, size_t len);
#define WATCH_TICK_MS 250
#include "../../native/supervisor_watch.c"

#include "server_client.h"

#include <inttypes.h>
#include <sys/mman.h>

#define READERS 64
/* Keys of servers that do so; of one whose first processes for the image are killed before they have opened it. */
#define STOPS_AT_START "stops-at-start"
#define KILLED_AT_START "killed-at-start"
#define KILLED_FIRST 3u

void imagefs_answer(struct imagefs_worker *worker, size_t len)
{
	const struct fuse_in_header *in = (const void *)worker->slot->request;
	const char *name = worker->slot->request + sizeof *in;
	unsigned again = atomic_load(&worker->slot->again);

	if (in->opcode == FUSE_LOOKUP && strcmp(name, "poison") == 0 && again < 2)
		abort();
	while (in->opcode == FUSE_LOOKUP && strcmp(name, "hang") == 0 && again < 2)
		pause();
	if (in->opcode == FUSE_LOOKUP && ((strcmp(name, "unlucky") == 0 && again < 3) || strcmp(name, "cursed") == 0))
		kill(getpid(), SIGKILL);
	plain_answer(worker, len);
}

/* --- runs --- */

struct progress { /* shared by all readers */
	_Atomic uint64_t reads;
	_Atomic uint32_t joined;
	_Atomic bool stop, leave;
};
static struct progress *progress;

static bool ignores_children; /* whoever starts a run may, and its processes inherit that */

/* TSan's fork starts a thread in the child, and setns wants a process without. */
static pid_t start(const char *key, int image_fd, int (*what)(unsigned), unsigned number)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0) {
		struct server_request request;
		int fd;

		if (ignores_children)
			signal(SIGCHLD, SIG_IGN);
		become_user();
		fd = image_fd >= 0 ? image_fd : open(image, O_RDONLY | O_CLOEXEC);
		request = request_for(key, fd);
		request.cache_bytes = 1 << 20;
		if (join_and_attach(&request) < 0)
			_exit(90);
		close(fd);
		atomic_fetch_add(&progress->joined, 1);
		_exit(what(number));
	}
	return pid;
}

static bool serves(pid_t pid)
{
	return sample_run("! grep -qs fetch /proc/%d/comm", pid) == 0;
}

/* The (only) serving process of a server; 0 while there is none. */
static pid_t serving_pid(pid_t server)
{
	FILE *list = fopen(sample_text("/proc/%d/task/%d/children", server, server), "re");
	int pid = 0, child;

	if (list == NULL)
		return 0;
	while (pid == 0 && fscanf(list, "%d", &child) == 1)
		pid = serves(child) ? child : 0;
	fclose(list);
	return pid;
}

struct other {
	pid_t server, not;
};

static bool is_replaced(void *ctx)
{
	const struct other *other = ctx;
	pid_t pid = serving_pid(other->server);

	return pid != 0 && pid != other->not;
}

static bool all_joined(void *ctx)
{
	return atomic_load(&progress->joined) >= *(unsigned *)ctx;
}

static bool has_read(void *ctx)
{
	return atomic_load(&progress->reads) >= *(uint64_t *)ctx;
}

static bool progresses(void)
{
	uint64_t wanted = atomic_load(&progress->reads) + 2 * READERS;

	return comes_true(has_read, &wanted);
}

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

static bool is_gone(void *ctx)
{
	return waitpid(*(pid_t *)ctx, NULL, WNOHANG) != 0;
}

/* --- what runs do --- */

/* Reads and looks for names in ways that the kernel's caches do not answer, and compares every byte. */
static int read_until_told(unsigned number)
{
	static unsigned char block[8192] __attribute__((aligned(4096)));
	unsigned seed = number;
	int fd = open(sample_text("%s/files/10", attach), O_RDONLY | O_DIRECT | O_CLOEXEC);
	int cached = open(sample_text("%s/files/10", attach), O_RDONLY | O_CLOEXEC);

	for (unsigned i = 0; !atomic_load(&progress->stop); i++) {
		uint64_t at = ((seed = seed * 1103515245 + 12345) % 700) * 4096;
		/* Pages of one block are wanted by many at once, in different requests. */
		bool by_pages = i % 2 == 1 && posix_fadvise(cached, 0, 0, POSIX_FADV_DONTNEED) == 0;
		ssize_t got = pread(by_pages ? cached : fd, block, sizeof block, (off_t)at);
		struct stat st;

		if (got != (ssize_t)sizeof block)
			return 3;
		for (ssize_t k = 0; k < got; k++)
			if (block[k] != sample_byte(10, at + (uint64_t)k))
				return 4;
		if (stat(sample_text("%s/files/none-%u-%u", attach, number, i), &st) == 0 || errno != ENOENT)
			return 5;
		if (stat(sample_text("%s/many/%u", attach, i % SAMPLE_NAMES), &st) < 0 && errno != ENOENT)
			return 6;
		atomic_fetch_add(&progress->reads, 1);
	}
	return 0;
}

static int look_for(const char *name)
{
	struct stat st;

	return stat(sample_text("%s/%s", attach, name), &st) == 0 ? 0 : errno;
}

static int look_for_poison(unsigned number)
{
	return look_for("poison") == EIO && look_for("files") == 0 && read_until_told(number) == 0 ? 0 : 1;
}

static int look_for_unlucky(unsigned number)
{
	(void)number;
	return look_for("unlucky") == ENOENT && look_for("files") == 0 ? 0 : 1;
}

static int look_for_cursed(unsigned number)
{
	(void)number;
	return look_for("cursed") == EIO && look_for("files") == 0 ? 0 : 1;
}

static int look_for_hang(unsigned number)
{
	int error = look_for("hang");

	atomic_fetch_add(&progress->joined, 1);
	return error == EIO && look_for("files") == 0 && read_until_told(number) == 0 ? 0 : 1;
}

static int expect_errors(unsigned number)
{
	(void)number;
	while (!atomic_load(&progress->stop))
		if (look_for(sample_text("files/%llu", (unsigned long long)atomic_fetch_add(&progress->reads, 1) + 1000000)) != ENOENT)
			return 0;
	return 1;
}

static int look_for_nothing(unsigned number)
{
	(void)number;
	return look_for("nothing") == ENOENT && look_for("files") == 0 ? 0 : 1;
}

/* --- an image within an image --- */

#define INNER_FD 100

static bool is_told_to_read(void *ctx)
{
	(void)ctx;
	return atomic_load(&progress->reads) >= 1;
}

static bool has_begun(void *ctx)
{
	return atomic_load(&progress->reads) == 1 + *(unsigned *)ctx;
}

static bool is_told_to_end(void *ctx)
{
	(void)ctx;
	return atomic_load(&progress->stop);
}

static int hold_inner_image(unsigned number)
{
	(void)number;
	if (dup2(open(sample_text("%s/inner", attach), O_RDONLY), INNER_FD) != INNER_FD)
		return 2;
	atomic_fetch_add(&progress->joined, 1);
	return comes_true(is_told_to_end, NULL) ? 0 : 3;
}

static int read_when_told(unsigned number)
{
	static unsigned char block[4096] __attribute__((aligned(4096)));
	int fd = open(sample_text("%s/files/10", attach), O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint64_t at = number * 65536u; /* a block of its own for each */

	atomic_fetch_add(&progress->joined, 1);
	if (fd < 0 || !comes_true(is_told_to_read, NULL))
		return 2;
	atomic_fetch_add(&progress->reads, 1);
	if (pread(fd, block, sizeof block, (off_t)at) != (ssize_t)sizeof block)
		return 3;
	for (unsigned i = 0; i < sizeof block; i++)
		if (block[i] != sample_byte(10, at + i))
			return 4;
	return 0;
}

static bool is_told_to_leave(void *ctx)
{
	(void)ctx;
	return atomic_load(&progress->leave);
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

static void begin(void)
{
	atomic_store(&progress->reads, 0);
	atomic_store(&progress->joined, 0);
	atomic_store(&progress->stop, false);
	atomic_store(&progress->leave, false);
}

/* --- the facts --- */

static pid_t readers[READERS];

static pid_t start_readers(const char *key, int (*what)(unsigned), unsigned count)
{
	begin();
	for (unsigned i = 0; i < count; i++)
		readers[i] = start(key, -1, what, i + 1);
	CHECK("the readers join", comes_true(all_joined, &count));
	return server_pid(key);
}

/* All of them together have the time that one has. */
static unsigned failed_readers(unsigned count)
{
	int64_t end = now_ms() + PATIENCE_MS;
	unsigned failed = 0;

	atomic_store(&progress->stop, true);
	for (unsigned i = 0; i < count; i++) {
		int64_t left = end - now_ms();
		int status = status_within(readers[i], left > 0 ? (int)left : 0);

		if (status != 0)
			fprintf(stderr, "reader %u: %d\n", i, status);
		failed += status != 0;
	}
	return failed;
}

static void test_kills(void)
{
	pid_t server = start_readers("killed", read_until_told, READERS);
	unsigned replaced = 0, went_on = 0;

	for (unsigned i = 0; i < 20 && went_on == i; i++) {
		pid_t pid = serving_pid(server);

		if (i % 4 == 3)
			kill(pid, SIGSTOP);
		kill(pid, SIGKILL);
		replaced += comes_true(is_replaced, &(struct other) { server, pid });
		went_on += progresses();
	}
	CHECK("a serving process that is killed is replaced", replaced == 20);
	CHECK("and its readers go on", went_on == 20);
	CHECK("64 readers see right data and no error through 20 kills", failed_readers(READERS) == 0);
}

static void test_ignored_children(void)
{
	pid_t server, pid;

	ignores_children = true;
	server = start_readers("ignoring", read_until_told, 8);
	ignores_children = false;
	pid = serving_pid(server);
	kill(pid, SIGKILL);
	CHECK("started by somebody who ignores SIGCHLD, a server sees that its process was killed", comes_true(is_replaced, &(struct other) { server, pid }) && progresses());
	CHECK("and readers see no error", failed_readers(8) == 0);
}

static void test_stop(void)
{
	pid_t server = start_readers("stopped", read_until_told, READERS), pid = serving_pid(server);

	kill(pid, SIGSTOP);
	CHECK("a serving process that is stopped goes on", progresses() && serving_pid(server) == pid);
	CHECK("with right data", failed_readers(READERS) == 0);
	CHECK("it is noted in the scope's log", sample_run("grep -q 'was stopped' %s/stopped.%d.log", runtime, WIRE_PROTOCOL) == 0);
}

static void test_stop_while_idle(void)
{
	pid_t server = start_readers("stopped-idle", read_when_told, 1), serving = serving_pid(server);

	CHECK("it has opened its file", comes_true(all_joined, &(unsigned) { 2 }));
	kill(serving, SIGSTOP);
	atomic_store(&progress->reads, 1);
	CHECK("a serving process that is stopped while nobody asks it anything goes on", ends_within(readers[0], PATIENCE_MS));
	CHECK("with the same process, and right data", serving_pid(server) == serving && failed_readers(1) == 0);
}

static void test_stop_at_start(void)
{
	start_readers(STOPS_AT_START, read_until_told, 8);
	CHECK("a server that is stopped before it listens goes on, and its runs with it", progresses() && failed_readers(8) == 0);
}

static void test_kills_at_start(void)
{
	CHECK("who is killed before it has opened the image has a successor", status_of(start(KILLED_AT_START, -1, look_for_nothing, 0)) == 0);
}

static void test_poison(void)
{
	pid_t server = start_readers("poisoned", read_until_told, 8);

	readers[8] = start("poisoned", -1, look_for_poison, 9);
	CHECK("the poisoner joins", comes_true(all_joined, &(unsigned) { 9 }));
	CHECK("readers go on beside a request that ends the process that answers it", progresses() && serving_pid(server) > 0);
	CHECK("it is answered EIO, all others rightly", failed_readers(9) == 0);
	CHECK("it is noted in the scope's log",
		sample_run("grep -q 'ended two serving processes' %s/poisoned.%d.log", runtime, WIRE_PROTOCOL) == 0);
}

static void test_bad_luck(void)
{
	CHECK("a request is not to blame for the kills of others: it is answered in the end", status_of(start("unlucky", -1, look_for_unlucky, 0)) == 0);
	CHECK("but it is not tried for ever", status_of(start("cursed", -1, look_for_cursed, 0)) == 0);
}

static void test_hang(void)
{
	start_readers("hanging", read_until_told, 8);
	readers[8] = start("hanging", -1, look_for_hang, 9);
	CHECK("the one who hangs joins", comes_true(all_joined, &(unsigned) { 9 }));
	CHECK("a request that is never answered comes to an end", comes_true(all_joined, &(unsigned) { 10 }) && progresses());
	CHECK("as EIO, all others as they should", failed_readers(9) == 0);
}

static void test_no_successor(void)
{
	pid_t server = start_readers("doomed", expect_errors, 16), pid = serving_pid(server);

	/* Its successor will find a file that is not the one it was. */
	if (utimensat(AT_FDCWD, image, (struct timespec[2]) { { .tv_sec = 1 }, { .tv_sec = 1 } }, 0) < 0)
		sample_fail("utimensat");
	kill(pid, SIGKILL);
	for (unsigned i = 0; i < 16; i++)
		CHECK("when no successor can serve the image, readers get errors and end", comes_true(is_gone, &readers[i]));
	CHECK("a new run is served again", status_of(start("doomed", -1, look_for_nothing, 0)) == 0);
}

#define WAITING 40u   /* more than there are workers */
#define SURVIVORS 5u

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

/* How often the threads of a process have been given a processor. */
static uint64_t switches_of(pid_t pid)
{
	struct dirent **list;
	int n = scandir(sample_text("/proc/%d/task", pid), &list, NULL, alphasort);
	uint64_t sum = 0;

	for (int i = 0; i < n; i++) {
		FILE *status = fopen(sample_text("/proc/%d/task/%.20s/status", pid, list[i]->d_name), "re");
		char line[128];
		unsigned long long count;

		while (status != NULL && fgets(line, sizeof line, status) != NULL)
			if (sscanf(line, "voluntary_ctxt_switches: %llu", &count) == 1)
				sum += count;
		if (status != NULL)
			fclose(status);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return sum;
}

__attribute__((unused)) static int wait_for_end(unsigned number)
{
	(void)number;
	return look_for("files/1") == 0 && comes_true(is_told_to_end, NULL) ? 0 : 1;
}

__attribute__((unused)) static void test_idle(void)
{
	pid_t server = start_readers("idle", wait_for_end, 1), serving = serving_pid(server);
	uint64_t server_ran = 0, serving_ran = 0;
	bool quiet = false;

	/* One look at the slots comes after the last request, late on a busy machine; then nothing. Whoever looks again and again never is quiet. */
	for (int i = 0; i < 20 && !quiet; i++) {
		uint64_t server_before = switches_of(server), serving_before = switches_of(serving);

		poll(NULL, 0, 5 * WATCH_TICK_MS);
		server_ran = switches_of(server) - server_before;
		serving_ran = switches_of(serving) - serving_before;
		quiet = server_ran == 0 && serving_ran == 0;
	}
	if (!quiet)
		printf("in five ticks the server has run %" PRIu64 " times, process %d %" PRIu64 " times; now %d serves\n", server_ran, serving, serving_ran, serving_pid(server));
	CHECK("a server that nobody asks anything does not run", quiet);
	CHECK("its run ends well", failed_readers(1) == 0);
}

/* Sanitizers tell of what they found by the exit status of servers, which are our children as their starters have ended. */
static void test_ends(void)
{
	unsigned failed, killed;

	CHECK("every server ends by itself, without an error", all_end(&failed, &killed) && failed == 0 && killed == 0);
	sample_run("rm -f %s/*.log", runtime);
	CHECK("no file is left", rmdir(runtime) == 0);
}

static _Atomic unsigned *processes; /* that a server has started */

static void die_if_among_the_first(void)
{
	if (atomic_fetch_add(processes, 1) < KILLED_FIRST)
		raise(SIGKILL);
}

int main(int argc, char **argv)
{
	if (argc > 2 && strcmp(argv[2], STOPS_AT_START) == 0)
		raise(SIGSTOP);
	if (argc > 2 && strcmp(argv[2], KILLED_AT_START) == 0) {
		processes = mmap(NULL, sizeof *processes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		pthread_atfork(NULL, NULL, die_if_among_the_first);
	}
	be_server_if_asked(argc, argv);
	if (!begin_server_test())
		return check_end();
	progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED)
		sample_fail("mmap");
	sample_image(root, image, "-comp zstd -b 16K");

	test_kills();
	test_ignored_children();
	test_stop();
	test_stop_while_idle();
	test_stop_at_start();
	test_kills_at_start();
	test_poison();
	test_bad_luck();
	test_hang();
	test_hanging_storage();
	test_no_successor();
#ifdef __SANITIZE_THREAD__
	SKIP("idleness: the thread sanitizer has a thread that wakes up by itself");
#else
	test_idle();
#endif
	test_ends();
	return check_end();
}
