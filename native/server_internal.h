/* What the files of the image server share. */
#ifndef TSRUN_SERVER_INTERNAL_H
#define TSRUN_SERVER_INTERNAL_H

#include "fuse/imagefs.h"
#include "server.h"
#include "server_wire.h"

#include <sys/socket.h>
#include <sys/stat.h>

/* --- server_setup.c: becoming a server --- */

struct server_box {
	int dir;      /* runtime directory */
	int home;     /* working directory: images are mounted there where they must be attached */
	int listener; /* on the scope's socket */
	ino_t socket_ino; /* 0: it does not listen yet */
	int userns;   /* the scope's user namespace */
	/* On kernels without the mount calls of Linux 5.2: the server's mount namespace, which runs enter, and the inode of the one it was copied from.
	 * Else -1: the server has a root with next to nothing in it. */
	int view;
	uint64_t view_of;
	int detached; /* the clone of a mount that is attached nowhere, as this kernel can make them; or -1 */
	const char *key;
	uid_t uid;
	gid_t gid;
	const char *device_path; /* /dev/fuse as it is to be found from in here */
	uint64_t cache_bytes;    /* for each image */
};
/* From a freshly exec'ed process to one in namespaces of its own. The working directory is then a tmpfs where images can be mounted. */
int WARN_UNUSED server_enter_box(struct server_box *box, const char *key, const char *uid, const char *gid, struct err *err);
/* Listens on the scope's socket; clears the runtime directory. With the lock held, so a socket that is there belongs to a server that is not. */
int WARN_UNUSED server_listen(struct server_box *box, struct err *err);
/* Removes socket and lock file, if they are still this server's. With the lock held. */
void server_leave_directory(const struct server_box *box);
/* One line, with the time, to the scope's log. */
void server_log(const struct server_box *box, const char *text);

/* --- server_filter.c --- */

/* From here on the process can do nothing but serve: no files, no sockets, no other processes. -errno. */
int WARN_UNUSED serving_filter(void);
/* … nothing but fetch (fetch.h). */
int WARN_UNUSED fetching_filter(void);

/* --- server_images.c: the images being served --- */

enum watched { LISTENER, CONNECTION, RUN, LAYOUT, SPARE, VIEW, IMAGE, CHILDREN };

struct image {
	enum watched what; /* its channel, for the control loop */
	struct image *next;
	const struct server_box *box;
	/* Which image: the file that was opened, as it was then, and the part of it. */
	struct stat identity;
	uint64_t offset, size;
	uint64_t hot_offset, hot_size;
	char name[WIRE_IMAGE_NAME_MAX];
	char program[WIRE_PROGRAM_MAX], search[WIRE_SEARCH_MAX];
	int fd, record; /* record -1: nothing is recorded */

	enum { IMAGE_OPENING, IMAGE_SERVING, IMAGE_LEAVING } state;
	unsigned runs;
	int64_t deadline; /* milliseconds of CLOCK_MONOTONIC; when there are no runs */
	uint32_t linger_ms;
	struct connection *waiters; /* until it is opened */
	struct layout *layouts;
	struct spares *spares; /* or NULL */
	unsigned wasted_spares;

	/* Its mount: a descriptor that any run can clone, or attached under `number` in the server's working directory. */
	int mount;
	uint32_t number;

	struct supervised *serving;
	bool is_watched; /* its channel is in the control loop's epoll */
	bool was_lent;   /* to a run */
	bool ended;
};

/* The image the descriptor is of, being opened or served; or a new one, which a process begins to open. Takes both descriptors if it makes a new one, else
 * closes them. */
struct image *images_find_or_open(struct image **images, const struct server_box *box, const struct wire_request *request, int fd, int record, struct err *err);
/* How a run gets at the image: fills `reply`; returns the descriptor to send (not to be closed), or -errno. `*own` is to be closed when it is sent. */
int WARN_UNUSED image_show(const struct image *image, struct wire_reply *reply, int *own, struct err *err);
/* The root of its mount, to be closed; -errno. */
int WARN_UNUSED image_root(const struct image *image);
/* Nobody is known to use it: lets go of our own reference. Whoever still has one keeps it alive. */
void image_leave(struct image *image);
/* Frees an image that failed to open or whose mount has ended. */
void image_forget(struct image **images, struct image *image);

/* --- server_runs.c: the runs of a scope --- */

struct connection { /* a run that wants to join; from accept to the answer */
	enum watched what;
	int sock;
	struct ucred peer;
	struct connection *next; /* of those that wait for the same */
	int64_t deadline;        /* milliseconds of CLOCK_MONOTONIC: how long its question is waited for */
	uint32_t linger_ms;
	char *layout; /* see struct server_request; none when layout_len is 0 */
	size_t layout_len, layout_base;
};

struct run { /* one that has joined */
	enum watched what;
	int pidfd;           /* -1: its end is not told (before Linux 5.3, or there are too many), so it is looked for */
	bool is_watched;     /* in the control loop's epoll */
	pid_t pid;
	int sock;            /* to it, unread: there waits its mount namespace, see server_endings.c; or -1 */
	struct image *image; /* NULL: it has the user namespace only */
	struct layout *layout; /* or NULL */
	struct run *next;    /* of those that are looked for */
};

/* Descriptors on their way to being closed, see server_endings.c. */
struct endings {
	int to, from; /* a pipe, from the control loop to the threads */
	unsigned threads; /* 0: they were not needed yet, and there is no pipe */
	unsigned given;
	_Atomic unsigned done;
	unsigned seen;    /* of these, when last looked at */
	int64_t deadline; /* milliseconds of CLOCK_MONOTONIC: for one more to be done; 0: none waits for a thread */
};

/* The whole of a server: its control loop's. */
struct server {
	struct server_box box;
	struct image *images;
	unsigned bare_runs; /* without an image */
	int64_t bare_deadline;
	uint32_t bare_linger_ms;
	struct connection *silent; /* that have not asked yet; the newest first */
	struct run *looked_for;
	int64_t look_due;
	int epoll;
	int children; /* tells of SIGCHLD */
	int fd_limit; /* of pidfds: beyond are only enough for runs that come and their images */
	unsigned namespaces; /* that wait in the sockets of runs which have not ended */
	struct spares *dropped_spares; /* whose processes have not ended yet */
	struct endings endings;
};

/* Has the control loop told of what can be read from `fd`; `what` begins with its enum watched. -errno. */
int WARN_UNUSED server_watch(struct server *server, int fd, void *what);
/* Before a descriptor is closed: a process that was just forked for an image may still have it, and then the kernel would go on telling us of it. */
void server_unwatch(struct server *server, int fd);
void server_watch_image(struct server *server, struct image *image);
void server_accept_one(struct server *server);
/* Of who is at the other end; NULL: out of memory. */
struct connection *server_connection(int sock);
/* Answers its question, or waits for it. */
void server_answer(struct server *server, struct connection *connection);
/* The question that was waited for has arrived. */
void server_hear(struct server *server, struct connection *connection);
/* Hangs up on who has not asked for too long; when the next of them is due, in milliseconds of CLOCK_MONOTONIC. */
int64_t server_drop_silent(struct server *server);
void server_refuse(struct connection *connection, int rc, const struct err *err);
/* The runs that wait for an image: it is there, or (`rc`) cannot be had. */
void server_answer_waiters(struct server *server, struct image *image, int rc, const struct err *err);
void server_end_run(struct server *server, struct run *run);
/* Answers a run whose image (or NULL) is there; or has it wait for its layout. */
void server_welcome(struct server *server, struct connection *connection, struct image *image);
/* Ends those of `looked_for` that are there no longer. At `look_due`, and when there is a reason to know. */
void server_look_for_runs(struct server *server);

/* --- server_layouts.c: finished mount namespaces, for runs that have the same mounted --- */

struct layout {
	enum watched what; /* the socket of its maker */
	struct layout *next; /* of the image's; those that are asked for come first */
	struct image *image;
	/* Awaited: its maker is still at it. Hidden: there for its runs, nobody else finds it. */
	enum { LAYOUT_AWAITED, LAYOUT_FINISHED, LAYOUT_HIDDEN } state;
	struct run *maker; /* until it has left the namespace */
	int namespace;
	int host_mounts; /* of the namespace that it was copied from: what changed since */
	bool out_of_date; /* it has changed */
	unsigned runs;
	int64_t deadline; /* milliseconds of CLOCK_MONOTONIC: how long it is waited for; when it has no runs, how long it is kept */
	struct connection *waiters;
	size_t len, base;
	char bytes[];
};
/* The image's layout of those bytes, awaited or finished; NULL: there is none, or no longer. */
struct layout *layout_find(struct server *server, struct image *image, const struct connection *connection);
/* A new one, of the run that has just been asked to make it; unless there are too many, or it cannot be heard of. */
void layout_new(struct server *server, const struct connection *connection, struct run *maker);
void layout_add_run(struct layout *layout, struct run *run);
/* Of a finished one: whether something was mounted, unmounted or remounted where it was copied from. */
bool layout_is_out_of_date(struct layout *layout);
/* Its maker has left its namespace, or hung up. */
void layout_hear(struct server *server, struct layout *layout);
void layout_run_ended(struct server *server, struct run *run);
/* Hides what is due, or (`leave`) all; lets go of what nobody needs. When the next of them is due, in milliseconds of CLOCK_MONOTONIC. */
int64_t layouts_settle(struct server *server, struct image *image, bool leave);

/* --- server_spares.c: roots made ahead, for runs that have something of their own mounted beside what others have --- */

/* One for this run, to be closed once it is sent; -1: there is none. */
int spares_take(struct image *image, const struct connection *connection);
/* Whether this run would have had use for one, and is not the first such: then it is to lend what they are made from. */
bool spares_are_wanted(const struct image *image, const struct connection *connection);
/* It has, and left the namespace of its layout. Takes the descriptors. */
void spares_begin(struct server *server, struct layout *layout, int view, int view_mounts);
/* What is watched for them: something was mounted; before anything else is done about what happened at the same time. */
void spares_see_change(void *what);
/* … the process that makes them has made one, or ended. */
void spares_hear(struct server *server, void *what);
/* Has one made when there is none; lets go of all when they are of no use any more, or `leave`. When that is next, in milliseconds of CLOCK_MONOTONIC. */
int64_t spares_settle(struct server *server, struct image *image, bool leave);
/* After a SIGCHLD. */
void spares_bury(struct server *server);

/* --- server_endings.c --- */

/* Closes the socket of a run that has ended, and so ends the mount namespace that waits in it; or that namespace itself, or whatever else keeps one or a mount.
 * Does not wait for that. *fd is -1 then, and may be so before. */
void server_let_go(struct server *server, int *fd);
/* How many are not closed yet. */
unsigned endings_left(const struct endings *endings);
/* Has another thread go on where all of them hang. When to look again, in milliseconds of CLOCK_MONOTONIC. */
int64_t endings_settle(struct endings *endings);

/* --- supervisor.c: one image's serving process: started, watched, replaced when it dies --- */

/* Opens devices for the image, which must stay where it is; then, in either order, starts the first process, and is told that the first device has its mount. */
int WARN_UNUSED supervised_new(struct supervised **out, const struct image *image, struct err *err);
int WARN_UNUSED supervised_start(struct supervised *serving, struct err *err);
int supervised_device(const struct supervised *serving);
int WARN_UNUSED supervised_mounted(struct supervised *serving, struct err *err);
/* See imagefs_shared_fill(): once, and not while the first run starts, which has one processor less meanwhile. */
void supervised_fill(struct supervised *serving);
/* Becomes readable when the process has something to say, or has ended; another one after it has. */
int supervised_channel(const struct supervised *serving);
enum supervised_news { NEWS_NONE, NEWS_OPENED, NEWS_FAILED, NEWS_ENDED, NEWS_REPLACED };
/* What it says. OPENED: it serves. FAILED: it could not open the image (`err`), or there is no way to go on: the devices are closed, whoever uses the mount gets
 * errors. ENDED: the mount and every use of it are gone. REPLACED: the channel is another one. */
enum supervised_news supervised_hear(struct supervised *serving, struct err *err);
/* Looks after it if that is due. When it is next, in milliseconds of CLOCK_MONOTONIC; INT64_MAX: there is no need to. */
int64_t supervised_settle(struct supervised *serving);
/* After a SIGCHLD: has it go on if a signal has stopped it. */
void supervised_resume(struct supervised *serving);
const struct imagefs_shared *supervised_shared(const struct supervised *serving);
pid_t supervised_pid(const struct supervised *serving);
unsigned supervised_replacements(const struct supervised *serving);
/* After a SIGCHLD, too: buries the process that fetches, when it has ended. */
void supervised_bury_fetcher(struct supervised *serving);
/* Ends that process, which keeps the mount in use; there will be no other. */
void supervised_leave(struct supervised *serving);
/* Whether a run is known that uses it: without one nothing is read ahead. */
void supervised_used(struct supervised *serving, bool used);
void supervised_free(struct supervised *serving);

int64_t server_now_ms(void);

/* --- server_statistics.c --- */

/* Writes what there is to tell, see server.h, as far as it fits; returns its length. */
size_t server_tell_statistics(const struct server_box *box, const struct image *images, unsigned bare_runs, char *text, size_t room);

/* --- serving.c: the process itself --- */

struct serving {
	const struct server_box *box;
	struct imagefs_shared *shared;
	const int *devices;
	int listening; /* see imagefs_listen(); or -1 */
	const struct stat *identity; /* a file that has become another is not served */
	int image, channel, record, fetcher; /* fetcher: see imagefs_config */
	uint64_t offset, size;
	uint64_t hot_offset, hot_size;
	bool is_mounted; /* else a byte that comes over the channel says that the devices have their mount */
	bool is_successor;
	const char *program, *search; /* that the first run starts, see server.h; empty: it is not known */
};
enum serving_says { SAYS_OPENED, SAYS_RECOVERED, SAYS_LOG, SAYS_WATCH, SAYS_FETCH };
struct serving_message {
	enum serving_says says;
	int rc;         /* SAYS_OPENED: negative errno when it could not */
	struct err err; /* SAYS_OPENED; SAYS_LOG: the text is its detail */
};
/* In the new process. Exit status 0: the mount has ended. */
NORETURN void serving_main(const struct serving *serving);

/* --- program_ahead.c --- */

/* Has a program decoded into the cache by a thread of its own, with its loader and its C library, until `asked`; what is given stays where it is. Empty: none. */
void program_ahead(struct squash *squash, const char *name, const char *search, const _Atomic bool *asked);

#endif
