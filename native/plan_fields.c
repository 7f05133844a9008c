/* What each op of a plan is made of, and whether one is what it should be. */
#include "plan_internal.h"

#include <limits.h>
#include <string.h>

#include "names.h"

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

const char *op_name(enum op_kind kind)
{
	return (unsigned)kind < OP_COUNT ? shapes[kind].name : "?";
}

const char *plan_field_name(enum op_kind kind, size_t i)
{
	return field_names[kind][i];
}

bool plan_read_number(const char *text, uint64_t max, uint64_t *out)
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

bool plan_is_host_path(const char *path)
{
	return path[0] == '/' && strlen(path) < PATH_MAX;
}

const char *plan_read_field(enum op_kind op, size_t i, const char *text, uint64_t *slot)
{
	*slot = (uintptr_t)text;
	switch (shapes[op].kinds[i]) {
	case 'S':
		return NULL;
	case 'P':
		return plan_is_host_path(text) || (text[0] == '\0' && shapes[op].kinds[0] == 'H') ? NULL : "an absolute path";
	case 'T':
		return is_clean_path(text) ? NULL : "an absolute path without . and ..";
	case 'N':
		return plan_read_number(text, number_limit(field_names[op][i]), slot) ? NULL : "a number in range";
	case 'F':
		return read_flags(op, text, slot) ? NULL : "flags of this op";
	case 'H':
		if (strcmp(text, "-1") != 0)
			return plan_read_number(text, INT_MAX, slot) ? NULL : "a descriptor or -1";
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
		if (!plan_read_number(number, UINT32_MAX, &value) || ++count > PLAN_MAX_IDS)
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
		if (programs[i][0] != '\0' && !plan_is_host_path(programs[i]))
			return "the path of a program is not absolute";
		if (maps[i][0] == '\0' || !is_ids(maps[i], 3))
			return "a map is not triples of ids";
	}
	return NULL;
}

const char *plan_op_mistake(const struct op *op)
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
		return is_assignment(op->env.assignment) ? NULL : "not NAME=value";
	case OP_exec:
		return op->exec.file[0] != '\0' ? NULL : "no file";
	case OP_hostname:
		return op->hostname.name[0] != '\0' && strlen(op->hostname.name) <= 64 ? NULL : "empty or overlong name";
	default:
		return NULL;
	}
}
