/* The state of a run, between run.c (what is done inside) and enter.c (the way in). */
#ifndef TSRUN_RUN_STATE_H
#define TSRUN_RUN_STATE_H

#include <sys/stat.h>

#include "init.h"
#include "owners.h"
#include "root.h"
#include "run.h"
#include "server.h"

/* What is known of a mount operation before it is carried out. */
struct source {
	dev_t device;
	ino_t inode;
	mode_t mode;
	bool left_out; /* optional and not possible */
};

struct run {
	const struct plan *plan;
	const struct kept_files *files;
	size_t index;           /* of the op in hand: what a failure is blamed on */
	size_t userns_index;
	struct source *sources; /* for each op */
	struct server_reply joined; /* how to get at the image's mount, and the scope's user namespace, if there is a scope */
	const char *record;     /* where the server writes what is touched of the image, or NULL */
	const struct op_hot *hot; /* or NULL */
	const struct op_stage *stage; /* or NULL */
	const char *image_directory;
	struct layers layers;
	struct root_options root_options;
	struct stat image_stat; /* of image_directory in the caller's view */
	int cwd; /* or -errno */
	bool own_pids;
	struct init init;
	struct owners owners;
	mode_t umask;
	struct root root;
	struct mounted_path *mounted;
};

/* Operations up to `unshare`: afterwards the run is in namespaces of its own, run->root ready for content. They return 0, or a negative
 * errno with run->index at the op to blame. */
int WARN_UNUSED enter_image_mount(struct run *run, const struct op_image_mount *op, struct err *err);
int WARN_UNUSED enter_image_directory(struct run *run, const char *path, struct err *err);
int WARN_UNUSED enter_image_extracted(struct run *run, const struct op_image_extracted *op, struct err *err);
int WARN_UNUSED enter_unshare(struct run *run, const struct op_unshare *op, struct err *err);

#endif
