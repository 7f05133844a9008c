/* Between owners_serve.c (which call is answered how) and the files that do it. */
#ifndef TSRUN_OWNERS_SERVICE_H
#define TSRUN_OWNERS_SERVICE_H

#include <limits.h>
#include <linux/seccomp.h>

#include "owners_target.h"

struct owner_service {
	int listener;
	struct owners owners;
	struct owner_view view;
	struct seccomp_notif_sizes sizes;
	struct seccomp_notif *call; /* in hand */
	struct seccomp_notif_resp *reply;
	char self[40];                    /* the file in hand as a path below /proc */
};

/* Whether who asked is still waiting for its answer. */
bool owner_is_waiting(const struct owner_service *service);

/* --- owners_file.c: the record of a file --- */

/* Makes `fd` the file in hand. */
void owner_name_file(struct owner_service *service, int fd);
/* Where the file in hand is in the run's root. -errno. */
int WARN_UNUSED owner_path_in_run(struct owner_service *service, char path[PATH_MAX]);
bool owner_has_xattrs(mode_t mode);
/* Of the file in hand, which is `fd`; zeros when there is none. */
struct owner_record owner_read_record(struct owner_service *service, int fd, mode_t mode);
int WARN_UNUSED owner_write_record(struct owner_service *service, int fd, mode_t mode, const struct owner_record *record);

/* --- owners_xattrs.c: calls about xattrs of the file in hand; what they return is the answer --- */

int WARN_UNUSED owner_set_xattr(struct owner_service *service, int fd, uint64_t name_address, uint64_t value_address, size_t size, int flags);
/* setxattrat(2). */
int WARN_UNUSED owner_set_xattr_at(struct owner_service *service, int fd, const __u64 *args);
int WARN_UNUSED owner_remove_xattr(struct owner_service *service, uint64_t name_address);

#endif
