#include "plan.h"

#include <limits.h>
#include <stdint.h>
#include <string.h>

#define STEP "read the plan"

struct op_shape {
	const char *name;
	char kinds[PLAN_MAX_FIELDS + 1];
};

/* What plan.def says of each op: its name, and the kind and name of each field. */
static const struct op_shape shapes[OP_COUNT] = {
#define S(field) 'S'
#define P(field) 'P'
#define T(field) 'T'
#define N(field) 'N'
#define F(field) 'F'
#define H(field) 'H'
#define OP(op, ...) [OP_##op] = {.name = #op, .kinds = {__VA_ARGS__}},
#include "plan.def"
};
#undef S
#undef P
#undef T
#undef N
#undef F
#undef H
static const char *const field_names[OP_COUNT][PLAN_MAX_FIELDS + 1] = {
#define S(field) #field
#define P(field) #field
#define T(field) #field
#define N(field) #field
#define F(field) #field
#define H(field) #field
#define OP(op, ...) [OP_##op] = {__VA_ARGS__},
#include "plan.def"
};

static const struct {
	enum op_kind op;
	const char *word;
} flag_words[FLAG_COUNT] = {
#define FLAG(op_, word_) {.op = OP_##op_, .word = #word_},
#include "plan.def"
};
_Static_assert(FLAG_COUNT <= 32, "flags are bits of an enum");
_Static_assert(sizeof(uintptr_t) == sizeof(uint64_t), "every field is eight bytes wide");

/* Numbers that have a tighter bound than 2^63 - 1. */
static const struct {
	const char *field;
	uint64_t max;
} number_limits[] = {
	{"mode", 07777},
	{"uid", UINT32_MAX - 1},
	{"gid", UINT32_MAX - 1},
	{"linger_ms", INT32_MAX},
};

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
	[OP_env] = PAYLOAD, [OP_arg] = PAYLOAD,
	[OP_exec] = EXEC,
};

struct reader {
	const char *at;
	const char *end;
};

const char *op_name(enum op_kind kind)
{
	return (unsigned)kind < OP_COUNT ? shapes[kind].name : "?";
}

/* The next string, or NULL at the end. The buffer ends with NUL, so every string does. */
static const char *next_string(struct reader *reader)
{
	const char *string = reader->at;

	if (string == reader->end)
		return NULL;
	reader->at += strlen(string) + 1;
	return string;
}

static bool read_number(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || mul_overflows(value, 10, &value) || add_overflows(value, (uint64_t)(*text - '0'), &value))
			return false;
	}
	*out = value;
	return value <= max;
}

static uint64_t number_limit(const char *field)
{
	for (size_t i = 0; i < ARRAY_LEN(number_limits); i++) {
		if (strcmp(field, number_limits[i].field) == 0)
			return number_limits[i].max;
	}
	return INT64_MAX;
}

static bool read_flags(enum op_kind op, const char *text, uint64_t *out)
{
	uint64_t flags = 0;

	while (*text != '\0') {
		size_t len = strcspn(text, ",");
		size_t i = 0;

		while (i < FLAG_COUNT && !(flag_words[i].op == op && strlen(flag_words[i].word) == len && strncmp(flag_words[i].word, text, len) == 0))
			i++;
		if (i == FLAG_COUNT || (flags & (1u << i)) != 0)
			return false;
		flags |= 1u << i;
		text += len;
		if (*text == ',' && *++text == '\0')
			return false;
	}
	*out = flags;
	return true;
}

/* Absolute, no "." or "..", no empty component, nothing longer than the kernel takes. */
static bool is_clean_path(const char *path)
{
	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return false;
	if (path[1] == '\0')
		return true;
	while (*path == '/') {
		size_t len = strcspn(++path, "/");

		if (len == 0 || len > NAME_MAX || (len == 1 && path[0] == '.') || (len == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		path += len;
	}
	return true;
}

static bool is_host_path(const char *path)
{
	return path[0] == '/' && strlen(path) < PATH_MAX;
}

/* Reads one field into `slot`; returns what was expected instead, or NULL. */
static const char *read_field(enum op_kind op, size_t i, const char *text, uint64_t *slot)
{
	*slot = (uintptr_t)text;
	switch (shapes[op].kinds[i]) {
	case 'S':
		return NULL;
	case 'P':
		return is_host_path(text) || (text[0] == '\0' && shapes[op].kinds[0] == 'H') ? NULL : "an absolute path";
	case 'T':
		return is_clean_path(text) ? NULL : "an absolute path without . and ..";
	case 'N':
		return read_number(text, number_limit(field_names[op][i]), slot) ? NULL : "a number in range";
	case 'F':
		return read_flags(op, text, slot) ? NULL : "flags of this op";
	case 'H':
		if (strcmp(text, "-1") != 0)
			return read_number(text, INT_MAX, slot) ? NULL : "a descriptor or -1";
		*slot = UINT64_MAX;
		return NULL;
	default:
		return "a known kind of field";
	}
}

const char *op_target(const struct op *op)
{
	const char *target = strchr(shapes[op->kind].kinds, 'T');

	return target == NULL ? NULL : (const char *)(uintptr_t)op->field[target - shapes[op->kind].kinds];
}

/* Whether `text` is `count`-tuples of ids, separated by one blank each. */
static bool is_ids(const char *text, unsigned multiple)
{
	unsigned count = 0;

	while (*text != '\0') {
		char number[16] = "";
		size_t len = strcspn(text, " ");
		uint64_t value;

		if (len == 0 || len >= sizeof number)
			return false;
		memcpy(number, text, len);
		if (!read_number(number, UINT32_MAX, &value) || ++count > PLAN_MAX_IDS)
			return false;
		text += len;
		if (*text == ' ' && *++text == '\0')
			return false;
	}
	return count % multiple == 0;
}

/* (The whole op, as its fields were filled through the union.) */
static const char *ranges_mistake(const struct op *op)
{
	const char *const programs[] = {op->userns_ranges.newuidmap, op->userns_ranges.newgidmap};
	const char *const maps[] = {op->userns_ranges.uid_map, op->userns_ranges.gid_map};

	for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
		if (programs[i][0] != '\0' && !is_host_path(programs[i]))
			return "the path of a program is not absolute";
		if (maps[i][0] == '\0' || !is_ids(maps[i], 3))
			return "a map is not triples of ids";
	}
	return NULL;
}

/* What one op alone can be wrong about, beyond its fields; NULL when nothing. */
static const char *op_mistake(const struct op *op)
{
	switch (op->kind) {
	case OP_userns_ranges:
		return ranges_mistake(op);
	case OP_ids:
		return is_ids(op->ids.groups, 1) ? NULL : "groups are not ids";
	case OP_unshare:
		if ((op->unshare.flags & FLAG_unshare_leash) != 0 && (op->unshare.flags & FLAG_unshare_pid) == 0)
			return "leash needs pid";
		return (op->unshare.flags & FLAG_unshare_mount) != 0 ? NULL : "mount is missing";
	case OP_image_mount:
		return op->image_mount.handle >= 0 || op->image_mount.path[0] != '\0' ? NULL : "neither descriptor nor path";
	case OP_image_extracted:
		if (op->image_extracted.directory[0] == '\0')
			return "no directory";
		return op->image_extracted.handle >= 0 || op->image_extracted.path[0] != '\0' ? NULL : "neither descriptor nor path";
	case OP_directory:
		return strcmp(op->directory.target, "/") != 0 ? NULL : "target is the root";
	case OP_owner:
		return strcmp(op->owner.target, "/") != 0 ? NULL : "target is the root";
	case OP_file:
		return strcmp(op->file.target, "/") != 0 ? NULL : "target is the root";
	case OP_symlink:
		if (op->symlink.link[0] == '\0' || strlen(op->symlink.link) >= PATH_MAX)
			return "empty or overlong link";
		return strcmp(op->symlink.target, "/") != 0 ? NULL : "target is the root";
	case OP_bind:
	case OP_bind_cwd:
	case OP_tmpfs:
	case OP_proc:
	case OP_sysfs:
	case OP_devpts:
	case OP_mqueue:
		return strcmp(op_target(op), "/") != 0 ? NULL : "target is the root";
	case OP_uncovered:
		return op_target(op)[1] != '\0' && strchr(op_target(op) + 1, '/') == NULL ? NULL : "target is not right below the root";
	case OP_env:
		return op->env.assignment[0] != '=' && strchr(op->env.assignment, '=') != NULL ? NULL : "not NAME=value";
	case OP_exec:
		return op->exec.file[0] != '\0' ? NULL : "no file";
	case OP_hostname:
		return op->hostname.name[0] != '\0' && strlen(op->hostname.name) <= 64 ? NULL : "empty or overlong name";
	default:
		return NULL;
	}
}

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
		return seen[OP_upper] ? "is there already" : NULL;
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

/* Order, exact counts, and what ops need of each other. */
static int check_order(const struct plan *plan, struct err *err)
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

static int append_op(struct plan *plan, size_t *capacity, const struct op *op)
{
	if (plan->count == *capacity) {
		size_t grown = *capacity == 0 ? 64 : *capacity * 2;
		struct op *ops = realloc(plan->ops, grown * sizeof *ops);

		if (ops == NULL)
			return -ENOMEM;
		plan->ops = ops;
		*capacity = grown;
	}
	plan->ops[plan->count++] = *op;
	return 0;
}

/* Looked for from the op before on (`*kind`): a plan has them nearly in the order of the table, many of a kind side by side. */
static bool find_op(const char *name, enum op_kind *kind)
{
	for (unsigned i = 0; i < OP_COUNT; i++) {
		unsigned at = (*kind + i) % OP_COUNT;

		if (strcmp(shapes[at].name, name) == 0) {
			*kind = (enum op_kind)at;
			return true;
		}
	}
	return false;
}

static int read_op(struct reader *reader, const char *name, struct plan *plan, size_t *capacity, struct err *err)
{
	struct op op = {.kind = plan->count > 0 ? plan->ops[plan->count - 1].kind : 0, .text = name};
	const char *mistake;

	if (!find_op(name, &op.kind))
		return fail(err, EPROTO, STEP, "op %zu: unknown op '%.40s'", plan->count, name);
	if (plan->count == PLAN_MAX_OPS)
		return fail(err, EPROTO, STEP, "more than %u ops", PLAN_MAX_OPS);
	for (size_t i = 0; shapes[op.kind].kinds[i] != '\0'; i++) {
		const char *text = next_string(reader);
		const char *expected = text == NULL ? "a field" : read_field(op.kind, i, text, &op.field[i]);

		if (expected != NULL)
			return fail(err, EPROTO, STEP, "op %zu (%s): %s is not %s: '%.200s'", plan->count, name, field_names[op.kind][i], expected,
			            text == NULL ? "" : text);
	}
	mistake = op_mistake(&op);
	if (mistake != NULL)
		return fail(err, EPROTO, STEP, "op %zu (%s): %s", plan->count, name, mistake);
	return append_op(plan, capacity, &op) < 0 ? fail(err, ENOMEM, STEP, "%zu ops", plan->count) : 0;
}

static int read_ops(struct reader *reader, struct plan *plan, struct err *err)
{
	size_t capacity = 0;
	const char *name;

	while ((name = next_string(reader)) != NULL) {
		if (strcmp(name, "end") == 0)
			return reader->at == reader->end ? check_order(plan, err) : fail(err, EPROTO, STEP, "bytes after its end");
		if (read_op(reader, name, plan, &capacity, err) < 0)
			return -err->errnum;
	}
	return fail(err, EPROTO, STEP, "it has no end");
}

int plan_read_part(const char *bytes, size_t len, struct plan *plan, struct err *err)
{
	struct reader reader = {.at = bytes, .end = bytes + len};
	size_t capacity = 0;
	const char *name;
	int result = 0;

	*plan = (struct plan){.ops = NULL};
	if (len == 0 || bytes[len - 1] != '\0')
		return fail(err, EPROTO, STEP, "its last string has no end");
	while (result == 0 && (name = next_string(&reader)) != NULL)
		result = read_op(&reader, name, plan, &capacity, err);
	if (result < 0) {
		free(plan->ops);
		*plan = (struct plan){.ops = NULL};
	}
	return result;
}

static int read_plan(struct reader *reader, struct answer *answer, struct err *err)
{
	const char *version = next_string(reader);
	uint64_t number;

	if (version == NULL || !read_number(version, UINT32_MAX, &number))
		return fail(err, EPROTO, STEP, "it has no version");
	if (number != PLAN_VERSION)
		return fail(err, EPROTO, STEP, "it has version %s, this launcher reads %d", version, PLAN_VERSION);
	return read_ops(reader, &answer->plan, err);
}

static int read_text_and_status(struct reader *reader, struct answer *answer, struct err *err)
{
	const char *status;
	uint64_t number;

	answer->text = next_string(reader);
	status = next_string(reader);
	if (status == NULL || !read_number(status, 255, &number) || reader->at != reader->end)
		return fail(err, EPROTO, STEP, "the planner's text has no proper status");
	answer->status = (int)number;
	return 0;
}

static int read_node(struct reader *reader, struct answer *answer, struct err *err)
{
	answer->node = next_string(reader);
	if (answer->node == NULL || (answer->node[0] != '\0' && !is_host_path(answer->node)))
		return fail(err, EPROTO, STEP, "the path of Node is not absolute");
	return 0;
}

/* The arguments may contain "end" themselves: the last string of all is the end. */
static int read_args(struct reader *reader, struct answer *answer, struct err *err)
{
	size_t count = 0;
	const char *last = "";

	for (struct reader ahead = *reader; ahead.at != ahead.end; count++)
		last = next_string(&ahead);
	if (strcmp(last, "end") != 0)
		return fail(err, EPROTO, STEP, "the arguments have no end");
	if (count > PLAN_MAX_OPS)
		return fail(err, EPROTO, STEP, "more than %u arguments", PLAN_MAX_OPS);
	answer->args = calloc(count, sizeof *answer->args);
	if (answer->args == NULL)
		return fail(err, ENOMEM, STEP, "%zu arguments", count);
	for (size_t i = 0; i + 1 < count; i++)
		answer->args[i] = (char *)(uintptr_t)next_string(reader);
	return 0;
}

static int read_kind(struct reader *reader, struct answer *answer, struct err *err)
{
	const char *kind = next_string(reader);
	int result;

	if (strcmp(kind, "plan") == 0) {
		answer->kind = ANSWER_PLAN;
		return read_plan(reader, answer, err);
	}
	if (strcmp(kind, "print") == 0 || strcmp(kind, "fail") == 0) {
		answer->kind = kind[0] == 'p' ? ANSWER_PRINT : ANSWER_FAIL;
		return read_text_and_status(reader, answer, err);
	}
	if (strcmp(kind, "node") == 0) {
		answer->kind = ANSWER_NODE;
		result = read_node(reader, answer, err);
		return result == 0 && reader->at != reader->end ? fail(err, EPROTO, STEP, "bytes after its end") : result;
	}
	if (strcmp(kind, "prepare") == 0) {
		answer->kind = ANSWER_PREPARE;
		result = read_node(reader, answer, err);
		return result == 0 ? read_args(reader, answer, err) : result;
	}
	return fail(err, EPROTO, STEP, "unknown answer '%.40s'", kind);
}

int answer_read(const char *bytes, size_t len, struct answer *answer, struct err *err)
{
	struct reader reader = {.at = bytes, .end = bytes + len};
	int result;

	memset(answer, 0, sizeof *answer);
	if (len > PLAN_MAX_BYTES)
		return fail(err, EPROTO, STEP, "%zu bytes are more than the limit of %u", len, PLAN_MAX_BYTES);
	if (len == 0 || bytes[len - 1] != '\0')
		return fail(err, EPROTO, STEP, "it does not end with NUL");
	result = read_kind(&reader, answer, err);
	if (result < 0)
		answer_free(answer);
	return result;
}

void answer_free(struct answer *answer)
{
	free(answer->plan.ops);
	free(answer->args);
	memset(answer, 0, sizeof *answer);
}
