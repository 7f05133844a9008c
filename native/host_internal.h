/* Between the files that implement host.def. */
#ifndef TSRUN_HOST_INTERNAL_H
#define TSRUN_HOST_INTERNAL_H

#include "host.h"

#define CALL(number, name, arguments) int64_t host_call_##name(struct host *host, const struct host_value *args, struct host_reply *reply);
#include "host.def"
#undef CALL

/* Chars of a file. */
struct chars {
	const char *at, *end;
};

/* What `accounts` answers of a passwd(5) text, and of a group(5) text. */
int WARN_UNUSED host_list_account(struct chars text, int64_t uid, const char *name, size_t len, struct host_reply *reply);
int WARN_UNUSED host_list_groups(struct chars text, const gid_t *gids, size_t count, struct host_reply *reply);

int host_take_fd(void *context, int64_t handle);
int64_t host_link_text(const char *path, struct host_reply *reply);
/* For reading. Whoever does not trust what it is looks at the descriptor, with host_refuse_kind: 0 for regular files, and for what else will do. */
int host_open(const char *path, bool directory_too, bool pipe_too);
int host_refuse_kind(mode_t mode, bool directory_too, bool pipe_too);
/* Of a plain file the first HOST_READ_MAX bytes. */
int64_t host_read_whole(const char *path, struct host_reply *reply);
int64_t host_list_stat(const struct stat *st, struct host_reply *reply);

#endif
