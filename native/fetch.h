/* The process that fetches: an ordinary reader of an image's mount. FUSE gives the kernel no page but those that a program asks for; so this one asks, ahead of the programs, for what they will
 * want. What it waits for it waits for as any program does, and it can be killed. It is told what to ask for by the process that serves the image, over a socket, and has nothing but that and
 * the mount, which is its root. */
#ifndef TSRUN_FETCH_H
#define TSRUN_FETCH_H

#include "hot.h"

#include <sys/types.h>

struct imagefs_shared;

/* Asks for what `kind` says of the file at `path`, from the mount's root, in as many messages as it takes; `flags` of send(2). Returns whether all of them were taken. */
bool fetch_ask(int fetcher, int flags, enum hot_touch_kind kind, const char *path, uint64_t offset, uint64_t length);

/* The process itself, a child of `parent`, with CAP_SYS_CHROOT: makes what is asked for by `socket`, until that is closed. `mount` is the mount's root. */
NORETURN void fetching_main(pid_t parent, struct imagefs_shared *shared, int mount, int socket);

#endif
