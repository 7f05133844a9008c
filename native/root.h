/* The new root: a skeleton above the image, merged by an overlay or, where the kernel refuses one, by binds. */
#ifndef TSRUN_ROOT_H
#define TSRUN_ROOT_H

#include "mount.h"
#include "path.h"

struct root {
	int scratch; /* a tmpfs of this run, mounted over "/": nothing of the host's tree is needed for it */
	struct tree tree;
	int fd; /* the root itself, once sealed */
};
#define ROOT_NONE ((struct root){.scratch = -1, .tree = TREE_NONE, .fd = -1})

/* What an image's mount is restricted to: it is never written, and its set-id bits and devices are not honoured, whatever it lies on. */
#define ROOT_IMAGE_FLAGS ((struct bind_flags){.read_only = true})

/* Mounts the scratch tmpfs and the image in it; root->tree is then ready for content. In a mount namespace of the run's own. Changes the
 * working directory. */
int WARN_UNUSED root_begin(struct root *root, struct mount_source *image, struct err *err);

/* Makes root->fd of skeleton and image; read-only, or with a tmpfs of `size` bytes (0: default) that takes writes. */
int WARN_UNUSED root_seal(struct root *root, bool writable, uint64_t size, struct err *err);

/* Makes it the process's root, with "/" as working directory. `lets_go`: and unmounts the host's tree, as it must where the payload will have rights in the
 * mount namespace. Else that tree only lies below, out of reach, to the end of the run: unmounting costs a twentieth of a start (two waits for
 * all processors, and pivot_root looks at every process of the machine). */
int WARN_UNUSED root_enter(const struct root *root, bool lets_go, struct err *err);

#endif
