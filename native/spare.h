/* Roots made ahead. Calls that differ in a bind or two (each job its own directory) share no finished mount namespace, but most of what they have mounted. So once a scope
 * has seen such calls, its server keeps a root ready in which all is mounted that they have in common, the base of their layouts; who gets it attaches it, adds its own
 * and has a layout of its own, as if it had mounted everything itself. What does not fit is mounted the long way: links on the way to a target, something else mounted
 * there, a directory of the image that is not empty. */
#ifndef TSRUN_SPARE_H
#define TSRUN_SPARE_H

#include "util.h"

struct run; /* of run_state.h */

/* In the run's own mount namespace: makes the root that the server has given the run's, and has the ops that it holds left out. -errno: it does not fit, or
 * cannot be had, and nothing has happened. */
int WARN_UNUSED spare_enter(struct run *run);

/* How they are made: in a copy of a mount namespace that was copied from the caller's (`view` is that one's "/"), as the base of a layout says. */
struct spare_order {
	const char *base;
	size_t base_len;
	int namespace, view;
	int image;   /* its mount, which can be cloned where it is … */
	bool image_is_own; /* … or only once it is attached */
	int channel; /* a byte for each that is wanted; the answer is a struct spare_answer, beside it the root */
};
struct spare_answer {
	int rc; /* 0, or a negative errno */
	struct err err;
};
/* In a process of the server's, in its user namespace; it may wait for the process that serves the image, so nobody is to wait for it. Ends when nobody can ask any more, or
 * after an answer that is a failure. */
NORETURN void spare_main(const struct spare_order *order);

#endif
