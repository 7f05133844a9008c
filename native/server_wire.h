/* What a joining run and the image server say to each other: one message each way, over a sequenced-packet socket, descriptors beside them.
 * Both ends are the same program; a different version has another PROTOCOL, and then another socket. */
#ifndef TSRUN_SERVER_WIRE_H
#define TSRUN_SERVER_WIRE_H

#include "util.h"

#define WIRE_PROTOCOL 7

enum wire_wish {
	WIRE_JOIN,
	WIRE_STATISTICS, /* answered by text, see server_statistics() */
};

#define WIRE_IMAGE_NAME_MAX 256
#define WIRE_PROGRAM_MAX 256
#define WIRE_SEARCH_MAX 512
#define WIRE_LAYOUT_MAX 16384

/* Behind it: the bytes of the run's layout, if it may share one (server.h). Beside it: the image's descriptor, if has_image; then that of the record, if
 * has_record. */
struct wire_request {
	uint32_t protocol;
	uint32_t wish;
	uint64_t offset, size;
	uint32_t linger_ms;
	uint32_t has_image;
	uint32_t has_record;
	uint32_t layout_base; /* so many bytes of the layout, its first, are what other calls are likely to have, too; 0: it is to be made as a whole */
	uint64_t hot_offset, hot_size;
	char name[WIRE_IMAGE_NAME_MAX]; /* for people; cut at its front where it is longer */
	char program[WIRE_PROGRAM_MAX], search[WIRE_SEARCH_MAX]; /* cut where they are longer: it is an advice */
};
#define WIRE_STATISTICS_MAX 65536

/* What the second descriptor is. */
enum wire_mount {
	WIRE_MOUNT_NONE,   /* no image was asked for */
	WIRE_MOUNT_SHARED, /* a mount to be cloned */
	WIRE_MOUNT_OWN,    /* a clone, to be attached */
	WIRE_MOUNT_VIEW,   /* the server's mount namespace, where the image is mounted at NUMBER in the runtime directory */
	WIRE_MOUNT_FINISHED, /* not the image's mount, but a namespace in which all is mounted already */
	WIRE_MOUNT_SPARE,    /* not the image's mount, but a root in which the base of the layout is mounted already (spare.h) */
};

struct wire_reply { /* beside it, if rc is 0: user namespace, and what `mount` says */
	uint32_t protocol;
	int32_t rc;
	uint32_t mount;
	uint32_t number;
	uint16_t finish; /* the run's own namespace is wanted, once all is mounted in it */
	uint16_t ahead;  /* the run's program is being decoded */
	uint32_t lend_view; /* … and what spare roots are made from */
	uint64_t view_of; /* the inode of the mount namespace that the server's was copied from */
	struct err err;
};

/* What a run leaves in its socket: one byte. Beside it the descriptors of struct server_left, up to the first that is not there. */

/* Descriptors that a starting server finds open; the first is a socket in which the question of the run that starts it waits. */
enum { WIRE_STARTER_FD = 3, WIRE_DIR_FD = 4, WIRE_LOCK_FD = 5, WIRE_FIRST_FREE_FD = 6 };

/* Descriptors beside a message: the first that is -1 is the last. */
#define WIRE_FDS 4

struct iovec;
/* Sends one message, of several parts, with its descriptors. As many descriptors of this user may be on their way as may be open
 * (RLIMIT_NOFILE): waits up to `patience_ms` for their receivers, who are at it; then -ETOOMANYREFS. */
int WARN_UNUSED wire_send_parts(int sock, const struct iovec *parts, size_t count, const int fds[WIRE_FDS], int patience_ms);
int WARN_UNUSED wire_send(int sock, const void *message, size_t len, const int fds[WIRE_FDS]);
/* Receives one message of `least` to `most` bytes and returns how many; -ECONNRESET when the other end is gone, -EPROTO when it is something else. Descriptors
 * are close-on-exec, -1 where none came. `flags` as of recvmsg. */
int WARN_UNUSED wire_receive(int sock, void *message, size_t least, size_t most, int fds[WIRE_FDS], int flags);
void wire_close(int fds[WIRE_FDS]);
/* Drops the message that waits: to close a socket with something in it would take away what was answered, too. */
void wire_leave_unread(int sock);

/* The files of a scope in the runtime directory `dir`. */
enum wire_file { WIRE_SOCKET, WIRE_LOCK, WIRE_LOG };
#define WIRE_NAME_MAX 104
void wire_name(char name[WIRE_NAME_MAX], const char *key, enum wire_file file);
bool wire_key_ok(const char *key);
/* The socket's address; through /proc/self/fd, so that it is short and the directory is the one that was checked. */
struct sockaddr_un;
int WARN_UNUSED wire_address(struct sockaddr_un *address, int dir, const char *key);
/* Opens and locks the scope's lock file, waiting for whoever has it; returns its descriptor. */
int WARN_UNUSED wire_lock(int dir, const char *key);
/* The same without waiting: -EWOULDBLOCK. */
int WARN_UNUSED wire_try_lock(int dir, const char *key);
/* Removes what killed servers have left (the end of a job's control group or PID namespace gives them no time): sockets that nobody listens to, with their
 * locks, of all scopes and versions; and logs of last week. In the working directory, for the sockets, which no *at() call knows. */
void wire_clear(void);

#endif
