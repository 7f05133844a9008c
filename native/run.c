#include "run.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "environment.h"
#include "exec.h"
#include "layout.h"
#include "mounting.h"
#include "owners.h"
#include "run_state.h"

/* --- inside --- */

static int do_notice(const struct op_notice *op)
{
	const struct iovec line[] = {{(void *)(uintptr_t)op->text, strlen(op->text)}, {(char[]){"\n"}, 1}};

	/* A message that cannot be shown is no reason not to run. */
	(void)!writev(STDERR_FILENO, line, 2);
	return 0;
}

static int do_owners(const struct run *run, const struct op_owners *op, struct err *err)
{
	int listener = owners_install((op->flags & FLAG_owners_devices) != 0, err);
	int result;

	if (listener < 0)
		return listener == -ENOSYS ? 0 : listener;
	result = init_give_listener(&run->init, listener);
	close(listener);
	return result < 0 ? fail(err, -result, "take care of owners", "give the launcher the listener") : 0;
}

static NOINLINE int do_ids(const struct op_ids *op, struct err *err)
{
	gid_t groups[PLAN_MAX_IDS];
	size_t count = 0;

	for (const char *at = op->groups; *at != '\0';) {
		char *end;

		groups[count++] = (gid_t)strtoul(at, &end, 10);
		at = end + (*end == ' ');
	}
	if (setgroups(count, groups) < 0)
		return fail(err, errno, "take the ids", "groups %s", op->groups);
	if (setresgid((gid_t)op->gid, (gid_t)op->gid, (gid_t)op->gid) < 0)
		return fail(err, errno, "take the ids", "gid %llu", (unsigned long long)op->gid);
	if (setresuid((uid_t)op->uid, (uid_t)op->uid, (uid_t)op->uid) < 0)
		return fail(err, errno, "take the ids", "uid %llu", (unsigned long long)op->uid);
	return 0;
}

static int do_exec(struct run *run, const struct op_exec *op, struct err *err)
{
	size_t count = run->plan->count;
	cleanup_free char **args = calloc(count, sizeof *args), **envp = environment_of(run->plan, environ);
	size_t at = 0;
	int result;

	if (args == NULL || envp == NULL)
		return fail(err, ENOMEM, "run the program", "%zu ops", count);
	for (size_t i = 0; i < count; i++) {
		if (run->plan->ops[i].kind == OP_arg)
			args[at++] = (char *)(uintptr_t)run->plan->ops[i].arg.text;
	}
	umask(run->umask);
	if (run->own_pids && (result = init_fork_payload(&run->init, err)) < 0)
		return result;
	return payload_exec(op->file, args, envp, run->joined.ahead, err);
}

bool run_keeps_rights(const struct run *run)
{
	const struct op *op = &run->plan->ops[run->userns_index];

	if (op->kind == OP_userns_ranges || run->own_pids)
		return true;
	return (op->kind == OP_scope ? op->scope.uid : op->userns.uid) == 0;
}

static int enter_root(struct run *run, struct err *err)
{
	int result = root_enter(&run->root, run_keeps_rights(run), err);

	return result < 0 ? result : layout_finish(run, err);
}

static int carry_out(struct run *run, const struct op *op, struct err *err)
{
	if (run->sources[run->index].left_out)
		return 0;
	switch (op->kind) {
	case OP_scope:
	case OP_userns:
	case OP_userns_ranges:
		run->userns_index = run->index; /* entered with the other namespaces */
		return 0;
	case OP_record:
		run->record = op->record.path;
		return 0;
	case OP_hot:
		run->hot = &op->hot;
		return 0;
	case OP_stage:
		run->stage = &op->stage;
		return 0;
	case OP_image_mount:
		return enter_image_mount(run, &op->image_mount, err);
	case OP_image_directory:
		return enter_image_directory(run, op->image_directory.path, err);
	case OP_image_extracted:
		return enter_image_extracted(run, &op->image_extracted, err);
	case OP_layer:
	case OP_upper:
		return 0; /* collected by unshare */
	case OP_unshare:
		return enter_unshare(run, &op->unshare, err);
	case OP_directory:
	case OP_file:
	case OP_symlink:
	case OP_owner:
	case OP_root:
	case OP_uncovered:
	case OP_bind:
	case OP_bind_cwd:
	case OP_tmpfs:
	case OP_proc:
	case OP_sysfs:
	case OP_devpts:
	case OP_mqueue:
		return mounting_do(run, op, err);
	case OP_pivot:
		return enter_root(run, err);
	case OP_hostname:
		return sethostname(op->hostname.name, strlen(op->hostname.name)) < 0 ? fail(err, errno, "set the host name", "%s", op->hostname.name) : 0;
	case OP_no_new_privs:
		return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? fail(err, errno, "set no_new_privs", "prctl") : 0;
	case OP_owners:
		return do_owners(run, &op->owners, err);
	case OP_ids:
		return do_ids(&op->ids, err);
	case OP_notice:
		return do_notice(&op->notice);
	case OP_chdir:
		return chdir(op->chdir.path) < 0 ? fail(err, errno, "enter the directory", "%s", op->chdir.path) : 0;
	case OP_environ:
	case OP_env:
	case OP_arg:
		return 0; /* collected by exec */
	case OP_exec:
		return do_exec(run, &op->exec, err);
	case OP_COUNT:
		break;
	}
	return fail(err, EPROTO, "carry out the plan", "unknown op");
}

void run_plan(const struct plan *plan, const struct kept_files *files, struct failure *failure)
{
	struct run run = {.plan = plan, .files = files, .joined = SERVER_REPLY_NONE, .image = -1, .cwd = -ENOENT, .left = SERVER_LEFT_NONE, .root = ROOT_NONE, .owners = OWNERS_NONE};
	int result = 0;

	memset(failure, 0, sizeof *failure);
	run.sources = calloc(plan->count, sizeof *run.sources);
	if (run.sources == NULL)
		result = fail(&failure->err, ENOMEM, "carry out the plan", "%zu ops", plan->count);
	for (; result == 0 && run.index < plan->count; run.index++) {
		const struct op *op = &plan->ops[run.index];

		result = carry_out(&run, op, &failure->err);
		if (result < 0)
			break;
	}
	failure->index = run.index;
	failure->op = plan->ops[run.index].kind;
	free(run.sources);
	free(run.layers.lower);
	for (size_t i = 0; run.mounted != NULL && i < plan->count; i++)
		free(run.mounted[i].path);
	free(run.mounted);
}

int failure_status(const struct failure *failure)
{
	if (failure->op != OP_exec)
		return 125;
	if (failure->err.errnum == ENOENT)
		return 127;
	return failure->err.errnum == EACCES || failure->err.errnum == ENOEXEC ? 126 : 125;
}
