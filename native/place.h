/* Directories of this machine in which things are made once by whoever comes first, while others wait. */
#ifndef TSRUN_PLACE_H
#define TSRUN_PLACE_H

#include "util.h"

/* Opens the directory that `path` (absolute) lies in; it and its parents are made (0700) where they are missing. -EPERM when somebody else could put anything
 * in its place. `step` is for `err`. */
int WARN_UNUSED place_open_parent(const char *path, const char *step, struct err *err);
/* Takes the lock NAME.lock in directory `parent`, waiting in the kernel for whoever has it; returns its descriptor. A lock dies with its holder. `path` is for
 * `err`. */
int WARN_UNUSED place_lock(int parent, const char *name, const char *path, const char *step, struct err *err);
/* The same without waiting: -EAGAIN when somebody has it. */
int WARN_UNUSED place_try_lock(int parent, const char *name);
/* Whether `name` is still that of the open file. */
bool place_is_at(int fd, int parent, const char *name);

#endif
