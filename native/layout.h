/* Runs of one scope that have the same mounted share one mount namespace, which the first of them has made (native/server_layouts.c keeps it). */
#ifndef TSRUN_LAYOUT_H
#define TSRUN_LAYOUT_H

#include "run_state.h"

/* What the run has mounted, as bytes that are equal for another run when the mounts are: for struct server_request. Once the sources have been looked at. None when
 * the mounts are this run's only, or cannot be told well enough. *bytes is to be freed. *base: so many of them, the first, say all but what is the call's own, which can be
 * mounted in a root that has the rest (spare.h); 0: it cannot. */
size_t layout_of(const struct run *run, void **bytes, size_t *base);

/* The other way round, for who makes such a root: plan and sources of a base. */
int WARN_UNUSED layout_read_base(const char *bytes, size_t len, struct run *run, struct plan *plan, struct err *err);

/* A mount of this call that others do not have. */
bool layout_is_own(const struct op *op);

/* Before the run leaves the caller's mount namespace: prepares for others to enter the one it makes, when they want to. */
void layout_begin(struct run *run);

/* In the run's own mount namespace: leaves it to the server at once, unless it is to be finished first. */
void layout_unshared(struct run *run);

/* What the server has answered is of no use: lets go of all of it, and of what was to be left to the server. */
void layout_give_up(struct run *run);

/* Once all is mounted and the new root is the process's: lets others in. */
int WARN_UNUSED layout_finish(struct run *run, struct err *err);

/* Enters the finished namespace that the server has given. -errno: it cannot be entered. */
int WARN_UNUSED layout_enter(struct run *run);

#endif
