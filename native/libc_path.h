/* Where a program's C library is. */
#ifndef TSRUN_LIBC_PATH_H
#define TSRUN_LIBC_PATH_H

#include <limits.h>
#include <stdio.h>
#include <string.h>

#if defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#else
#define MULTIARCH "x86_64-linux-gnu"
#endif

#define LIBC_NAME "libc.so.6"
#define LIBC_PATH_MAX (PATH_MAX + sizeof LIBC_NAME)
#define LIBC_USUAL "/lib/" MULTIARCH "/" LIBC_NAME

/* Most programs have it beside their loader, under one name or another. */
static inline const char *libc_beside(const char *loader, char path[LIBC_PATH_MAX])
{
	const char *slash = strrchr(loader, '/');

	snprintf(path, LIBC_PATH_MAX, "%.*s" LIBC_NAME, slash == NULL ? 0 : (int)(slash + 1 - loader), loader);
	return path;
}

#endif
