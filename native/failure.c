#include "failure.h"

#include <stdio.h>
#include <string.h>

static void write_text(const char *text)
{
	/* One write, so that the lines of many ranks do not mix. */
	(void)!write(STDERR_FILENO, text, strlen(text));
}

int failure_plain(const struct err *err, const char *code)
{
	char text[sizeof err->step + sizeof err->detail + 256];

	snprintf(text, sizeof text, "tsrun: cannot %s: %s%s%s (%s)\n", err->step, err->detail, err->errnum != 0 ? ": " : "",
	         err->errnum != 0 ? strerror(err->errnum) : "", code);
	write_text(text);
	return 125;
}

/* Asks the planner for the words. -errno when it has none. */
static int ask(struct engine *engine, const struct failure *failure)
{
	char question[sizeof failure->err.step + sizeof failure->err.detail + 128];
	int len = snprintf(question, sizeof question, "%zu%c%s%c%d%c%s%c%s%c", failure->index, 0, op_name(failure->op), 0, failure->err.errnum, 0,
	                   failure->err.step, 0, failure->err.detail, 0);
	cleanup_free char *bytes = NULL;
	struct answer answer;
	size_t size;
	int status, result = engine_call(engine, "tsrunFailure", question, (size_t)len, &bytes, &size, NULL);

	if (result == 0)
		result = answer_read(bytes, size, &answer, NULL);
	if (result < 0)
		return result;
	status = answer.kind == ANSWER_FAIL ? answer.status : -EPROTO;
	if (status >= 0)
		write_text(answer.text);
	answer_free(&answer);
	return status;
}

int failure_report(struct engine *engine, const struct failure *failure)
{
	int status = engine == NULL ? -ENOSYS : ask(engine, failure);

	if (status >= 0)
		return status;
	struct err plain = failure->err;

	/* What keeps a program from running is in the detail already. */
	if (failure->op == OP_exec)
		plain.errnum = 0;
	failure_plain(&plain, "E_LAUNCH");
	return failure_status(failure);
}
