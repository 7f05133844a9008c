/* The new root: a skeleton above the image, merged by an overlay or, where the kernel refuses one, by binds. */
#ifndef TSRUN_ROOT_H
#define TSRUN_ROOT_H

#include "mount.h"
#include "path.h"

/* Directories above the image, by host paths: the lowest first. The paths belong to the plan. */
struct layers {
	const char **lower;
	size_t count;
	const char *upper; /* NULL: what is written is not kept */
	const char *work;
};

struct root {
	int scratch; /* a tmpfs of this run, mounted over "/": nothing of the host's tree is needed for it */
	const struct layers *layers;
	struct tree tree;
	int fd; /* the root itself, once sealed */
	bool shows_image_alone; /* it is a read-only overlay of skeleton and image */
};
#define ROOT_NONE ((struct root){.scratch = -1, .tree = TREE_NONE, .fd = -1})

/* What an image's mount is restricted to: it is never written, and its set-id bits and devices are not honoured, whatever it lies on. */
#define ROOT_IMAGE_FLAGS ((struct bind_flags){.read_only = true})

/* How the root is made: see plan.def. */
struct root_options {
	bool writable; /* by a tmpfs of `size` bytes (0: default) */
	bool in_place;
	bool set_ids;
	uint64_t size;
};

/* Mounts the scratch tmpfs, the image and its layers in it; root->tree is then ready for content. In a mount namespace of the run's own. Changes the
 * working directory. `layers` has to stay until the root is sealed. */
int WARN_UNUSED root_begin(struct root *root, struct mount_source *image, const struct layers *layers, const struct root_options *options, struct err *err);

/* Makes root->fd of skeleton, layers and image. */
int WARN_UNUSED root_seal(struct root *root, const struct root_options *options, struct err *err);

/* Makes a root->fd of skeleton and image in which places for more mounts can be made until it is taken; as many as are wanted, each with a `number` of its own. It is
 * attached nowhere, or (for kernels before 6.15, where nothing can be mounted in it then) over the scratch. -errno. */
int WARN_UNUSED root_grow(struct root *root, unsigned number, bool attached);

/* Makes `tree`, such a root with all its mounts, the root of another namespace: attaches it over "/", read-only. -errno. */
int WARN_UNUSED root_take(struct root *root, int tree);

/* Shows the image's directory NAME, right below its root, without the overlay, where that and the skeleton allow it; else does nothing. Once sealed. */
int WARN_UNUSED root_uncover(const struct root *root, const char *name, struct err *err);

/* Makes it the process's root, with "/" as working directory. `lets_go`: and unmounts the host's tree, as it must where the payload will have rights in the
 * mount namespace. Else that tree only lies below, out of reach, to the end of the run: unmounting costs a twentieth of a start (two waits for
 * all processors, and pivot_root looks at every process of the machine). */
int WARN_UNUSED root_enter(const struct root *root, bool lets_go, struct err *err);

#endif
