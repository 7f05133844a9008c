/* Between the files that read plans. */
#ifndef TSRUN_PLAN_INTERNAL_H
#define TSRUN_PLAN_INTERNAL_H

#include "plan.h"

#define STEP "read the plan"

/* The name of field I of an op, as in plan.def; NULL behind the last. */
const char *plan_field_name(enum op_kind kind, size_t i);
/* Reads one field into SLOT; what was expected instead, or NULL. */
const char *plan_read_field(enum op_kind op, size_t i, const char *text, uint64_t *slot);
/* What one op alone can be wrong about, beyond its fields; NULL when nothing. */
const char *plan_op_mistake(const struct op *op);
/* Decimal, at most MAX. */
bool plan_read_number(const char *text, uint64_t max, uint64_t *out);
bool plan_is_host_path(const char *path);

/* Order, exact counts, and what ops need of each other. */
int WARN_UNUSED plan_check_order(const struct plan *plan, struct err *err);

#endif
