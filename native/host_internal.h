/* Between the files that implement host.def. */
#ifndef TSRUN_HOST_INTERNAL_H
#define TSRUN_HOST_INTERNAL_H

#include "host.h"

#define CALL(number, name, arguments) int64_t host_call_##name(struct host *host, const struct host_value *args, struct host_reply *reply);
#include "host.def"
#undef CALL

int host_take_fd(void *context, int64_t handle);
int64_t host_link_text(const char *path, struct host_reply *reply);

#endif
