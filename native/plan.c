#include "plan_internal.h"

#include <string.h>

struct reader {
	const char *at;
	const char *end;
};

/* The next string, or NULL at the end. The buffer ends with NUL, so every string does. */
static const char *next_string(struct reader *reader)
{
	const char *string = reader->at;

	if (string == reader->end)
		return NULL;
	reader->at += strlen(string) + 1;
	return string;
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

		if (strcmp(op_name(at), name) == 0) {
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
	for (size_t i = 0; plan_field_name(op.kind, i) != NULL; i++) {
		const char *text = next_string(reader);
		const char *expected = text == NULL ? "a field" : plan_read_field(op.kind, i, text, &op.field[i]);

		if (expected != NULL)
			return fail(err, EPROTO, STEP, "op %zu (%s): %s is not %s: '%.200s'", plan->count, name, plan_field_name(op.kind, i), expected,
			            text == NULL ? "" : text);
	}
	mistake = plan_op_mistake(&op);
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
			return reader->at == reader->end ? plan_check_order(plan, err) : fail(err, EPROTO, STEP, "bytes after its end");
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

	if (version == NULL || !plan_read_number(version, UINT32_MAX, &number))
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
	if (status == NULL || !plan_read_number(status, 255, &number) || reader->at != reader->end)
		return fail(err, EPROTO, STEP, "the planner's text has no proper status");
	answer->status = (int)number;
	return 0;
}

static int read_node(struct reader *reader, struct answer *answer, struct err *err)
{
	answer->node = next_string(reader);
	if (answer->node == NULL || (answer->node[0] != '\0' && !plan_is_host_path(answer->node)))
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
