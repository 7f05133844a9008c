/* What the files of the image server share. */
#ifndef TSRUN_SERVER_INTERNAL_H
#define TSRUN_SERVER_INTERNAL_H

#include "fuse/imagefs.h"
#include "server.h"
#include "server_wire.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* --- server_setup.c: becoming a server --- */

struct server_box {
	int dir;      /* runtime directory */
	int listener; /* on the scope's socket */
	ino_t socket_ino;
	int userns;   /* the scope's user namespace */
	const char *key;
	uid_t uid;
	gid_t gid;
	const char *device_path; /* /dev/fuse as it is to be found from in here */
};
/* From a freshly exec'ed process to one that listens in its own namespaces. The lock is the starter's and this process's. */
int WARN_UNUSED server_enter_box(struct server_box *box, const char *key, const char *uid, const char *gid, struct err *err);
/* Removes socket and lock file, if they are still this server's. With the lock held. */
void server_leave_directory(const struct server_box *box);
/* One line, with the time, to the scope's log. From any thread. */
void server_log(const struct server_box *box, const char *text);

/* --- server_images.c: the images being served --- */

struct waiter { /* a joining run whose image is still being opened */
	struct waiter *next;
	struct connection *connection;
	uint32_t linger_ms;
};

struct image {
	struct image *next;
	const struct server_box *box;
	struct squash_cache *cache;
	int wake; /* eventfd of the control loop */
	/* Which image: the file that was opened, as it was then, and the part of it. */
	struct stat identity;
	uint64_t offset, size;
	int fd;

	/* Control loop only. */
	enum { IMAGE_OPENING, IMAGE_SERVING, IMAGE_LEAVING } state;
	unsigned runs;
	int64_t deadline; /* milliseconds of CLOCK_MONOTONIC; when there are no runs */
	uint32_t linger_ms;
	struct waiter *waiters;

	/* Written by the opening thread before `opened`, by the last worker before `ended`. */
	_Atomic bool opened, ended;
	pthread_t opener;
	int rc;
	struct err err;
	struct squash *squash;
	struct imagefs *fs;
	int mount;
};

/* The image the descriptor is of, being opened or served; or a new one, which a thread begins to open. Takes `fd` if it makes a new one, else closes it. */
struct image *images_find_or_open(struct image **images, const struct server_box *box, struct squash_cache *cache, int wake, int fd, uint64_t offset,
	uint64_t size, struct err *err);
/* The opening thread has finished: `rc` and `err` are there. */
void image_opened(struct image *image);
/* Nobody is known to use it: lets go of our own reference. Whoever still has one keeps it alive. */
void image_leave(struct image *image);
/* Frees an image that failed to open or whose mount has ended. */
void image_forget(struct image **images, struct image *image);

#endif
