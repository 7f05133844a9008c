/* What the planner may ask of the machine (host.def has the list). One entry point, plain values in and out, so that the engine needs to know
 * nothing about the calls and tests can make them without an engine. Every answer is bounded. */
#ifndef TSRUN_HOST_H
#define TSRUN_HOST_H

#include "util.h"

#include <sys/stat.h>

enum host_call_number {
#define CALL(number, name, arguments) HOST_##name = number,
#include "host.def"
#undef CALL
};

#define HOST_ARGS_MAX 3
#define HOST_READ_MAX ((int64_t)4 << 20) /* bytes in one answer of read and pread */
#define HOST_NUMBER_MAX (((uint64_t)1 << 53) - 1) /* exact in JavaScript */
#define HOST_KEPT_MAX 16                 /* descriptors kept at a time */

struct host_value {
	const char *bytes; /* NULL: a number */
	size_t len;
	int64_t number;
};

/* An answer's text or list. The first kilobyte needs no allocation. A list is in `data`, too: an item, the bytes of its text, the next item … */
struct host_reply {
	bool text; /* the answer is `data`, not the number returned */
	bool list; /* the answer is what the items in `data` say */
	char *data;
	size_t len, room;
	char fixed[1024];
};

struct host_item {
	bool text;
	int64_t number; /* of a text: its length */
};

/* The machine as the engine sees it. `call` returns a number that is not negative (0 when reply->text or reply->list is set) or -errno.
 * `take_fd` hands the descriptor of a handle over to the caller, who closes it, or returns -EBADF. */
struct host_ops {
	int64_t (*call)(void *context, uint32_t number, const struct host_value *args, size_t count, struct host_reply *reply);
	int (*take_fd)(void *context, int64_t handle);
	void *context;
};

/* The real machine. Zero-initialise, set the three pointers, give it to host_ops_of(); host_release() closes what was kept. */
struct host {
	int argc;
	char *const *argv;
	char *const *envp;
	int kept[HOST_KEPT_MAX]; /* -1: taken */
	int kept_count;
};

struct host_ops host_ops_of(struct host *host);
int64_t host_call(void *host, uint32_t number, const struct host_value *args, size_t count, struct host_reply *reply);
void host_release(struct host *host);

/* Answers, for implementations of a call. -ENOMEM when memory ends. */
void host_reply_clear(struct host_reply *reply);
void host_reply_free(struct host_reply *reply);
int WARN_UNUSED host_reply_room(struct host_reply *reply, size_t more);
int WARN_UNUSED host_reply_add(struct host_reply *reply, const char *bytes, size_t len);
int WARN_UNUSED PRINTF_LIKE(2, 3) host_reply_print(struct host_reply *reply, const char *format, ...);
/* Items of a list. A text can also be added piece by piece: begin, add its bytes, end with what begin has returned. */
int WARN_UNUSED host_reply_list_number(struct host_reply *reply, int64_t number);
int WARN_UNUSED host_reply_list_text(struct host_reply *reply, const char *text);
size_t host_reply_list_begin(struct host_reply *reply);
int WARN_UNUSED host_reply_list_end(struct host_reply *reply, size_t begun);

/* Asks the system's own name services through getent(1): a static program cannot load NSS modules. At most 5 seconds and 64 KiB.
 * -ENOENT: no such entry; -ENOSYS: no getent here; -ETIMEDOUT. */
int host_getent(const char *database, const char *key, struct host_reply *reply);

#endif
