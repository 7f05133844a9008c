/* tsrun built without an engine (make ENGINE=none): the launcher then runs the planner in Node. */
#include "engine.h"

static int none(struct err *err)
{
	return fail(err, ENOSYS, "start the planner's engine", "tsrun was built without it (ENGINE=none)");
}

int engine_start(struct engine **engine, const struct host_ops *host UNUSED, struct err *err)
{
	*engine = NULL;
	return none(err);
}

int engine_start_text(struct engine **engine, const struct host_ops *host UNUSED, const char *bundle UNUSED, size_t len UNUSED, const char *name UNUSED,
		      struct err *err)
{
	*engine = NULL;
	return none(err);
}

int engine_call(struct engine *engine UNUSED, const char *function UNUSED, const char *in UNUSED, size_t in_len UNUSED, char **out UNUSED,
		size_t *out_len UNUSED, struct err *err)
{
	return none(err);
}

void engine_limit_cpu(struct engine *engine UNUSED, unsigned int milliseconds UNUSED)
{
}

int engine_take_fd(struct engine *engine UNUSED, int64_t handle UNUSED)
{
	return -EBADF;
}

void engine_free(struct engine *engine UNUSED)
{
}
