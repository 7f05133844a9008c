/* A user namespace whose maps somebody else has to write: set-id programs of the host (shadow's newuidmap(1) and newgidmap(1)), or root. They do it from
 * outside, so children stay outside while this process goes in. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "userns.h"

#define STEP "enter a user namespace"
#define MAP_MAX 16384u

/* One child that writes one map once it is told to. */
struct map_writer {
	pid_t pid;
	int go;       /* a byte written here starts it; closed without one, it ends */
	int messages; /* what it says when it fails */
};
#define MAP_WRITER_NONE ((struct map_writer){.pid = -1, .go = -1, .messages = -1})

/* Lines of three numbers, as /proc/PID/uid_map takes them. */
static int write_map(const char *path, const char *map)
{
	char text[MAP_MAX];
	size_t len = strlen(map), blanks = 0;
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || len + 1 >= sizeof text)
		return fd < 0 ? -errno : -E2BIG;
	for (size_t i = 0; i < len; i++)
		text[i] = map[i] == ' ' && ++blanks % 3 == 0 ? '\n' : map[i];
	text[len] = '\n';
	return write_full(fd, text, len + 1);
}

/* The map's numbers become arguments. */
static NORETURN void exec_writer(const char *program, const char *pid, const char *map)
{
	static char *const no_environment[] = {NULL};
	char *argv[1024 + 3] = {(char *)(uintptr_t)program, (char *)(uintptr_t)pid};
	char words[MAP_MAX], *rest = words;
	size_t count = 2;

	if (snprintf(words, sizeof words, "%s", map) < (int)sizeof words) {
		while (count < ARRAY_LEN(argv) - 1 && rest != NULL)
			argv[count++] = strsep(&rest, " ");
		execve(program, argv, no_environment);
	}
	dprintf(STDERR_FILENO, "%s", strerror(errno));
	_exit(127);
}

static NORETURN void be_writer(int go, int messages, const char *program, const char *which, const char *map)
{
	char pid[24], path[64], byte;
	int result;

	snprintf(pid, sizeof pid, "%d", (int)getppid());
	if (RETRY(read(go, &byte, 1)) != 1)
		_exit(1);
	if (program[0] != '\0') {
		if (dup2(messages, STDERR_FILENO) < 0 || dup2(messages, STDOUT_FILENO) < 0)
			_exit(1);
		exec_writer(program, pid, map);
	}
	snprintf(path, sizeof path, "/proc/%s/%s", pid, which);
	result = write_map(path, map);
	if (result < 0)
		dprintf(messages, "%s", strerror(-result));
	_exit(result < 0);
}

static int start_writer(struct map_writer *writer, const char *program, const char *which, const char *map, struct err *err)
{
	int go[2], messages[2];

	if (pipe2(go, O_CLOEXEC) < 0)
		return fail(err, errno, STEP, "pipe");
	if (pipe2(messages, O_CLOEXEC) < 0) {
		close(go[0]);
		close(go[1]);
		return fail(err, errno, STEP, "pipe");
	}
	writer->pid = fork();
	if (writer->pid == 0) {
		close(go[1]);
		be_writer(go[0], messages[1], program, which, map);
	}
	writer->go = go[1];
	writer->messages = messages[0];
	close(go[0]);
	close(messages[1]);
	return writer->pid < 0 ? fail(err, errno, STEP, "fork") : 0;
}

static int finish_writer(struct map_writer *writer, const char *program, const char *which, const char *map, struct err *err)
{
	char text[256];
	size_t len = 0;
	ssize_t got;
	int status;

	if (RETRY(write(writer->go, "", 1)) < 0)
		return fail(err, errno, STEP, "start %s", program);
	while (len < sizeof text - 1 && (got = RETRY(read(writer->messages, text + len, sizeof text - 1 - len))) > 0)
		len += (size_t)got;
	/* A child whose end nobody wants to hear of (SIGCHLD ignored) cannot be waited for: then having said something is failing. */
	if (RETRY(waitpid(writer->pid, &status, 0)) < 0)
		status = (int)len;
	writer->pid = -1;
	if (status == 0)
		return 0;
	while (len > 0 && text[len - 1] == '\n')
		len--;
	return fail(err, EPERM, STEP, "%s%s write the %s \"%s\": %.*s", program, program[0] == '\0' ? "the launcher cannot" : " cannot", which, map, (int)len, text);
}

static void end_writer(struct map_writer *writer)
{
	close_fd(&writer->go);
	close_fd(&writer->messages);
	if (writer->pid > 0)
		(void)RETRY(waitpid(writer->pid, NULL, 0));
}

int userns_ranges(const char *newuidmap, const char *newgidmap, const char *uid_map, const char *gid_map, struct err *err)
{
	__attribute__((cleanup(end_writer))) struct map_writer uids = MAP_WRITER_NONE, gids = MAP_WRITER_NONE;
	int result = start_writer(&uids, newuidmap, "uid_map", uid_map, err);

	if (result == 0)
		result = start_writer(&gids, newgidmap, "gid_map", gid_map, err);
	if (result == 0 && unshare(CLONE_NEWUSER) < 0)
		result = fail(err, errno, STEP, "make one");
	if (result == 0)
		result = finish_writer(&uids, newuidmap, "uid_map", uid_map, err);
	if (result == 0)
		result = finish_writer(&gids, newgidmap, "gid_map", gid_map, err);
	return result;
}
