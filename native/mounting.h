/* What a run does in its own mount namespace: the image, content, the root and what is mounted in it. For struct run of run_state.h, which says where the
 * image comes from, what the sources are, and how the root is made. */
#ifndef TSRUN_MOUNTING_H
#define TSRUN_MOUNTING_H

#include "run_state.h"

/* The image's mount and a skeleton: run->root is then ready for content. Sets the umask to 0 (run->umask is what it was) and changes the working directory. */
int WARN_UNUSED mounting_begin(struct run *run, struct err *err);

/* What `root` begins with: makes the targets of all mounts that follow it in the skeleton. */
int WARN_UNUSED mounting_targets(struct run *run, struct err *err);

/* Carries out the op in hand, one of those from `unshare` to `pivot`. */
int WARN_UNUSED mounting_do(struct run *run, const struct op *op, struct err *err);

#endif
