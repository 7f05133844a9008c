/* User namespaces: one of the run's own, or one that a server keeps. The process must have one thread. */
#ifndef TSRUN_USERNS_H
#define TSRUN_USERNS_H

#include <sys/types.h>

#include "util.h"

/* Enters a new one, in which the caller's effective ids appear as `uid` and `gid`. */
int WARN_UNUSED userns_new(uid_t uid, gid_t gid, struct err *err);
/* Enters a new one with several ids; the arguments are the fields of plan.def's userns_ranges. */
int WARN_UNUSED userns_ranges(const char *newuidmap, const char *newgidmap, const char *uid_map, const char *gid_map, struct err *err);
/* Enters the one behind a descriptor. */
int WARN_UNUSED userns_join(int fd, struct err *err);

#endif
