/* An image copied to this node once, for all runs of a user there. */
#ifndef TSRUN_STAGED_H
#define TSRUN_STAGED_H

#include "util.h"

#define STAGED_STEP "copy the image to this node"

/* Returns a descriptor of the copy of file `image` at `path` (absolute), made by whoever comes first; others wait for it. The last component of `path` is "DEVICE-
 * INODE-…", which says which file it is of, and as it was when: copies in the same directory that are of an earlier state of the file, or that nobody has used for
 * long, are removed then. A copy appears complete or not at all; what an interrupted one left is removed by the next.
 * Where the image already lies in that file system (or, for `memory`, in memory) it is not copied: its own descriptor is returned.
 * -ENOSPC, -ENOMEM: it would not fit, which is known before anything is written. -EPERM: the directory is under somebody else's control.
 * -ESTALE: the image changed while it was copied. */
int WARN_UNUSED staged_file(int image, const char *path, bool memory, struct err *err);

#endif
