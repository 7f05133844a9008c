/* One image's serving process: started, watched, replaced when it dies. The process that reads the image and may be brought down by it holds nothing that
 * its successor could not go on with: devices and slots of requests are ours. */
#include "fetch.h"
#include "supervised.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#define WORKERS_MIN 8u
#define FAILURES_MAX 8u    /* processes in a row that got nowhere */

int64_t server_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* More than processors: a worker may wait for a slow file system while others have what is asked for. */
static unsigned worker_count(void)
{
	cpu_set_t cpus;
	unsigned count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? 2 * (unsigned)CPU_COUNT(&cpus) : 0;

	return count < WORKERS_MIN ? WORKERS_MIN : count > IMAGEFS_WORKERS_MAX ? IMAGEFS_WORKERS_MAX : count;
}

/* Where a process may run: anywhere where this one may, or there but for the processor that this one has now. */
static void place_process(pid_t pid, bool beside)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof cpus, &cpus) < 0)
		return;
	if (beside)
		CPU_CLR(sched_getcpu(), &cpus);
	sched_setaffinity(pid, sizeof cpus, &cpus); /* with one processor there is no other */
}

static int start_process(struct supervised *serving)
{
	const struct image *image = serving->image;
	int cleanup_fd ours = -1, cleanup_fd theirs = -1;
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	/* It is to begin while the image is mounted: a kernel that leaves a new process on its parent's processor would have it begin after that. */
	if (pid > 0 && !serving->mounted)
		place_process(pid, true);
	if (pid == 0)
		serving_main(&(struct serving) {
			.box = image->box,
			.shared = serving->shared,
			.devices = serving->devices,
			.listening = serving->listening,
			.identity = &image->identity,
			.image = image->fd,
			.record = image->record,
			.fetcher = serving->asks[1],
			.channel = theirs,
			.offset = image->offset,
			.size = image->size,
			.hot_offset = image->hot_offset,
			.hot_size = image->hot_size,
			.is_mounted = serving->mounted,
			.is_successor = serving->opened,
			.program = image->program,
			.search = image->search,
		});
	serving->pid = pid;
	serving->channel = steal_fd(&ours);
	return 0;
}

/* Once: nobody misses it when it ends. */
static void start_fetcher(struct supervised *serving)
{
	int cleanup_fd root = image_root(serving->image);
	pid_t parent = getpid(), pid = serving->has_fetched || root < 0 || serving->asks[0] < 0 ? -1 : fork();

	if (pid == 0)
		fetching_main(parent, serving->shared, root, serving->asks[0]);
	if (pid > 0)
		serving->fetcher = pid;
	serving->has_fetched = true;
}

static void close_devices(struct supervised *serving)
{
	while (serving->device_count > 0)
		close(serving->devices[--serving->device_count]);
	close_fd(&serving->listening);
}

/* One for each worker, but the last third of the descriptors that may be open is for the mount, for runs that come, and for other images: then fewer work. */
static int open_devices(struct supervised *serving, unsigned workers, struct err *err)
{
	const char *path = serving->image->box->device_path;
	struct rlimit files = { .rlim_cur = 0 };

	(void)!getrlimit(RLIMIT_NOFILE, &files);
	serving->devices[0] = imagefs_open_device(path, 0, err);
	if (serving->devices[0] < 0)
		return serving->devices[0];
	serving->device_count = 1;
	while (serving->device_count < workers) {
		int cleanup_fd further = imagefs_open_device(path, 0, NULL);

		if (further < 0 || (rlim_t)further >= files.rlim_cur / 3 * 2)
			break;
		serving->devices[serving->device_count++] = steal_fd(&further);
	}
	serving->listening = imagefs_open_device(path, O_NONBLOCK, NULL);
	return 0;
}

int supervised_new(struct supervised **out, const struct image *image, struct err *err)
{
	struct supervised *serving = calloc(1, sizeof *serving);
	int rc;

	if (serving == NULL)
		return fail(err, ENOMEM, SERVER_STEP_SERVER, "out of memory");
	*serving = (struct supervised) { .image = image, .channel = -1, .due = INT64_MAX, .listening = -1, .asks = { -1, -1 } };
	rc = open_devices(serving, worker_count(), err);
	if (rc == 0 && (serving->shared = imagefs_shared_new(serving->device_count)) == NULL)
		rc = fail(err, ENOMEM, SERVER_STEP_SERVER, "out of memory");
	if (rc < 0) {
		supervised_free(serving);
		return rc;
	}
	(void)!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, serving->asks); /* without it blocks are decoded more often, that is all */
	*out = serving;
	return 0;
}

int supervised_start(struct supervised *serving, struct err *err)
{
	int rc = start_process(serving);

	return rc < 0 ? fail(err, -rc, SERVER_STEP_SERVER, "starting a process for the image") : 0;
}

int supervised_device(const struct supervised *serving)
{
	return serving->devices[0];
}

int supervised_mounted(struct supervised *serving, struct err *err)
{
	static const char now = 0;
	int rc = serving->listening < 0 ? 0 : imagefs_join_device(serving->listening, serving->devices[0], err);

	for (unsigned i = 1; rc == 0 && i < serving->device_count; i++)
		rc = imagefs_join_device(serving->devices[i], serving->devices[0], err);
	if (rc < 0)
		return rc;
	serving->mounted = true;
	/* Before it has threads that stay. */
	if (serving->pid > 0)
		place_process(serving->pid, false);
	/* Should it have ended, that is heard later. */
	if (serving->pid > 0)
		(void)!send(serving->channel, &now, sizeof now, MSG_NOSIGNAL);
	supervised_watch(serving); /* the first request is coming */
	return 0;
}

void supervised_fill(struct supervised *serving)
{
	if (!serving->filled)
		imagefs_shared_fill(serving->shared);
	serving->filled = true;
}

int supervised_channel(const struct supervised *serving)
{
	return serving->channel;
}

const struct imagefs_shared *supervised_shared(const struct supervised *serving)
{
	return serving->shared;
}

pid_t supervised_pid(const struct supervised *serving)
{
	return serving->pid;
}

/* --- when it has ended --- */

/* Nobody will answer any more: the kernel must know, so that those who wait need not. */
static enum supervised_news give_up(struct supervised *serving, struct err *err)
{
	server_log(serving->image->box, "the image cannot be served any more; whoever uses it gets errors");
	close_devices(serving);
	if (err->step[0] == '\0')
		fail(err, EIO, SERVER_STEP_SERVER, "the process that serves the image %s", serving->opened ? "ended again and again" : "ended before it had opened it");
	return NEWS_FAILED;
}

static enum supervised_news bury(struct supervised *serving, struct err *err)
{
	int status = 0;
	bool killed, goes_on;
	char text[96];

	/* It has ended, or does not keep to what was agreed. */
	kill(serving->pid, SIGKILL);
	RETRY(waitpid(serving->pid, &status, 0));
	serving->pid = 0;
	close_fd(&serving->channel);
	serving->due = INT64_MAX;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NEWS_ENDED;
	/* Somebody's kill, or memory that ran out, is not the fault of the request it was at. */
	killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !serving->hangs;
	if (killed)
		atomic_store(&serving->shared->alone, 0);
	if (killed || atomic_load(&serving->shared->alone) == 0)
		serving->failures++; /* set back when a successor has answered what it found, or opened the image */
	serving->hangs = false;
	goes_on = (serving->opened || killed) && serving->failures < FAILURES_MAX && start_process(serving) == 0;
	snprintf(text, sizeof text, "a serving process ended (%s %d); %s", WIFSIGNALED(status) ? "signal" : "status",
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), goes_on ? "another one goes on" : "giving up");
	server_log(serving->image->box, text);
	if (!goes_on)
		return give_up(serving, err);
	serving->replacements++;
	supervised_watch(serving); /* from the start: it has requests to answer */
	return NEWS_REPLACED;
}

enum supervised_news supervised_hear(struct supervised *serving, struct err *err)
{
	struct serving_message message;
	ssize_t got = RETRY(recv(serving->channel, &message, sizeof message, 0));

	if (got < 0 && errno == EAGAIN)
		return NEWS_NONE;
	if (got != sizeof message)
		return bury(serving, err);
	message.err.step[sizeof message.err.step - 1] = message.err.detail[sizeof message.err.detail - 1] = '\0';
	switch (message.says) {
	case SAYS_OPENED:
		if (message.rc < 0) {
			*err = message.err;
			serving->failures = FAILURES_MAX; /* trying again would not help */
			if (!serving->opened)
				return NEWS_FAILED;
			server_log(serving->image->box, message.err.detail);
			return NEWS_NONE;
		}
		if (serving->opened)
			return NEWS_NONE;
		serving->opened = true;
		serving->failures = 0;
		return NEWS_OPENED;
	case SAYS_RECOVERED:
		serving->failures = 0;
		break;
	case SAYS_LOG:
		server_log(serving->image->box, message.err.detail);
		break;
	case SAYS_WATCH:
		supervised_watch(serving);
		break;
	case SAYS_FETCH:
		start_fetcher(serving);
		break;
	}
	return NEWS_NONE;
}

void supervised_bury_fetcher(struct supervised *serving)
{
	if (serving->fetcher <= 0 || waitpid(serving->fetcher, NULL, WNOHANG) != serving->fetcher)
		return;
	atomic_store(&serving->shared->fetcher, 0);
	serving->fetcher = 0;
}

void supervised_leave(struct supervised *serving)
{
	serving->has_fetched = true;
	if (serving->fetcher > 0)
		kill(serving->fetcher, SIGKILL);
}

void supervised_used(struct supervised *serving, bool used)
{
	atomic_store(&serving->shared->unused, !used);
}

unsigned supervised_replacements(const struct supervised *serving)
{
	return serving->replacements;
}

void supervised_free(struct supervised *serving)
{
	if (serving == NULL)
		return;
	close_devices(serving);
	close_fd(&serving->channel);
	if (serving->pid > 0) { /* it has said all it will say */
		kill(serving->pid, SIGKILL);
		RETRY(waitpid(serving->pid, NULL, 0));
	}
	if (serving->fetcher > 0) {
		kill(serving->fetcher, SIGKILL);
		RETRY(waitpid(serving->fetcher, NULL, 0));
	}
	close_fd(&serving->asks[0]);
	close_fd(&serving->asks[1]);
	imagefs_shared_free(serving->shared);
	free(serving);
}
