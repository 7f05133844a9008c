/* What happens when the process that serves an image is killed, stopped, dies of a request or hangs. The server is the real one, but for four names:
 * looking for "poison" ends the process, looking for "hang" does not return, both twice: a third time they would be answered. Looking for "unlucky" kills it as
 * somebody outside would, three times; looking for "cursed" always. */
#define imagefs_answer plain_answer
#include "../../native/fuse/ops.c"
#undef imagefs_answer
void imagefs_answer(struct imagefs_worker *worker, size_t len);

#include "server_readers.h"

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

struct other {
	pid_t server, not;
};

static bool is_replaced(void *ctx)
{
	const struct other *other = ctx;
	pid_t pid = serving_pid(other->server);

	return pid != 0 && pid != other->not;
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

/* --- the facts --- */

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
	make_progress();
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
	test_no_successor();
#ifdef __SANITIZE_THREAD__
	SKIP("idleness: the thread sanitizer has a thread that wakes up by itself");
#else
	test_idle();
#endif
	test_ends();
	return check_end();
}
