#include "util.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int fail(struct err *err, int errnum, const char *step, const char *detail_format, ...)
{
	if (err != NULL) {
		va_list args;
		err->errnum = errnum;
		snprintf(err->step, sizeof err->step, "%s", step);
		va_start(args, detail_format);
		vsnprintf(err->detail, sizeof err->detail, detail_format, args);
		va_end(args);
	}
	return errnum != 0 ? -errnum : -EINVAL;
}

int read_full(int fd, void *buf, size_t len)
{
	char *at = buf;

	while (len > 0) {
		ssize_t got = RETRY(read(fd, at, len));
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EPIPE;
		at += got;
		len -= (size_t)got;
	}
	return 0;
}

int write_full(int fd, const void *buf, size_t len)
{
	const char *at = buf;

	while (len > 0) {
		ssize_t put = RETRY(write(fd, at, len));
		if (put < 0)
			return -errno;
		at += put;
		len -= (size_t)put;
	}
	return 0;
}

char mode_letter(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFBLK:
		return 'b';
	case S_IFCHR:
		return 'c';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	default:
		return 'f';
	}
}

static void close_between(int first, int last)
{
	struct rlimit limit = {.rlim_cur = 1024};

	if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
		return;
	/* Kernels before 5.9. */
	getrlimit(RLIMIT_NOFILE, &limit);
	for (int fd = first; fd <= last && (rlim_t)fd < limit.rlim_cur && fd < 1 << 20; fd++)
		close(fd);
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void close_all_but(int *keep, size_t count)
{
	int first = 0;

	qsort(keep, count, sizeof *keep, compare_ints);
	for (size_t i = 0; i < count; i++) {
		close_between(first, keep[i] - 1);
		first = keep[i] + 1;
	}
	close_between(first, INT_MAX);
}
