/* How much memory this process may use. */
#ifndef TSRUN_MEMORY_H
#define TSRUN_MEMORY_H

#include "util.h"

/* Bytes: the smallest of the machine's memory and the limits of the control groups (version 1 and 2) that this process is in. `files` is the root of the
 * file system to look in ("" for the real one). UINT64_MAX when nothing could be found out. */
uint64_t memory_limit(const char *files);
/* Bytes that are free within those limits, page cache that can be dropped counted as free. */
uint64_t memory_available(const char *files);

#endif
