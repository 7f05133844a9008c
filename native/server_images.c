#include "server_internal.h"

#include <stdio.h>
#include <string.h>

static void wake_loop(struct image *image)
{
	uint64_t one = 1;

	while (write(image->wake, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void log_image(void *ctx, const char *text)
{
	struct image *image = ctx;

	server_log(image->box, text);
}

static void note_end(void *ctx)
{
	struct image *image = ctx;

	atomic_store(&image->ended, true);
	wake_loop(image);
}

/* In a thread of its own: a file system that hangs holds up the runs of this image, not those of others. */
static void *open_image(void *ctx)
{
	struct image *image = ctx;
	int device = -1;

	image->rc = squash_open(&image->squash, image->cache, image->fd, image->offset, image->size, &image->err);
	if (image->rc == 0)
		image->rc = imagefs_mount(image->box->device_path, image->box->uid, image->box->gid, &device, &image->mount, &image->err);
	if (image->rc == 0) {
		struct imagefs_config config = {
			.squash = image->squash,
			.device_path = image->box->device_path,
			.uid = image->box->uid,
			.gid = image->box->gid,
			.log = log_image,
			.ended = note_end,
			.ctx = image,
		};

		image->rc = imagefs_start(&image->fs, &config, device, &image->err);
	}
	atomic_store(&image->opened, true);
	wake_loop(image);
	return NULL;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec
		&& a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static struct image *find(struct image *images, const struct stat *st, uint64_t offset, uint64_t size)
{
	struct image *image = images;

	while (image != NULL
		&& (image->state == IMAGE_LEAVING || atomic_load(&image->ended) || image->offset != offset || image->size != size
			|| !same_file(&image->identity, st)))
		image = image->next;
	return image;
}

struct image *images_find_or_open(struct image **images, const struct server_box *box, struct squash_cache *cache, int wake, int fd, uint64_t offset,
	uint64_t size, struct err *err)
{
	struct image *image;
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		fail(err, EINVAL, SERVER_STEP_IMAGE, "it is not a regular file");
		close(fd);
		return NULL;
	}
	image = find(*images, &st, offset, size);
	if (image != NULL) {
		close(fd);
		return image;
	}
	image = calloc(1, sizeof *image);
	if (image == NULL) {
		fail(err, ENOMEM, SERVER_STEP_IMAGE, "out of memory");
		close(fd);
		return NULL;
	}
	*image = (struct image) { .box = box, .cache = cache, .wake = wake, .identity = st, .offset = offset, .size = size, .fd = fd, .mount = -1 };
	rc = -pthread_create(&image->opener, NULL, open_image, image);
	if (rc < 0) {
		fail(err, -rc, SERVER_STEP_IMAGE, "starting a thread");
		close(fd);
		free(image);
		return NULL;
	}
	image->next = *images;
	*images = image;
	return image;
}

void image_opened(struct image *image)
{
	pthread_join(image->opener, NULL);
	image->state = IMAGE_SERVING;
}

void image_leave(struct image *image)
{
	image->state = IMAGE_LEAVING;
	close_fd(&image->mount);
}

void image_forget(struct image **images, struct image *image)
{
	struct image **at = images;

	while (*at != image)
		at = &(*at)->next;
	*at = image->next;
	close_fd(&image->mount);
	imagefs_join(image->fs);
	squash_close(image->squash);
	close(image->fd);
	free(image);
}
