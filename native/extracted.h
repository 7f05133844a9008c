/* An image extracted to a directory, once, by whoever comes first. */
#ifndef TSRUN_EXTRACTED_H
#define TSRUN_EXTRACTED_H

#include "util.h"

/* Makes sure that `directory` (absolute) holds the files of the SquashFS at `offset` of `fd`. It appears there complete or not at all; others who
 * want it at the same time wait on its lock. What an interrupted extraction left is removed by the next one. -EPERM when the directory, or
 * the one it lies in, is under somebody else's control. */
int WARN_UNUSED extracted_directory(int fd, uint64_t offset, uint64_t size, const char *directory, struct err *err);

#endif
