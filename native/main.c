/* tsrun: asks the planner what to do and does it. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "engine/engine.h"
#include "failure.h"
#include "init.h"
#include "node.h"
#include "plan.h"
#include "role.h"
#include "run.h"
#include "server.h"

/* What the planner is told when it is asked again. */
#define NO_FUSE "nofuse"

static int take_kept(void *engine, int64_t handle)
{
	return engine_take_fd(engine, handle);
}

/* A plan from a descriptor refers to descriptors that were inherited with it. */
static int take_inherited(void *context UNUSED, int64_t handle)
{
	int inherited = (int)handle;
	int fd = inherited > STDERR_FILENO ? fcntl(inherited, F_DUPFD_CLOEXEC, 3) : -1;

	if (fd < 0)
		return -EBADF;
	close(inherited);
	return fd;
}

static int print(const struct answer *answer, int fd)
{
	return write_full(fd, answer->text, strlen(answer->text)) < 0 && answer->status == 0 ? 125 : answer->status;
}

static int run(const struct plan *plan, const struct kept_files *files, struct engine *engine)
{
	struct failure failure;

	run_plan(plan, files, &failure);
	return failure_report(engine, &failure);
}

/* --- @plan FD [PARENT]: an encoded answer made elsewhere, by a process that the launcher is not to outlive --- */

static int take_number(const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);

	return *text == '\0' || *end != '\0' || number < 0 || number > INT32_MAX ? -1 : (int)number;
}

static int read_all(int fd, char **bytes, size_t *len, struct err *err)
{
	size_t room = 0;

	for (*len = 0;;) {
		ssize_t got;

		if (*len == room) {
			char *grown = realloc(*bytes, room = room == 0 ? 1u << 16 : room * 2);

			if (grown == NULL)
				return fail(err, ENOMEM, "read the plan", "%zu bytes", room);
			*bytes = grown;
		}
		got = RETRY(read(fd, *bytes + *len, room - *len));
		if (got < 0)
			return fail(err, errno, "read the plan", "descriptor %d", fd);
		if (got == 0)
			return 0;
		*len += (size_t)got;
		if (*len > PLAN_MAX_BYTES)
			return fail(err, EFBIG, "read the plan", "more than %u bytes", PLAN_MAX_BYTES);
	}
}

static int plan_main(int argc, char **argv)
{
	const struct kept_files files = {.take = take_inherited};
	struct err err = {0};
	struct answer answer;
	char *bytes = NULL;
	size_t len;
	int fd = argc == 2 || argc == 3 ? take_number(argv[1]) : -1, parent = argc == 3 ? take_number(argv[2]) : 0;

	if (fd < 0 || parent < 0) {
		fail(&err, 0, "read the plan", "usage: tsrun @plan FD [PARENT]");
		return failure_plain(&err, "E_PLAN");
	}
	/* Until the plan's own leash, which entering a user namespace does not undo. Who has died already is not the parent any more. */
	if (parent > 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
		return 125;
	/* What the builder was started with is nothing that a step's program should find: beside the plan it is given what it needs as descriptor 4. */
	if (parent > 0)
		close_all_but((int[]){STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, fd, 4}, 5);
	if (read_all(fd, &bytes, &len, &err) < 0 || answer_read(bytes, len, &answer, &err) < 0)
		return failure_plain(&err, "E_PLAN");
	close(fd);
	switch (answer.kind) {
	case ANSWER_PLAN:
		return run(&answer.plan, &files, NULL);
	case ANSWER_PRINT:
		return print(&answer, STDOUT_FILENO);
	case ANSWER_FAIL:
		return print(&answer, STDERR_FILENO);
	case ANSWER_NODE:
	case ANSWER_PREPARE:
		break;
	}
	fail(&err, EPROTO, "read the plan", "descriptor %d holds no plan", fd);
	return failure_plain(&err, "E_PLAN");
}

/* --- the planner's answer --- */

/* The kernel refuses the mount that the plan counts on (a container around, a security module): the planner knows a way without. Not where there is too
 * little of something just now: the other way needs more of it. */
static bool is_without_fuse(const struct failure *failure)
{
	int why = failure->err.errnum;

	return failure->op == OP_image_mount && strcmp(failure->err.step, SERVER_STEP_FUSE) == 0 && why != EMFILE && why != ENFILE && why != ENOMEM;
}

/* Returns an exit status, or -1 to ask again with `*input`. */
static int follow(const struct answer *answer, struct engine *engine, char **argv, char **envp, const char **input)
{
	const struct kept_files files = {.take = take_kept, .context = engine};
	struct failure failure;
	struct err err = {0};
	int status;

	switch (answer->kind) {
	case ANSWER_PLAN:
		run_plan(&answer->plan, &files, &failure);
		if (!is_without_fuse(&failure) || strcmp(*input, NO_FUSE) == 0)
			return failure_report(engine, &failure);
		*input = NO_FUSE;
		return -1;
	case ANSWER_PRINT:
		return print(answer, STDOUT_FILENO);
	case ANSWER_FAIL:
		return print(answer, STDERR_FILENO);
	case ANSWER_NODE:
		node_exec(answer->node, argv + 1, envp, &err);
		return failure_plain(&err, "E_NODE");
	case ANSWER_PREPARE:
		if (**input != '\0') {
			fail(&err, ELOOP, "prepare the run", "the planner asked for it twice");
			return failure_plain(&err, "E_PLAN");
		}
		status = node_run(answer->node, answer->args, envp, &err);
		*input = "prepared";
		return status < 0 ? failure_plain(&err, "E_NODE") : status == 0 ? -1 : status;
	}
	return 125;
}

/* Built without the engine: the same planner runs in Node, which calls this program back with `@plan`. */
static NOINLINE int plan_in_node(int argc, char **argv, char **envp, struct err *err)
{
	char role[] = "__launch", self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
	cleanup_free char **args = calloc((size_t)argc + 2, sizeof *args);

	if (len < 0 || args == NULL)
		return fail(err, len < 0 ? errno : ENOMEM, "start Node", "/proc/self/exe");
	self[len] = '\0';
	args[0] = role;
	args[1] = self;
	memcpy(args + 2, argv + 1, (size_t)(argc - 1) * sizeof *args);
	return node_exec("", args, envp, err);
}

static int planner_main(int argc, char **argv, char **envp)
{
	struct host host = {.argc = argc, .argv = argv, .envp = envp};
	struct host_ops ops = host_ops_of(&host);
	struct engine *engine;
	struct err err = {0};
	const char *input = "";
	int status = engine_start(&engine, &ops, &err);

	if (status == -ENOSYS) {
		plan_in_node(argc, argv, envp, &err);
		return failure_plain(&err, "E_NODE");
	}
	if (status < 0)
		return failure_plain(&err, "E_ENGINE");
	do {
		struct answer answer;
		char *bytes;
		size_t len;

		if (engine_call(engine, "tsrunStart", input, strlen(input), &bytes, &len, &err) < 0)
			return failure_plain(&err, "E_ENGINE");
		if (answer_read(bytes, len, &answer, &err) < 0)
			return failure_plain(&err, "E_PLAN");
		status = follow(&answer, engine, argv, envp, &input);
		answer_free(&answer);
		free(bytes);
	} while (status < 0);
	return status;
}

/* Where the caller closed one of 0, 1 and 2, nothing of ours must take its place; the payload finds it closed again. */
static void fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", O_RDWR | O_CLOEXEC);
	}
}

int main(int argc, char **argv, char **envp)
{
	int status;

	fill_standard_descriptors();
	if (argc > 1 && strcmp(argv[1], "@plan") == 0)
		return plan_main(argc - 1, argv + 1);
	status = argc > 1 ? role_main(argc - 1, argv + 1) : -1;
	if (status >= 0)
		return status;
	return argc > 0 ? planner_main(argc, argv, envp) : 125;
}
