/* Extraction into a directory: where to, and the child process that unpacks there, seen from outside. */
#include "image.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define EXTRACT "extract the image"

/* --- DEST --- */

void image_empty(int dir)
{
	DIR *listing;
	struct dirent *entry;
	int fd;

	fchmod(dir, 0700);
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	listing = fd < 0 ? NULL : fdopendir(fd);
	if (listing == NULL) {
		close_fd(&fd);
		return;
	}
	while ((entry = readdir(listing)) != NULL) {
		int sub;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || unlinkat(dir, entry->d_name, 0) == 0)
			continue;
		if (fchmodat(dir, entry->d_name, 0700, 0) < 0)
			continue;
		sub = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0) {
			image_empty(sub);
			close(sub);
		}
		unlinkat(dir, entry->d_name, AT_REMOVEDIR);
	}
	closedir(listing);
}

static int is_empty(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	unsigned names = 0;

	if (listing == NULL) {
		close_fd(&fd);
		return -errno;
	}
	while (readdir(listing) != NULL)
		names++;
	closedir(listing);
	return names <= 2;
}

static int open_dest(const char *path, int *dest, bool *made, struct err *err)
{
	int rc;

	*made = mkdir(path, 0700) == 0;
	if (!*made && errno != EEXIST)
		return fail(err, errno, EXTRACT, "making the directory %.300s", path);
	*dest = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*dest < 0)
		return fail(err, errno, EXTRACT, "opening the directory %.300s", path);
	rc = *made ? 1 : is_empty(*dest);
	if (rc == 1)
		return 0;
	close_fd(dest);
	return fail(err, rc < 0 ? -rc : ENOTEMPTY, EXTRACT, "%.300s", path);
}

/* --- the child --- */

/* Waits for the child's report; passes signals on to it. Returns the signal that interrupted, or 0. */
static int await_child(pid_t child, int report, int signals, struct image_outcome *outcome)
{
	struct pollfd wait[2] = { { .fd = report, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	int caught = 0;

	for (;;) {
		struct signalfd_siginfo info;

		if (RETRY(poll(wait, 2, -1)) < 0)
			break;
		if (wait[1].revents & POLLIN && read(signals, &info, sizeof info) == (ssize_t)sizeof info) {
			caught = (int)info.ssi_signo;
			kill(child, caught);
		}
		if (wait[0].revents != 0)
			break;
	}
	if (read_full(report, outcome, sizeof *outcome) < 0) {
		outcome->rc = -EIO;
		fail(&outcome->err, EIO, EXTRACT, "the extracting process died");
	}
	return caught;
}

static int run_child(int image, uint64_t offset, uint64_t size, int dest, struct image_owners *owners, struct image_outcome *outcome, int *caught, struct err *err)
{
	int cleanup_fd signals = -1, cleanup_fd report_in = -1, cleanup_fd report_out = -1;
	int pipe_fds[2];
	sigset_t ours, before;
	pid_t parent = getpid(), child;
	int rc = 0;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGHUP);
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return fail(err, errno, EXTRACT, "making a pipe");
	report_in = pipe_fds[0];
	report_out = pipe_fds[1];
	signals = signalfd(-1, &ours, SFD_CLOEXEC);
	if (signals < 0)
		return fail(err, errno, EXTRACT, "making a signal descriptor");
	sigprocmask(SIG_BLOCK, &ours, &before);
	child = fork();
	if (child == 0) {
		/* What it would unpack is of no use to anybody else. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(1);
		image_unpacking(image, offset, size, dest, owners, report_out, &before);
	}
	close_fd(&report_out);
	if (child < 0)
		rc = fail(err, errno, EXTRACT, "starting a process");
	else
		*caught = await_child(child, report_in, signals, outcome);
	if (child > 0)
		RETRY(waitpid(child, NULL, 0));
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}

int image_extract(int fd, uint64_t offset, uint64_t size, const char *path, struct image_owners *owners, uint64_t *skipped, struct err *err)
{
	struct image_outcome outcome = { 0 };
	int cleanup_fd dest = -1;
	int caught = 0;
	bool made;
	int rc = open_dest(path, &dest, &made, err);

	if (rc < 0)
		return rc;
	rc = run_child(fd, offset, size, dest, owners, &outcome, &caught, err);
	if (rc == 0 && outcome.rc < 0) {
		rc = outcome.rc;
		if (err != NULL)
			*err = outcome.err;
		if (rc == -EINTR)
			fail(err, EINTR, EXTRACT, "interrupted");
	}
	if (rc < 0) {
		image_empty(dest);
		if (made)
			rmdir(path);
	}
	if (rc == 0 && skipped != NULL)
		*skipped = outcome.skipped;
	if (caught != 0)
		raise(caught);
	return rc;
}
