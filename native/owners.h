/* Root inside without root outside. In a user namespace of one id the kernel refuses every owner but that one, and devices; a seccomp filter
 * (seccomp_unotify(2)) asks the launcher instead, which writes down what was asked for and answers as the kernel would answer root. What stat() shows stays
 * the real thing: programs that read ids back need ranges of ids.
 *
 * The record of a file, text in the xattr `user.tsrun.owner`: "UID:GID", or, for the empty file that stands for a device, "UID:GID c MAJOR:MINOR" (b for a
 * block device). Decimal. A file without one belongs to 0:0. Mode bits are the file's own.
 * An xattr NAME that only root may have (security.*, trusted.*, ACLs of ids that are not mapped) is kept as `user.tsrun.x.NAME` with its value.
 *
 * Symbolic links, pipes, sockets, and file systems without user xattrs have no room for it: their records are lines of an append-only table, later
 * ones winning: "DEVICE INODE SECONDS.NANOSECONDS RECORD\n", the numbers as statx(2) has them, the time that of birth (0.0 where the file system keeps none),
 * because inode numbers are used again soon. In an overlay the key is that of the file in the upper directory. A last line without its end is not there.
 * In what was unpacked from an image links are known by their path, since people copy such directories: DEVICE 0, and two hashes in place of the other numbers. */
#ifndef TSRUN_OWNERS_H
#define TSRUN_OWNERS_H

#include <sys/types.h>

#include "util.h"

#define OWNER_XATTR "user.tsrun.owner"
#define OWNER_KEPT_PREFIX "user.tsrun.x."
/* The table of a directory that is an image by itself (build --sandbox), at its top. No archive of a directory has it. */
#define OWNER_TABLE_NAME ".tsrun-owners"
/* All of the above begin so; what does is of no concern to the finished image. */
#define OWNER_PREFIX "user.tsrun."
#define OWNER_TEXT_MAX 64u

struct owner_record {
	uint32_t uid, gid;
	char device; /* 'c', 'b', 0: none */
	uint32_t major, minor;
};

/* Returns the length; `text` ends with NUL. */
size_t owner_format(const struct owner_record *record, char text[OWNER_TEXT_MAX]);
/* Exactly one record in `len` bytes; -EPROTO for anything else. */
int WARN_UNUSED owner_parse(const char *text, size_t len, struct owner_record *record);

/* --- the table --- */

struct owner_key {
	uint64_t device, inode;
	int64_t seconds;
	uint32_t nanoseconds;
};

/* The key of what `fd` (may be O_PATH) refers to. -errno. */
int WARN_UNUSED owner_key_of(int fd, struct owner_key *key);
/* The key of a path below the top of an unpacked image, with or without "./" in front. */
struct owner_key owner_key_of_path(const char *path);

struct owner_table;
/* Reads the table behind `fd`, which it keeps, also when it fails; -EPROTO when a line is none; `path` is for messages. For puts, `fd` is open for appending. */
int WARN_UNUSED owner_table_open(int fd, const char *path, struct owner_table **table, struct err *err);
/* NULL when there is none. Valid until the next put. */
const struct owner_record *owner_table_find(const struct owner_table *table, const struct owner_key *key);
int WARN_UNUSED owner_table_put(struct owner_table *table, const struct owner_key *key, const struct owner_record *record);
/* Of its descriptor. */
int owner_table_fd(const struct owner_table *table);
void owner_table_close(struct owner_table *table);

/* --- a run --- */

struct owners {
	int proc;  /* the caller's /proc */
	struct owner_table *table;
	int upper; /* where an overlay keeps what is written; -1: none */
	int init;  /* PID 1's root, once it has one */
};
#define OWNERS_NONE ((struct owners){.proc = -1, .upper = -1, .init = -1})

/* In the caller's view: opens what the launcher will need. `upper` may be NULL. The table is read, or made when it is not there. */
int WARN_UNUSED owners_open(struct owners *owners, const char *table, const char *upper, struct err *err);

/* In the process whose descendants are meant, with CAP_SYS_ADMIN in its user namespace: installs the filter. Returns the listener; or -ENOSYS
 * where the kernel has none (before 5.0): then owners are not recorded, everything that would be is simply said to have worked. devices_only: nothing but
 * making devices is taken care of. */
int WARN_UNUSED owners_install(bool devices_only, struct err *err);

/* In the launcher: gets ready to answer. The listener is its caller's. The launcher's working directory, root and umask are its own from now on. -errno. */
struct owner_service;
int WARN_UNUSED owners_serve(struct owners *owners, int listener, pid_t init, struct owner_service **service);
int owners_listener(const struct owner_service *service);
/* One call, to be called when the listener can be read. */
void owners_answer(struct owner_service *service);

#endif
