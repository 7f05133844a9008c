/* A tar stream, read entry by entry, as our own writer makes it (src/tar/write.ts): ustar headers, and PAX ones for path, linkpath, size, uid, gid and mtime; other
 * records are for who reads. Functions return -errno: -EPROTO for what is no such stream. */
#ifndef TSRUN_TAR_IN_H
#define TSRUN_TAR_IN_H

#include "util.h"

#include <limits.h>
#include <sys/stat.h>

#define TAR_IN_BUFFER (1u << 18)

struct tar_member {
	char type;
	char path[PATH_MAX], link[PATH_MAX];
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size;
	struct timespec mtime;
	unsigned major, minor;
};

struct tar_in {
	int fd;
	char *buffer;
	size_t start, end;
	char *meta; /* records of the PAX header before this entry */
	size_t meta_len;
};

typedef int tar_in_visit(void *ctx, const char *key, size_t key_len, const char *value, size_t len);

/* Closed in any case. */
int WARN_UNUSED tar_in_open(struct tar_in *in, int fd);
void tar_in_close(struct tar_in *in);
/* 1: an entry, whose content comes next; 0: the end. */
int WARN_UNUSED tar_in_next(struct tar_in *in, struct tar_member *entry);
/* At most `len` of the bytes that are there; 0 at the end of the stream. */
ssize_t WARN_UNUSED tar_in_some(struct tar_in *in, const char **bytes, size_t len);
/* Behind a content of that size. */
int WARN_UNUSED tar_in_skip_padding(struct tar_in *in, uint64_t size);
/* The records of the entry, until `visit` refuses one. */
int WARN_UNUSED tar_in_each_record(struct tar_in *in, tar_in_visit *visit, void *ctx);

#endif
