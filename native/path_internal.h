/* Between path.c (the way through a tree) and path_content.c (what is made in it). */
#ifndef TSRUN_PATH_INTERNAL_H
#define TSRUN_PATH_INTERNAL_H

#include "path.h"

/* What failures of both are blamed on. */
#define STEP "prepare the target"

/* An O_PATH descriptor of what `path` (clean, relative to `root`) leads to when there is no symbolic link in it. -1 with errno: ELOOP when there is one, ENOSYS before Linux 5.6. */
int WARN_UNUSED path_open_plain(int root, const char *path, int flags);

/* The skeleton's directory for a resolved path that is a directory in one of the layers; made with the image's permissions, because in an
 * overlay the upper directory's attributes are the ones seen. -errno. */
int WARN_UNUSED tree_skeleton_directory(const struct tree *tree, const char *path);

#endif
