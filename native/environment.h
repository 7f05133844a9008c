/* The payload's environment. */
#ifndef TSRUN_ENVIRONMENT_H
#define TSRUN_ENVIRONMENT_H

#include "plan.h"

/* What the plan gives, behind what it has passed of INHERITED: a list ended by NULL, to be freed, whose strings are those of both. NULL: memory ends. */
char **environment_of(const struct plan *plan, char *const *inherited);

#endif
