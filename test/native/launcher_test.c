/* What a terminal, a shell and a batch system see of a run: signals, job control, exit status; in place and with a PID namespace. The image
 * is an empty directory with the host's own programs bound into it. */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pty.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../native/run.h"
#include "check.h"

#define PATIENCE_MS 20000

static char image[] = "/tmp/tsrun-launcher-XXXXXX";
static bool with_notice; /* a line on stderr just before the payload */

/* --- a plan that runs `sh -c SCRIPT` --- */

static size_t append(char *out, size_t at, const char *text)
{
	size_t len = strlen(text) + 1;

	memcpy(out + at, text, len);
	return at + len;
}

static size_t make_plan(char *out, bool own_pids, const char *script)
{
	static const char *const tops[] = {"/usr", "/bin", "/lib", "/lib64", "/dev"};
	char ids[2][16];
	size_t at = 0;

	snprintf(ids[0], sizeof ids[0], "%u", geteuid());
	snprintf(ids[1], sizeof ids[1], "%u", getegid());
	for (const char *const *each = (const char *const[]){"plan", "4", "userns", ids[0], ids[1], "image_directory", image, "unshare",
	                                                     own_pids ? "mount,pid" : "mount", "root", "", "0", NULL};
	     *each != NULL; each++)
		at = append(out, at, *each);
	for (size_t i = 0; i < ARRAY_LEN(tops); i++) {
		at = append(out, at, "bind");
		at = append(out, at, tops[i]);
		at = append(out, at, tops[i]);
		at = append(out, at, "optional,recursive,dev");
	}
	if (own_pids) {
		at = append(out, at, "proc");
		at = append(out, at, "/proc");
	}
	for (const char *const *each =
	         (const char *const[]){"pivot", "no_new_privs", with_notice ? "notice" : "chdir", with_notice ? "notice" : "/", "env", "PATH=/bin:/usr/bin", "arg", "sh", "arg", "-c", "arg", script, "exec", "/bin/sh", "end", NULL};
	     *each != NULL; each++)
		at = append(out, at, *each);
	return at;
}

/* As an ordinary user, when started by root. */
static void become_user(void)
{
	const struct passwd *user = getpwnam("nobody");

	if (geteuid() != 0 || user == NULL)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(user->pw_gid, user->pw_gid, user->pw_gid) < 0 || setresuid(user->pw_uid, user->pw_uid, user->pw_uid) < 0)
		_exit(90);
	prctl(PR_SET_DUMPABLE, 1);
}

static NORETURN void launch(bool own_pids, const char *script)
{
	char bytes[8192];
	struct answer answer;
	struct failure failure;

	become_user();
	if (answer_read(bytes, make_plan(bytes, own_pids, script), &answer, &failure.err) < 0)
		_exit(91);
	run_plan(&answer.plan, NULL, &failure);
	dprintf(STDERR_FILENO, "cannot %s: %s: %s\n", failure.err.step, failure.err.detail, strerror(failure.err.errnum));
	_exit(failure_status(&failure));
}

/* --- reading what comes, with patience --- */

struct reading {
	int fd;
	size_t len;
	char text[8192];
};

/* Reads until `expected` has come (NULL: until the end). */
static bool expect(struct reading *reading, const char *expected)
{
	for (;;) {
		struct pollfd ready = {.fd = reading->fd, .events = POLLIN};
		ssize_t got;

		reading->text[reading->len] = '\0';
		if (expected != NULL && strstr(reading->text, expected) != NULL)
			return true;
		if (poll(&ready, 1, PATIENCE_MS) <= 0) {
			fprintf(stderr, "waited in vain for '%s', got '%s'\n", expected == NULL ? "(end)" : expected, reading->text);
			return false;
		}
		got = read(reading->fd, reading->text + reading->len, sizeof reading->text - 1 - reading->len);
		if (got <= 0) {
			if (expected != NULL)
				fprintf(stderr, "no '%s' before the end, got '%s'\n", expected, reading->text);
			return expected == NULL;
		}
		reading->len += (size_t)got;
	}
}

static unsigned occurrences(const char *text, const char *word)
{
	unsigned count = 0;

	for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word))
		count++;
	return count;
}

/* --- a small shell on a terminal: runs one job in the foreground, says what becomes of it, continues it when it stops --- */

struct session {
	struct reading terminal;
	struct reading report;
	pid_t shell;
	pid_t job;
};

static NORETURN void shell(int report, bool own_pids, const char *script)
{
	pid_t job;
	int status;

	signal(SIGTTOU, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTSTP, SIG_IGN);
	job = fork();
	if (job == 0) {
		setpgid(0, 0);
		tcsetpgrp(STDIN_FILENO, getpid());
		signal(SIGTTOU, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGTSTP, SIG_DFL);
		close(report);
		launch(own_pids, script);
	}
	dprintf(report, "job %d\n", job);
	while (waitpid(job, &status, WUNTRACED) == job) {
		if (!WIFSTOPPED(status)) {
			dprintf(report, WIFSIGNALED(status) ? "signal %d\n" : "exit %d\n", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
			break;
		}
		dprintf(report, "stopped %d\n", WSTOPSIG(status));
		tcsetpgrp(STDIN_FILENO, job);
		kill(-job, SIGCONT);
	}
	_exit(0);
}

static struct session *open_session(bool own_pids, const char *script)
{
	static struct session session;
	int report[2];

	memset(&session, 0, sizeof session);
	if (pipe2(report, O_CLOEXEC) < 0)
		abort();
	session.shell = forkpty(&session.terminal.fd, NULL, NULL, NULL);
	if (session.shell < 0)
		abort();
	if (session.shell == 0) {
		close(report[0]);
		shell(report[1], own_pids, script);
	}
	close(report[1]);
	session.report.fd = report[0];
	if (expect(&session.report, "\n"))
		sscanf(session.report.text, "job %d", &session.job);
	return &session;
}

static void type(struct session *session, const char *keys)
{
	if (write(session->terminal.fd, keys, strlen(keys)) < 0)
		abort();
}

static void close_session(struct session *session)
{
	close(session->terminal.fd);
	close(session->report.fd);
	kill(session->shell, SIGKILL);
	waitpid(session->shell, NULL, 0);
}

static void on_a_terminal(bool own_pids)
{
	struct session *session = open_session(own_pids, "echo ready; exec sleep 1000");

	CHECK("a program runs on the terminal", expect(&session->terminal, "ready"));
	type(session, "\x03");
	CHECK("Ctrl-C ends it as SIGINT ends a program", expect(&session->report, "signal 2\n"));
	close_session(session);

	session = open_session(own_pids, "echo ready; exec cat");
	CHECK("cat runs", expect(&session->terminal, "ready"));
	type(session, "\x1a");
	CHECK("Ctrl-Z stops it for the shell", expect(&session->report, "stopped 20\n"));
	type(session, "abc\n");
	CHECK("continued, it reads on", expect(&session->terminal, "abc\r\nabc"));
	type(session, "\x1a");
	CHECK("and can be stopped again", expect(&session->report, "stopped 20\nstopped 20\n"));
	type(session, "\x04");
	CHECK("and ends with its own status", expect(&session->report, "exit 0\n"));
	close_session(session);

	session = open_session(own_pids, "trap 'echo got-int' INT; trap 'exit 5' TERM; echo ready; while :; do read x; done");
	CHECK("a program that catches runs", expect(&session->terminal, "ready"));
	type(session, "\x03");
	CHECK("Ctrl-C reaches it", expect(&session->terminal, "got-int"));
	kill(session->job, SIGTERM);
	CHECK("SIGTERM sent to the one process that a batch system knows reaches it", expect(&session->report, "exit 5\n"));
	CHECK("Ctrl-C came once", occurrences(session->terminal.text, "got-int") == 1);
	close_session(session);

	session = open_session(own_pids, "echo ready; kill -STOP $$; echo resumed; exit 3");
	CHECK("a program that stops itself is seen as stopped", expect(&session->report, "stopped 19\n"));
	CHECK("and resumes", expect(&session->terminal, "resumed") && expect(&session->report, "exit 3\n"));
	close_session(session);

	session = open_session(own_pids, "PS1='at''prompt> ' exec bash --norc --noprofile -i");
	CHECK("an interactive shell prompts", expect(&session->terminal, "atprompt> "));
	type(session, "sh -c 'trap \"echo con\"\"ted\" CONT; echo star\"\"ted; while :; do read x; done'\n");
	CHECK("a job of its own runs", expect(&session->terminal, "started"));
	type(session, "\x1a");
	CHECK("its jobs stop on Ctrl-Z", expect(&session->terminal, "Stopped"));
	type(session, "fg\n");
	CHECK("and come back", expect(&session->terminal, "conted"));
	session->terminal.len = 0;
	type(session, "\x03");
	expect(&session->terminal, "atprompt> ");
	type(session, "echo status $?\n");
	CHECK("and end on Ctrl-C", expect(&session->terminal, "status 130"));
	CHECK("while the shell was never stopped itself", strstr(session->report.text, "stopped") == NULL);
	type(session, "exit 9\n");
	CHECK("the shell's status comes out", expect(&session->report, "exit 9\n"));
	close_session(session);

	session = open_session(own_pids, "[ -t 0 ] && [ -t 2 ] && exec 3</dev/tty && echo on tty && exit 0");
	CHECK("the controlling terminal stays", expect(&session->terminal, "on tty") && expect(&session->report, "exit 0\n"));
	close_session(session);
}

/* --- without a terminal --- */

static pid_t start(bool own_pids, const char *script, struct reading *output)
{
	int out[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0 || (pid = fork()) < 0)
		abort();
	if (pid == 0) {
		dup2(out[1], STDOUT_FILENO);
		launch(own_pids, script);
	}
	close(out[1]);
	memset(output, 0, sizeof *output);
	output->fd = out[0];
	return pid;
}

static int status_of(bool own_pids, const char *script)
{
	struct reading output;
	int status = -1;
	pid_t pid = start(own_pids, script, &output);

	waitpid(pid, &status, 0);
	close(output.fd);
	return status;
}

static void ends_as_the_payload(bool own_pids)
{
	struct reading output;
	int status;
	pid_t pid;

	CHECK("exit 0", status_of(own_pids, "exit 0") == 0);
	CHECK("exit 255", status_of(own_pids, "exit 255") == 255 << 8);
	for (const int *sig = (const int[]){SIGKILL, SIGSEGV, SIGABRT, SIGTERM, SIGUSR1, 0}; *sig != 0; sig++) {
		char script[32];

		snprintf(script, sizeof script, "kill -%d $$", *sig);
		status = status_of(own_pids, script);
		CHECK(script, WIFSIGNALED(status) && WTERMSIG(status) == *sig);
		CHECK("no core of the launcher", own_pids ? !WCOREDUMP(status) : true);
	}
	pid = start(own_pids, "exec 1>&-; exec sleep 1000", &output);
	CHECK("nobody but the payload holds its output open", expect(&output, NULL));
	kill(pid, SIGTERM);
	CHECK("and a signal ends it", waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	close(output.fd);
}

/* A preparation that hangs (a full pipe here; a dead file server in life) is ended by a signal like any program. */
static void ends_before_the_payload(void)
{
	struct reading output;
	int full[2], status;
	pid_t pid;
	char *line = calloc(1, 65536);

	if (line == NULL || pipe2(full, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	while (write(full[1], line, 65536) > 0)
		;
	fcntl(full[1], F_SETFL, 0);
	free(line);
	with_notice = true;
	for (const int *sig = (const int[]){SIGTERM, SIGINT, SIGUSR1, 0}; *sig != 0; sig++) {
		int out[2];

		if (pipe2(out, O_CLOEXEC) < 0 || (pid = fork()) < 0)
			abort();
		if (pid == 0) {
			dup2(out[1], STDOUT_FILENO);
			dup2(full[1], STDERR_FILENO);
			launch(true, "exit 0");
		}
		close(out[1]);
		output = (struct reading){.fd = out[0]};
		kill(pid, *sig);
		CHECK("the run ends by the signal", waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == *sig);
		CHECK("and nothing of it is left", expect(&output, NULL));
		close(output.fd);
	}
	with_notice = false;
	close(full[0]);
	close(full[1]);
}

static void with_own_pids(void)
{
	struct reading output;
	int status;
	pid_t pid = start(true, "echo ready; exec sleep 1000", &output);

	CHECK("a run with its own PIDs starts", expect(&output, "ready"));
	kill(pid, SIGKILL);
	CHECK("it dies with its launcher", expect(&output, NULL));
	waitpid(pid, &status, 0);
	close(output.fd);

	pid = start(true, "(trap '' HUP TERM; sleep 1000) & echo left; exit 0", &output);
	CHECK("what the payload leaves behind ends with it", expect(&output, "left") && expect(&output, NULL));
	CHECK("its status is the payload's", waitpid(pid, &status, 0) == pid && status == 0);
	close(output.fd);

	pid = start(true, "for i in 1 2 3 4 5 6 7 8; do (sh -c 'exit 0' &) ; done; echo $$; for i in 1 2 3 4 5 6 7 8 9; do sh -c 'exit 4'; done; exit 4", &output);
	CHECK("the payload is the second process", expect(&output, "2\n"));
	CHECK("orphans are reaped while its own children are its own", waitpid(pid, &status, 0) == pid && status == 4 << 8);
	close(output.fd);

	signal(SIGCHLD, SIG_IGN);
	pid = fork();
	if (pid == 0)
		launch(true, "exit 6");
	signal(SIGCHLD, SIG_DFL);
	CHECK("an ignored SIGCHLD loses no status", waitpid(pid, &status, 0) == pid && status == 6 << 8);
}

int main(void)
{
#ifdef __SANITIZE_THREAD__
	SKIP("the launcher: it has no threads, and beside the thread sanitizer's own no process can enter a user namespace");
	return check_end();
#endif
	if (mkdtemp(image) == NULL || chmod(image, 0755) < 0)
		abort();
	ends_as_the_payload(false);
	ends_as_the_payload(true);
	with_own_pids();
	ends_before_the_payload();
	on_a_terminal(false);
	on_a_terminal(true);
	CHECK("nothing was made in the image", rmdir(image) == 0);
	return check_end();
}
