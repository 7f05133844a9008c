/* Paths inside a root that may be hostile: symbolic links are followed as if the root were "/", and nothing leads out of it. */
#ifndef TSRUN_PATH_H
#define TSRUN_PATH_H

#include <limits.h>
#include <sys/types.h>

#include "util.h"

/* Directories looked at as one, as an overlay would show them: what the skeleton has hides what the image has, directories of both are
 * merged. New names are made in the skeleton. Descriptors may be O_PATH; image may be -1. */
struct tree {
	int skeleton;
	int image;
	/* Where something will be mounted: what lies below is not looked at. May be NULL. */
	const struct mounted_path *mounted;
	size_t mounted_count;
	/* The directory in which the last file or link was made; the next is usually made there, too. */
	struct {
		bool open;
		char path[64]; /* as it was asked for; "" when that was longer */
		int skeleton, image;
	} last;
};
#define TREE_NONE ((struct tree){.skeleton = -1, .image = -1})
/* Lets go of the image, and of what was kept open; the skeleton stays the caller's. */
void tree_close(struct tree *tree);

struct mounted_path {
	size_t length;
	char *path; /* as in struct spot */
};

/* Where a path leads. */
struct spot {
	char path[PATH_MAX]; /* without links, "" for the root itself */
	mode_t mode;         /* type and permissions; 0: not there */
	bool below_mount;    /* the walk ended at a mounted path, `path`, with more to go */
};

/* Follows `path`. With `make` (a file type and permissions) what is missing is made: parents as 0755 directories, the last one as told.
 * Without, a missing name is no error (mode 0). -ELOOP after 40 links, -ENOTDIR when a file is in the way. The umask is to be 0. */
int WARN_UNUSED tree_walk(const struct tree *tree, const char *path, mode_t make, struct spot *spot, struct err *err);

/* The content operations of a plan (see plan.def). */
int WARN_UNUSED tree_directory(const struct tree *tree, const char *path, mode_t mode, struct err *err);
int WARN_UNUSED tree_file(struct tree *tree, const char *path, mode_t mode, const char *content, struct err *err);
int WARN_UNUSED tree_symlink(struct tree *tree, const char *path, const char *link, struct err *err);
int WARN_UNUSED tree_owner(struct tree *tree, const char *path, uid_t uid, gid_t gid, struct err *err);

/* An O_PATH descriptor of what `path` leads to inside `root`, mounts included; -errno without a message. */
int WARN_UNUSED path_open(int root, const char *path);

#endif
