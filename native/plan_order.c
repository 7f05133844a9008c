/* Whether the ops of a plan come in the right order, and have what they need of each other. */
#include "plan_internal.h"

/* The order of a plan: stages never go back, and `once` ones are there exactly once. */
enum stage { USERNS, BEFORE_IMAGE, IMAGE, LAYERS, UNSHARE, SKELETON, ROOT, UNCOVERED, MOUNTS, PIVOT, SETTLE, PAYLOAD, EXEC, STAGE_COUNT };
static const char *const stage_names[STAGE_COUNT] = {
	"scope or userns", "what an image mount needs", "image", "layer", "unshare", "skeleton", "root", "uncovered", "mount", "pivot", "setting", "env or arg", "exec"};
static const bool stage_once[STAGE_COUNT] = {
	[USERNS] = true, [IMAGE] = true, [UNSHARE] = true, [ROOT] = true, [PIVOT] = true, [EXEC] = true};
static const enum stage stages[OP_COUNT] = {
	[OP_scope] = USERNS, [OP_userns] = USERNS, [OP_userns_ranges] = USERNS,
	[OP_record] = BEFORE_IMAGE, [OP_hot] = BEFORE_IMAGE, [OP_stage] = BEFORE_IMAGE,
	[OP_image_mount] = IMAGE, [OP_image_directory] = IMAGE, [OP_image_extracted] = IMAGE,
	[OP_layer] = LAYERS, [OP_upper] = LAYERS,
	[OP_unshare] = UNSHARE,
	[OP_directory] = SKELETON, [OP_file] = SKELETON, [OP_symlink] = SKELETON, /* or MOUNTS, after root */
	[OP_root] = ROOT,
	[OP_uncovered] = UNCOVERED,
	[OP_owner] = MOUNTS,
	[OP_bind] = MOUNTS, [OP_bind_cwd] = MOUNTS, [OP_tmpfs] = MOUNTS, [OP_proc] = MOUNTS, [OP_sysfs] = MOUNTS,
	[OP_devpts] = MOUNTS, [OP_mqueue] = MOUNTS,
	[OP_pivot] = PIVOT,
	[OP_hostname] = SETTLE, [OP_no_new_privs] = SETTLE, [OP_owners] = SETTLE, [OP_ids] = SETTLE, [OP_notice] = SETTLE, [OP_chdir] = SETTLE,
	[OP_environ] = PAYLOAD, [OP_env] = PAYLOAD, [OP_arg] = PAYLOAD,
	[OP_exec] = EXEC,
};

/* Why a root cannot be made as `flags` say of what comes before it; NULL when it can. */
static const char *root_mistake(uint64_t flags, const bool *seen)
{
	bool in_place = (flags & FLAG_root_in_place) != 0, writable = (flags & FLAG_root_writable) != 0;

	if (in_place && (!seen[OP_image_directory] || seen[OP_layer] || seen[OP_upper] || writable))
		return "in_place is for an image_directory alone";
	if (writable && seen[OP_upper])
		return "writable and upper exclude each other";
	if ((flags & FLAG_root_suid) != 0 && !seen[OP_userns_ranges])
		return "suid needs userns_ranges";
	return NULL;
}

/* What `op` lacks among the ops before it; NULL when nothing. */
static const char *missing_before(const struct op *op, const bool *seen, uint64_t unshared)
{
	switch (op->kind) {
	case OP_image_mount:
		return seen[OP_scope] ? NULL : "needs a scope";
	case OP_layer:
		return seen[OP_upper] ? "has to come before upper" : NULL;
	case OP_upper:
	case OP_environ:
		return seen[op->kind] ? "is there already" : NULL;
	case OP_root:
		return root_mistake(op->root.flags, seen);
	case OP_hostname:
		return (unshared & FLAG_unshare_uts) != 0 ? NULL : "needs unshare uts";
	case OP_owners:
		if (seen[OP_owners])
			return "is there already";
		return (unshared & FLAG_unshare_pid) != 0 ? NULL : "needs unshare pid";
	case OP_ids:
	case OP_owner:
		return seen[OP_userns_ranges] ? NULL : "needs userns_ranges";
	default:
		return NULL;
	}
}

int plan_check_order(const struct plan *plan, struct err *err)
{
	size_t seen[STAGE_COUNT] = {0};
	size_t args = 0;
	uint64_t unshared = 0;
	bool kinds[OP_COUNT] = {false};
	enum stage stage = USERNS;

	for (size_t i = 0; i < plan->count; i++) {
		const struct op *op = &plan->ops[i];
		enum stage next = stages[op->kind] == SKELETON && seen[ROOT] > 0 ? MOUNTS : stages[op->kind];
		const char *missing;

		if (next < stage)
			return fail(err, EPROTO, STEP, "op %zu (%s) comes after a later stage (%s)", i, op_name(op->kind), stage_names[stage]);
		for (enum stage skipped = stage; skipped < next; skipped++) {
			if (stage_once[skipped] && seen[skipped] == 0)
				return fail(err, EPROTO, STEP, "op %zu (%s) comes before any %s", i, op_name(op->kind), stage_names[skipped]);
		}
		if (stage_once[next] && seen[next] > 0)
			return fail(err, EPROTO, STEP, "op %zu (%s): there is already a %s", i, op_name(op->kind), stage_names[next]);
		stage = next;
		seen[stage]++;
		args += op->kind == OP_arg;
		if (op->kind == OP_unshare)
			unshared = op->unshare.flags;
		missing = missing_before(op, kinds, unshared);
		if (missing == NULL && stages[op->kind] == IMAGE && op->kind != OP_image_mount && seen[BEFORE_IMAGE] > 0)
			missing = "is no image mount, which the ops before it are for";
		if (missing != NULL)
			return fail(err, EPROTO, STEP, "op %zu (%s) %s", i, op_name(op->kind), missing);
		kinds[op->kind] = true;
	}
	if (seen[EXEC] != 1)
		return fail(err, EPROTO, STEP, "there is no exec at its end");
	if (args == 0)
		return fail(err, EPROTO, STEP, "there is no arg");
	return 0;
}
