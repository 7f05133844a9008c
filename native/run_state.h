/* The state of a run, between run.c (what is done inside) and enter.c (the way in). */
#ifndef TSRUN_RUN_STATE_H
#define TSRUN_RUN_STATE_H

#include <sys/stat.h>

#include "init.h"
#include "owners.h"
#include "root.h"
#include "run.h"
#include "server.h"

/* What is known of a mount operation before it is carried out. Without padding: it is compared as bytes. */
struct source {
	uint64_t device;
	uint64_t inode;
	uint64_t mount;   /* the kernel's number of the mount it lies on; 0: not told (before Linux 5.8) */
	int64_t born[2];  /* seconds and nanoseconds, as far as it is known */
	uint32_t mode;
	uint32_t left_out; /* optional and not possible */
};

struct run {
	const struct plan *plan;
	const struct kept_files *files;
	size_t index;           /* of the op in hand: what a failure is blamed on */
	size_t userns_index;
	struct source *sources; /* for each op */
	struct source here;     /* the caller's "/" */
	struct server_reply joined; /* how to get at the image's mount, and the scope's user namespace, if there is a scope */
	const char *record;     /* where the server writes what is touched of the image, or NULL */
	const struct op_hot *hot; /* or NULL */
	const struct op_stage *stage; /* or NULL */
	const struct op_image_mount *image_mount; /* or NULL */
	int image; /* its file, until it has been joined; or -1 */
	const char *image_directory;
	struct layers layers;
	struct root_options root_options;
	struct stat image_stat; /* of image_directory in the caller's view */
	int cwd; /* or -errno */
	bool own_pids;
	struct init init;
	struct owners owners;
	mode_t umask;
	struct server_left left; /* while a namespace is made that others are to enter (layout.h) */
	struct root root;
	struct mounted_path *mounted;
};

/* A payload that is uid 0 in the user namespace keeps all capabilities there; others lose them by exec. */
bool run_keeps_rights(const struct run *run);

/* Operations up to `unshare`: afterwards the run is in namespaces of its own, run->root ready for content. They return 0, or a negative
 * errno with run->index at the op to blame. */
int WARN_UNUSED enter_image_mount(struct run *run, const struct op_image_mount *op, struct err *err);
int WARN_UNUSED enter_image_directory(struct run *run, const char *path, struct err *err);
int WARN_UNUSED enter_image_extracted(struct run *run, const struct op_image_extracted *op, struct err *err);
int WARN_UNUSED enter_unshare(struct run *run, const struct op_unshare *op, struct err *err);

#endif
