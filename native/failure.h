/* What the user is told when a run fails. The texts are the planner's; without it they are plain. */
#ifndef TSRUN_FAILURE_H
#define TSRUN_FAILURE_H

#include "engine/engine.h"
#include "run.h"

/* Writes to stderr what failed and returns the exit status. `engine` may be NULL. */
int failure_report(struct engine *engine, const struct failure *failure);

/* The same for what fails outside of a plan, under a stable code. */
int failure_plain(const struct err *err, const char *code);

#endif
