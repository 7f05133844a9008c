/* Carries out a plan: the one story of a run, from the caller's namespaces to exec. It decides nothing; what it may choose is how to do
 * the same on a kernel that lacks a call. */
#ifndef TSRUN_RUN_H
#define TSRUN_RUN_H

#include "plan.h"

/* Where a plan's kept descriptors come from: gives one away, or -EBADF. */
struct kept_files {
	int (*take)(void *context, int64_t handle);
	void *context;
};

/* err.step is one of a few fixed phrases ("find the source", "prepare the target", "open the target", "bind", "run the program", …), which the
 * planner may tell apart; err.detail names the object and, behind ": ", the cause where more is known than errno says. */
struct failure {
	size_t index; /* of the op that could not be carried out */
	enum op_kind op;
	struct err err;
};

/* Becomes the payload, in this process or (unshare pid) in a grandchild, this process then ending as that ends. Returns only on failure, perhaps
 * in a child, always in the process that has to tell the user. To be called with one thread. */
void run_plan(const struct plan *plan, const struct kept_files *files, struct failure *failure);

/* The exit status of a failure where the planner cannot be asked: 127 and 126 as shells have them, else 125. */
int failure_status(const struct failure *failure);

#endif
