/* Writes a PAX archive (POSIX.1-2017, pax, "pax Interchange Format"), entry by entry. Names are bytes: what is not UTF-8 is written as it is. */
#ifndef TSRUN_TAR_OUT_H
#define TSRUN_TAR_OUT_H

#include <sys/stat.h>

#include "util.h"

#define TAR_STEP "archive the directory"
#define TAR_RECORD 512u
#define TAR_BUFFER (1u << 18)

struct tar_out {
	int out;
	char *buffer; /* of TAR_BUFFER bytes; filled by a reader too, which then calls tar_flush() when it is full */
	size_t filled;
	char *pax; /* extended header in the making */
	size_t pax_len, pax_cap;
};

int WARN_UNUSED tar_flush(struct tar_out *a, struct err *err);
int WARN_UNUSED tar_put(struct tar_out *a, const void *data, size_t len, struct err *err);
/* Zeros behind an entry's content of `len` bytes. */
int WARN_UNUSED tar_pad(struct tar_out *a, uint64_t len, struct err *err);
/* A record of the extended header of the entry to come, beyond what tar_entry() needs itself. */
int WARN_UNUSED tar_pax(struct tar_out *a, const char *key, const void *value, size_t len, struct err *err);
/* The headers of an entry of the types of ustar. Mode, owner, time, size (of '0') and device are those of `st`, whatever its file type. */
int WARN_UNUSED tar_entry(struct tar_out *a, const char *path, char type, const struct stat *st, const char *link, struct err *err);
/* The end of the archive. */
int WARN_UNUSED tar_end(struct tar_out *a, struct err *err);

#endif
