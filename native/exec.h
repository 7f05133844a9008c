/* The last step: becoming the payload. */
#ifndef TSRUN_EXEC_H
#define TSRUN_EXEC_H

#include "util.h"

/* Replaces the process by FILE (looked for in the PATH of `envp` when it has no slash). Returns only on failure, with the reason: what is
 * missing or wrong is looked up, because execve's own answer names the program where its interpreter is meant. -ENOENT: nothing to run
 * (or its interpreter is missing); -EACCES, -ENOEXEC: there, but it cannot be run. `ahead`: the kernel is asked for the program, its loader and its C
 * library before. */
int payload_exec(const char *file, char **argv, char **envp, bool ahead, struct err *err);

#endif
