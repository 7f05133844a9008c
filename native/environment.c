#include "environment.h"

#include <string.h>

#include "names.h"

/* Names with a '=' between them. */
static size_t count_names(const char *text)
{
	size_t count = 1;

	while ((text = strchr(text, '=')) != NULL) {
		text++;
		count++;
	}
	return count;
}

static void add_names(struct names *names, const char *text)
{
	for (; text != NULL; text = strchr(text, '=')) {
		text += *text == '=';
		names_add(names, text);
	}
}

/* Appends what `environ` passes; the first of a name counts, as it does for getenv. */
static int pass(const struct plan *plan, const char *left_out, size_t given, char *const *inherited, size_t count, char **out)
{
	struct names names;
	int result = names_make(&names, given + count_names(left_out) + count);
	cleanup_free const char **slots = names.slots;

	if (result < 0)
		return result;
	add_names(&names, left_out);
	for (size_t i = 0; i < plan->count; i++) {
		if (plan->ops[i].kind == OP_env)
			names_add(&names, plan->ops[i].env.assignment);
	}
	for (size_t i = 0; i < count; i++) {
		if (is_assignment(inherited[i]) && names_add(&names, inherited[i]))
			*out++ = inherited[i];
	}
	return 0;
}

char **environment_of(const struct plan *plan, char *const *inherited)
{
	const char *left_out = NULL;
	size_t given = 0, count = 0, at = 0;
	char **all;

	for (size_t i = 0; i < plan->count; i++) {
		if (plan->ops[i].kind == OP_environ)
			left_out = plan->ops[i].environ.left_out;
		given += plan->ops[i].kind == OP_env;
	}
	while (left_out != NULL && inherited[count] != NULL)
		count++;
	all = calloc(given + count + 1, sizeof *all);
	if (all == NULL)
		return NULL;
	if (left_out != NULL && pass(plan, left_out, given, inherited, count, all) < 0) {
		free(all);
		return NULL;
	}
	while (all[at] != NULL)
		at++;
	for (size_t i = 0; i < plan->count; i++) {
		if (plan->ops[i].kind == OP_env)
			all[at++] = (char *)(uintptr_t)plan->ops[i].env.assignment;
	}
	return all;
}
