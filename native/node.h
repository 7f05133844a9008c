/* The full command line program: Node with the bundle that lies beside this program. */
#ifndef TSRUN_NODE_H
#define TSRUN_NODE_H

#include "util.h"

/* Becomes Node with the full program and `args` (without a program name; ended by NULL). `node`: path of Node, "" to take the one that came
 * with this program. Variables by which a host's modules change what a program loads or finds are kept from Node; it finds
 * them in TSRUN_HOST_ENV, as NAME=value lines with bytes other than printable ASCII, and %, as %XX. Returns only on failure. */
int node_exec(const char *node, char *const *args, char *const *envp, struct err *err);

/* The same as a child. Returns its exit status (128 + signal where one ended it), or -errno. */
int node_run(const char *node, char *const *args, char *const *envp, struct err *err);

#endif
