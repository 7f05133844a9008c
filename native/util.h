/* Small things every native module uses: cleanup attributes, EINTR retry, checked arithmetic, the error record.
 *
 * Error convention: functions return 0 (or a count or descriptor) on success and a negative errno on failure. A function that can say
 * more takes a `struct err *` as its last argument, fills it where the context is known, and leaves it untouched on success.
 * Only mains and the child before exec may exit. */
#ifndef TSRUN_UTIL_H
#define TSRUN_UTIL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define UNUSED __attribute__((unused))
#define NOINLINE __attribute__((noinline))
#define WARN_UNUSED __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define NORETURN __attribute__((noreturn))

#define RETRY(expr)                               \
	({                                            \
		__typeof__(expr) retry_result_;           \
		do                                        \
			retry_result_ = (expr);               \
		while (retry_result_ == -1 && errno == EINTR); \
		retry_result_;                            \
	})

/* Ownership moves out of a cleanup variable: `return steal_fd(&fd);` */
static inline int steal_fd(int *fd)
{
	int out = *fd;
	*fd = -1;
	return out;
}
#define steal_ptr(pp)                    \
	({                                   \
		__typeof__(*(pp)) steal_out_ = *(pp); \
		*(pp) = NULL;                    \
		steal_out_;                      \
	})

static inline void close_fd(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		close(*fd);
		errno = saved;
	}
	*fd = -1;
}
static inline void free_ptr(void *pp)
{
	free(*(void **)pp);
	*(void **)pp = NULL;
}
#define cleanup_fd __attribute__((cleanup(close_fd)))
#define cleanup_free __attribute__((cleanup(free_ptr)))

static inline bool WARN_UNUSED add_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_add_overflow(a, b, out);
}
static inline bool WARN_UNUSED mul_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_mul_overflow(a, b, out);
}

/* What went wrong, for a person: `step` names what was being done ("mount the image"), `detail` the object and cause. */
struct err {
	int errnum; /* positive errno, 0 when none applies */
	char step[64];
	char detail[448];
};

/* Fills `err` (when not NULL) and returns -errnum (or -EINVAL when errnum is 0). Defined in util.c. */
int PRINTF_LIKE(4, 5) fail(struct err *err, int errnum, const char *step, const char *detail_format, ...);

/* Reads or writes exactly `len` bytes at the descriptor's position; short reads return -EPIPE. Defined in util.c. */
int WARN_UNUSED read_full(int fd, void *buf, size_t len);
int WARN_UNUSED write_full(int fd, const void *buf, size_t len);

/* Closes every descriptor but these, sorting them (-1: none): what stays behind must not keep anybody's pipe open. */
void close_all_but(int *keep, size_t count);

/* The kind of a file as `find -type` names it. */
char mode_letter(mode_t mode);

#endif
