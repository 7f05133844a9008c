/* The plan reader on any bytes: what it accepts lies inside the buffer and keeps the promises that the launcher relies on. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../../native/layout.h"

static void need(bool holds)
{
	if (!holds)
		abort();
}

static void need_inside(const char *string, const uint8_t *data, size_t size)
{
	const uint8_t *at = (const uint8_t *)string;

	need(at >= data && at < data + size && strlen(string) < size);
}

static void check_plan(const struct plan *plan, const uint8_t *data, size_t size)
{
	size_t pivots = 0, roots = 0;

	need(plan->count > 0 && plan->count <= PLAN_MAX_OPS);
	need(plan->ops[0].kind == OP_scope || plan->ops[0].kind == OP_userns || plan->ops[0].kind == OP_userns_ranges);
	need(plan->ops[plan->count - 1].kind == OP_exec);
	for (size_t i = 0; i < plan->count; i++) {
		const struct op *op = &plan->ops[i];
		const char *target = op_target(op);

		need(op->kind < OP_COUNT);
		pivots += op->kind == OP_pivot;
		roots += op->kind == OP_root;
		if (target != NULL) {
			need_inside(target, data, size);
			need(target[0] == '/' && (target[1] != '\0' || op->kind == OP_chdir) && strstr(target, "//") == NULL && strstr(target, "/../") == NULL);
		}
		if (op->kind == OP_file)
			need_inside(op->file.content, data, size);
		if (op->kind == OP_bind)
			need(op->bind.source[0] == '/' && pivots == 0 && roots == 1);
		if (op->kind == OP_layer)
			need(op->layer.directory[0] == '/' && roots == 0);
		if (op->kind == OP_ids)
			need(strspn(op->ids.groups, "0123456789 ") == strlen(op->ids.groups));
		if (op->kind == OP_env)
			need(strchr(op->env.assignment, '=') != NULL);
	}
	need(pivots == 1 && roots == 1);
}

/* What a run may send the server in place of the base of its layout. */
static void read_base(const uint8_t *data, size_t size)
{
	struct plan plan = {.ops = NULL};
	struct run run = {.plan = &plan};
	struct err err = {0};

	if (layout_read_base((const char *)data, size, &run, &plan, &err) == 0)
		need(plan.count > 1 && plan.ops[0].kind == OP_unshare && plan.ops[plan.count - 1].kind == OP_pivot && run.sources != NULL);
	else
		need(err.errnum != 0 && err.detail[0] != '\0');
	free(run.sources);
	free(plan.ops);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct answer answer;
	struct err err = {0};

	read_base(data, size);

	if (answer_read((const char *)data, size, &answer, &err) < 0) {
		need(err.errnum != 0 && err.detail[0] != '\0' && answer.plan.ops == NULL && answer.args == NULL);
		return 0;
	}
	if (answer.kind == ANSWER_PLAN)
		check_plan(&answer.plan, data, size);
	if (answer.kind == ANSWER_PRINT || answer.kind == ANSWER_FAIL)
		need(answer.status >= 0 && answer.status <= 255);
	for (size_t i = 0; answer.kind == ANSWER_PREPARE && answer.args[i] != NULL; i++)
		need_inside(answer.args[i], data, size);
	answer_free(&answer);
	return 0;
}
