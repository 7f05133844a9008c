/* Reads what the planner answered (native/plan.def has the encoding) and rejects everything that is not exactly that: the reader is the
 * only door through which words become system calls. Strings of the result point into the caller's buffer. */
#ifndef TSRUN_PLAN_H
#define TSRUN_PLAN_H

#include "util.h"

#define PLAN_MAX_BYTES (16u << 20)
#define PLAN_MAX_OPS 100000u
#define PLAN_MAX_FIELDS 6
#define PLAN_MAX_IDS 1020u /* three in each of the 340 lines that a map may have; also more groups than anybody is in */

enum op_kind {
#define OP(name, ...) OP_##name,
#include "plan.def"
	OP_COUNT
};

enum flag_index {
#define FLAG(op, word) FLAG_INDEX_##op##_##word,
#include "plan.def"
	FLAG_COUNT
};
enum flag {
#define FLAG(op, word) FLAG_##op##_##word = 1u << FLAG_INDEX_##op##_##word,
#include "plan.def"
};

/* One struct per op with its fields by name: every field is eight bytes wide, so the reader can fill them by position. */
#define S(field) const char *field
#define P(field) const char *field
#define T(field) const char *field
#define N(field) uint64_t field
#define F(field) uint64_t field
#define H(field) int64_t field
#define FIELDS_1(a) a;
#define FIELDS_2(a, ...) a; FIELDS_1(__VA_ARGS__)
#define FIELDS_3(a, ...) a; FIELDS_2(__VA_ARGS__)
#define FIELDS_4(a, ...) a; FIELDS_3(__VA_ARGS__)
#define FIELDS_5(a, ...) a; FIELDS_4(__VA_ARGS__)
#define FIELDS_6(a, ...) a; FIELDS_5(__VA_ARGS__)
#define FIELDS_PICK(a, b, c, d, e, f, chosen, ...) chosen
#define FIELDS(...) FIELDS_PICK(__VA_ARGS__, FIELDS_6, FIELDS_5, FIELDS_4, FIELDS_3, FIELDS_2, FIELDS_1, )(__VA_ARGS__)
#define OP(name, ...) struct op_##name { FIELDS(__VA_ARGS__) };
#include "plan.def"
#undef S
#undef P
#undef T
#undef N
#undef F
#undef H

struct op {
	enum op_kind kind;
	const char *text; /* its strings; those of the next op follow */
	union {
		uint64_t field[PLAN_MAX_FIELDS];
#define OP(name, ...) struct op_##name name;
#include "plan.def"
	};
};

struct plan {
	struct op *ops;
	size_t count;
};

enum answer_kind { ANSWER_PLAN, ANSWER_PRINT, ANSWER_FAIL, ANSWER_NODE, ANSWER_PREPARE };

struct answer {
	enum answer_kind kind;
	struct plan plan;  /* ANSWER_PLAN */
	const char *text;  /* ANSWER_PRINT, ANSWER_FAIL */
	int status;        /* ANSWER_PRINT, ANSWER_FAIL: 0…255 */
	const char *node;  /* ANSWER_NODE, ANSWER_PREPARE: a path, or "" where the launcher has to look */
	char **args;       /* ANSWER_PREPARE: ended by NULL */
};

/* The name of an op as in plan.def. */
const char *op_name(enum op_kind kind);

/* The op's target path inside the run, NULL for ops that have none. */
const char *op_target(const struct op *op);

/* Reads LEN bytes of an answer. On success `answer` refers to BYTES and is released with answer_free; -EPROTO with a reason otherwise. */
int WARN_UNUSED answer_read(const char *bytes, size_t len, struct answer *answer, struct err *err);
void answer_free(struct answer *answer);

/* Reads ops that were part of a plan, and are no whole one: each for itself is as it should be. On success plan->ops is to be freed. */
int WARN_UNUSED plan_read_part(const char *bytes, size_t len, struct plan *plan, struct err *err);

#endif
