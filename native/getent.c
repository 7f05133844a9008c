#include "host.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define GETENT "/usr/bin/getent"
#define GETENT_TIMEOUT_MS 5000
#define GETENT_ANSWER_MAX (64 * 1024)

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Starts getent with nothing of ours but the pipe: no stdin, no messages, a plain environment, default signals. */
static int spawn_getent(const char *database, const char *key, int output, pid_t *pid)
{
	char *const argv[] = {(char *)"getent", (char *)"--", (char *)database, (char *)key, NULL};
	char *const env[] = {(char *)"PATH=/usr/bin:/bin", (char *)"LC_ALL=C", NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, usual;
	int error;

	sigemptyset(&none);
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE);
	sigaddset(&usual, SIGCHLD);
	if (posix_spawn_file_actions_init(&files) != 0)
		return -ENOMEM;
	if (posix_spawnattr_init(&attr) != 0) {
		posix_spawn_file_actions_destroy(&files);
		return -ENOMEM;
	}
	error = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	error = error ? error : posix_spawnattr_setsigmask(&attr, &none);
	error = error ? error : posix_spawnattr_setsigdefault(&attr, &usual);
	error = error ? error : posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	error = error ? error : posix_spawn_file_actions_adddup2(&files, output, 1);
	error = error ? error : posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
	error = error ? error : posix_spawn(pid, GETENT, &files, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -error;
}

/* Everything the child writes until it closes its end, in bounded time and size. */
static int collect(int input, struct host_reply *reply)
{
	int64_t deadline = now_ms() + GETENT_TIMEOUT_MS;

	for (;;) {
		struct pollfd waiting = {.fd = input, .events = POLLIN};
		int64_t left = deadline - now_ms();
		int ready = left > 0 ? poll(&waiting, 1, (int)left) : 0;
		ssize_t got;

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready < 0)
			return -errno;
		if (ready == 0)
			return -ETIMEDOUT;
		if (host_reply_room(reply, 4096) != 0)
			return -ENOMEM;
		got = RETRY(read(input, reply->data + reply->len, 4096));
		if (got < 0)
			return -errno;
		if (got == 0)
			return 0;
		reply->len += (size_t)got;
		if (reply->len > GETENT_ANSWER_MAX)
			return -E2BIG;
	}
}

int host_getent(const char *database, const char *key, struct host_reply *reply)
{
	static const char *const databases[] = {"passwd", "group", "initgroups"};
	cleanup_fd int input = -1;
	cleanup_fd int output = -1;
	int ends[2], status = 0, error;
	pid_t pid, ended;
	bool known = false;

	for (size_t i = 0; i < ARRAY_LEN(databases); i++)
		known = known || strcmp(database, databases[i]) == 0;
	if (!known || *key == '\0')
		return -EINVAL;
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	input = ends[0];
	output = ends[1];
	error = spawn_getent(database, key, output, &pid);
	if (error != 0)
		return error == -ENOENT ? -ENOSYS : error;
	close_fd(&output);

	error = collect(input, reply);
	if (error != 0)
		kill(pid, SIGKILL);
	ended = RETRY(waitpid(pid, &status, 0));
	if (error != 0)
		return error;
	/* With SIGCHLD ignored (inherited) the status is gone: the answer then speaks for itself. */
	if (ended == pid && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return WIFEXITED(status) && WEXITSTATUS(status) == 2 ? -ENOENT : -EIO;
	return reply->len == 0 ? -ENOENT : 0;
}
