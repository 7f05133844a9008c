/* What tests of a server's processes begin with: runs that read, look for names, or wait until they are told. */
#ifndef TSRUN_SERVER_READERS_H
#define TSRUN_SERVER_READERS_H

/* How often the server looks at slots of requests. */
#define WATCH_TICK_MS 250
#include "../../native/supervisor_watch.c"

#include "server_client.h"

#include <inttypes.h>
#include <sys/mman.h>

#define READERS 64

struct progress { /* shared by all readers */
	_Atomic uint64_t reads;
	_Atomic uint32_t joined;
	_Atomic bool stop, leave;
};
static struct progress *progress;

__attribute__((unused)) static bool ignores_children; /* whoever starts a run may, and its processes inherit that */

/* TSan's fork starts a thread in the child, and setns wants a process without. */
__attribute__((unused)) static pid_t start(const char *key, int image_fd, int (*what)(unsigned), unsigned number)
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

__attribute__((unused)) static bool serves(pid_t pid)
{
	return sample_run("! grep -qs fetch /proc/%d/comm", pid) == 0;
}

/* The (only) serving process of a server; 0 while there is none. */
__attribute__((unused)) static pid_t serving_pid(pid_t server)
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

__attribute__((unused)) static bool all_joined(void *ctx)
{
	return atomic_load(&progress->joined) >= *(unsigned *)ctx;
}

__attribute__((unused)) static bool is_gone(void *ctx)
{
	return waitpid(*(pid_t *)ctx, NULL, WNOHANG) != 0;
}

__attribute__((unused)) static int look_for(const char *name)
{
	struct stat st;

	return stat(sample_text("%s/%s", attach, name), &st) == 0 ? 0 : errno;
}

__attribute__((unused)) static bool is_told_to_read(void *ctx)
{
	(void)ctx;
	return atomic_load(&progress->reads) >= 1;
}

__attribute__((unused)) static bool is_told_to_end(void *ctx)
{
	(void)ctx;
	return atomic_load(&progress->stop);
}

__attribute__((unused)) static int read_when_told(unsigned number)
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

__attribute__((unused)) static void begin(void)
{
	atomic_store(&progress->reads, 0);
	atomic_store(&progress->joined, 0);
	atomic_store(&progress->stop, false);
	atomic_store(&progress->leave, false);
}

static pid_t readers[READERS];

__attribute__((unused)) static pid_t start_readers(const char *key, int (*what)(unsigned), unsigned count)
{
	begin();
	for (unsigned i = 0; i < count; i++)
		readers[i] = start(key, -1, what, i + 1);
	CHECK("the readers join", comes_true(all_joined, &count));
	return server_pid(key);
}

/* All of them together have the time that one has. */
__attribute__((unused)) static unsigned failed_readers(unsigned count)
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

/* Sanitizers tell of what they found by the exit status of servers, which are our children as their starters have ended. */
__attribute__((unused)) static void test_ends(void)
{
	unsigned failed, killed;

	CHECK("every server ends by itself, without an error", all_end(&failed, &killed) && failed == 0 && killed == 0);
	sample_run("rm -f %s/*.log", runtime);
	CHECK("no file is left", rmdir(runtime) == 0);
}

__attribute__((unused)) static void make_progress(void)
{
	progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED)
		sample_fail("mmap");
}

#endif
