/* Who waits for a lock. */
#ifndef TSRUN_TEST_LOCKS_H
#define TSRUN_TEST_LOCKS_H

#include "sample_tree.h"

/* Whether a process waits for the file at `path`, which another one has locked. */
static bool lock_is_awaited(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && sample_run("grep -q -e '-> FLOCK.*:%llu ' /proc/locks", (unsigned long long)st.st_ino) == 0;
}

#endif
