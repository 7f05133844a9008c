/* statx(2), which musl has from 1.2.4 on. */
#ifndef TSRUN_STATX_H
#define TSRUN_STATX_H

#include <sys/stat.h>
#ifndef STATX_INO
#include <linux/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int statx(int dir, const char *path, int flags, unsigned mask, struct statx *out)
{
	return (int)syscall(SYS_statx, dir, path, flags, mask, out);
}
#endif

#endif
