/* The images being served, and how a run gets at their mounts. */
#include "server_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif

#define NAME_SIZE 16

/* --- mounting ---
 *
 * From Linux 6.15 on any run can clone a mount that is attached nowhere. From 5.2 on only what is attached in one's own mount namespace can be cloned:
 * so it is attached here, and each run gets a clone of its own. Before that, clones of mounts cannot be handed on: runs enter this process's mount
 * namespace (box->view), where they find the image below the working directory, which lies over the runtime directory. */

static void name_of(const struct image *image, char name[NAME_SIZE])
{
	snprintf(name, NAME_SIZE, "%u", image->number);
}

static int attach(struct image *image, int mount, struct err *err)
{
	char name[NAME_SIZE];

	name_of(image, name);
	if (mkdir(name, 0700) < 0 || syscall(SYS_move_mount, mount, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fail(err, errno, SERVER_STEP_FUSE, "attaching the mount");
	return 0;
}

static int mount_modern(struct image *image, int device, struct err *err)
{
	const struct server_box *box = image->box;
	int cleanup_fd mount = imagefs_mount(device, box->uid, box->gid, err);

	if (mount < 0)
		return mount;
	if (box->detached < 0)
		return attach(image, mount, err);
	image->mount = steal_fd(&mount);
	return 0;
}

static int mount_old(struct image *image, int device, struct err *err)
{
	const struct server_box *box = image->box;
	char name[NAME_SIZE];
	int rc;

	name_of(image, name);
	if (mkdir(name, 0700) < 0)
		return fail(err, errno, SERVER_STEP_FUSE, "making a directory for the mount");
	rc = imagefs_mount_at(device, box->uid, box->gid, name, err);
	if (rc < 0)
		rmdir(name);
	return rc;
}

int image_root(const struct image *image)
{
	char name[NAME_SIZE];
	int root;

	name_of(image, name);
	root = image->mount >= 0 ? fcntl(image->mount, F_DUPFD_CLOEXEC, 0) : open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? -errno : root;
}

static void unmount(struct image *image)
{
	char name[NAME_SIZE];

	if (image->mount >= 0) {
		close_fd(&image->mount);
		return;
	}
	name_of(image, name);
	umount2(name, MNT_DETACH);
	rmdir(name);
}

int image_show(const struct image *image, struct wire_reply *reply, int *own, struct err *err)
{
	char name[NAME_SIZE];

	*own = -1;
	reply->number = image->number;
	if (image->mount >= 0) {
		reply->mount = WIRE_MOUNT_SHARED;
		return image->mount;
	}
	if (image->box->view >= 0) {
		reply->mount = WIRE_MOUNT_VIEW;
		reply->view_of = image->box->view_of;
		return image->box->view;
	}
	name_of(image, name);
	reply->mount = WIRE_MOUNT_OWN;
	*own = (int)syscall(SYS_open_tree, AT_FDCWD, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	return *own < 0 ? fail(err, errno, SERVER_STEP_FUSE, "cloning the mount") : *own;
}

/* --- the list --- */

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec
		&& a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static struct image *find(struct image *images, const struct stat *st, uint64_t offset, uint64_t size)
{
	struct image *image = images;

	while (image != NULL
		&& (image->state == IMAGE_LEAVING || image->ended || image->offset != offset || image->size != size || !same_file(&image->identity, st)))
		image = image->next;
	return image;
}

/* A process begins with the image before it is mounted, but not where it would see the mounts of this namespace (leave_mounts in serving.c). The mount answers nobody yet:
 * the first who looks into it waits for that process. */
static int mount_and_serve(struct image *image, struct err *err)
{
	bool at_once = image->box->detached >= 0, mounted = false;
	int rc = supervised_new(&image->serving, image, err);

	if (rc < 0)
		return rc;
	if (at_once)
		rc = supervised_start(image->serving, err);
	if (rc == 0) {
		int device = supervised_device(image->serving);

		rc = image->box->view >= 0 ? mount_old(image, device, err) : mount_modern(image, device, err);
		mounted = rc == 0;
	}
	if (rc == 0)
		rc = supervised_mounted(image->serving, err);
	if (rc == 0 && !at_once)
		rc = supervised_start(image->serving, err);
	if (rc < 0 && mounted)
		unmount(image);
	if (rc < 0)
		supervised_free(image->serving);
	return rc;
}

struct image *images_find_or_open(struct image **images, const struct server_box *box, const struct wire_request *request, int fd, int record, struct err *err)
{
	static uint32_t last_number;
	int cleanup_fd file = fd, cleanup_fd recording = record;
	struct image *image;
	struct stat st;

	if (fstat(file, &st) < 0 || !S_ISREG(st.st_mode)) {
		fail(err, EINVAL, SERVER_STEP_IMAGE, "it is not a regular file");
		return NULL;
	}
	image = find(*images, &st, request->offset, request->size);
	if (image != NULL)
		return image;
	image = calloc(1, sizeof *image);
	if (image == NULL) {
		fail(err, ENOMEM, SERVER_STEP_IMAGE, "out of memory");
		return NULL;
	}
	*image = (struct image) { .what = IMAGE, .box = box, .identity = st, .offset = request->offset, .size = request->size, .hot_offset = request->hot_offset, .hot_size = request->hot_size,
		.fd = file, .record = recording, .mount = -1, .number = ++last_number };
	snprintf(image->name, sizeof image->name, "%.*s", (int)sizeof image->name - 1, request->name);
	snprintf(image->program, sizeof image->program, "%.*s", (int)sizeof image->program - 1, request->program);
	snprintf(image->search, sizeof image->search, "%.*s", (int)sizeof image->search - 1, request->search);
	if (mount_and_serve(image, err) < 0) {
		free(image);
		return NULL;
	}
	steal_fd(&file);
	steal_fd(&recording);
	image->next = *images;
	*images = image;
	return image;
}

void image_leave(struct image *image)
{
	if (image->state != IMAGE_LEAVING) {
		supervised_leave(image->serving);
		unmount(image);
	}
	image->state = IMAGE_LEAVING;
}

void image_forget(struct image **images, struct image *image)
{
	struct image **at = images;

	while (*at != image)
		at = &(*at)->next;
	*at = image->next;
	image_leave(image);
	supervised_free(image->serving);
	close(image->fd);
	close_fd(&image->record);
	free(image);
}
