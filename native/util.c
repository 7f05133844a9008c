#include "util.h"

#include <sys/stat.h>

#include <stdarg.h>
#include <stdio.h>

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
