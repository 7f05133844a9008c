/* The image server: one process for each scope, which keeps the scope's user namespace and serves its image mounts over FUSE.
 *
 * The first run of a scope starts it; everyone else joins through a socket in the runtime directory:
 *   <dir>/<key>.sock   the socket, there while the server is
 *   <dir>/<key>.lock   held (flock) while a server starts, or takes its socket away; removed with the socket
 *   <dir>/<key>.log    only when there was something to say (a failed read of an image, say)
 * A run sends its own open descriptor of the image, so it has shown that it may read it, and gets back descriptors of the user namespace
 * and of a mount that is attached nowhere. What it then does with them (setns, unshare, open_tree of a clone, move_mount) is the launcher's.
 * A run that has the same mounted as one before gets that one's mount namespace instead of the mount: see server_layouts.c.
 * The images are read by a process each, which is replaced when it dies: readers notice nothing but a pause of milliseconds.
 * The server knows runs by their pidfd, which needs nothing from them: they may exec whatever they like.
 *
 * When the last known run of an image has ended, the image is kept for the linger time; then the server drops its own reference and serves
 * whoever still uses the mount (a daemon, say) until the kernel says that nobody does. Without images and runs it removes its socket and ends. */
#ifndef TSRUN_SERVER_H
#define TSRUN_SERVER_H

#include "util.h"

#include <limits.h>
#include <sys/types.h>

struct server_request {
	const char *dir;       /* runtime directory, made 0700 when it is not there; must be the caller's own, and nobody else's */
	const char *key;       /* the scope: [a-z0-9.-]{1,80}, not beginning with a dot */
	uid_t uid;             /* the caller's effective ids; they are mapped to themselves in the user namespace */
	gid_t gid;
	int image_fd;          /* a regular file open for reading, or -1: only the user namespace is wanted */
	uint64_t offset, size; /* of the SquashFS in it; size 0: to the end */
	uint32_t linger_ms;    /* how long the image is kept after its last run */
	uint64_t cache_bytes;  /* of the server's block cache, when this call starts it; 0: the server decides */
	/* Of the image, and of use only when this call is the first for it: */
	const char *image_name;        /* for people; may be NULL */
	uint64_t hot_offset, hot_size; /* where in the file its hot list is (hot.h); size 0: it has none */
	const char *program;           /* what will be run: a path in it, or a name to be looked for in the directories of `search`, as of PATH; both may be NULL */
	const char *search;
	int record_fd;                 /* open for reading and appending: what is touched first is written there (hot.h); -1 or 0: nothing is */
	/* All that decides what the run has mounted, beside the image: runs of equal bytes may share one mount namespace. NULL: this one shares none. */
	const void *layout;
	size_t layout_len;
	size_t layout_base; /* so many of these bytes, the first, are what other calls are likely to have, too: they may find a root with all of that; 0: no */
};

struct server_reply { /* descriptors are close-on-exec; -1: not there */
	int userns_fd;
	/* The image, when one was asked for: a mount that is attached nowhere. It may be attached itself if `mount_is_own`, else only a clone of it. Left open, it
	 * keeps the image for ever. */
	int mount_fd;
	bool mount_is_own;
	/* Instead, on kernels that cannot hand mounts on (before Linux 5.2): the mount namespace to enter, a copy of the caller's own (as it was when the server
	 * started) in which the image is mounted at `path`, in a tmpfs over the runtime directory. */
	int view_fd;
	char path[PATH_MAX];
	/* Instead, where another run of this layout has left it: a mount namespace in which all is mounted, to be entered. */
	int finished_fd;
	int spare_fd;   /* instead: a root in which the base of the layout is mounted, attached nowhere, to be used up (spare.h) */
	bool finish;    /* others wait for this run to leave a finished one */
	bool ahead;     /* the run's program is being decoded: it is to be asked for before it is started (payload_exec() in exec.h) */
	bool lend_view; /* and the server makes such roots from what it lends */
	int server_fd;  /* for server_leave_namespace() */
};
#define SERVER_REPLY_NONE ((struct server_reply) { .userns_fd = -1, .mount_fd = -1, .view_fd = -1, .finished_fd = -1, .spare_fd = -1, .server_fd = -1 })

/* What failed, in err.step: lets the launcher choose another way (extraction instead of FUSE) or tell the user what to do. */
#define SERVER_STEP_NAMESPACE "create a user namespace"
#define SERVER_STEP_FUSE "use FUSE"
#define SERVER_STEP_IMAGE "read the image"
#define SERVER_STEP_DIRECTORY "use the runtime directory"
#define SERVER_STEP_SERVER "reach the image server"

/* Joins the scope's server, starting it when there is none. Safe for any number of processes at once. The caller must be single-threaded
 * only if it forks on; this function forks and waits for its own child. Needs /proc. The program itself must answer `@server` (below). */
int WARN_UNUSED server_join(const struct server_request *request, struct server_reply *reply, struct err *err);

/* What a run leaves; -1 from some point on. They stay the caller's. */
struct server_left {
	int namespace;   /* its own mount namespace, which then does not end with the process, while its parent waits, but is unmounted by the server */
	int host_mounts; /* where it is finished and others may enter it: the caller's mountinfo, opened before it was made. The kernel tells a poll of it of each change */
	int view;        /* where spare roots are to be made from it: the directory in it that was the caller's "/" */
	int view_mounts; /* … and another mountinfo, which tells of changes on its own */
};
#define SERVER_LEFT_NONE ((struct server_left) { .namespace = -1, .host_mounts = -1, .view = -1, .view_mounts = -1 })
/* Leaves this process's own mount namespace to the server, which lets go of it when this process (and what else is in it) has ended. Closes server_fd. */
void server_leave_namespace(struct server_reply *reply, const struct server_left *left);

/* The role `@server-statistics DIR [KEY]`: asks a scope's server, or without KEY all there are (of this version), and prints one line of JSON for each:
 *   {"key": …, "pid": …, "runs": N, "images": [{"name": …, "device": …, "inode": …, "offset": …, "mount": "shared"|"own"|"view", "runs": N, "pid": …, "replaced": N,
 *    "lookup": N, "getattr": N, "read": N, "readdir": N, "other": N, "bytes": N, "failed": N, "layouts": N, "cache": BYTES, "hits": N, "loads": N}, …]}
 * "runs" of the whole are those without an image, "pid" of an image is the process that serves it, "replaced" how many before it have died; then the
 * requests of the kernel by kind, the bytes of the answers, and how many were errors of the image; then the finished mount namespaces that runs can enter, the bytes in the cache, how often something was
 * found in it, and how often it had to be read and decompressed. */
int server_statistics_main(int argc, char **argv);

/* The role: `/proc/self/exe @server KEY UID GID CACHE_BYTES`, started by server_join with the descriptors of server_wire.h; argv[0] is "@server". It is
 * an exec of its own, so that the server keeps neither memory nor environment of the run that happened to start it. */
int server_main(int argc, char **argv);

#endif
