/* What a thread that fills files fails at is told with its cause. Here no file system keeps times. */
#include <sys/stat.h>

static int refuse(int fd, const struct timespec times[2]);
#define futimens refuse
#include "../../native/image_fill.c"
#undef futimens

#include "check.h"
#include "sample_tree.h"

static char top[] = "/tmp/tsrun-image-fill-test-XXXXXX";

static int refuse(int fd, const struct timespec times[2])
{
	(void)fd;
	(void)times;
	errno = EROFS;
	return -1;
}

int main(void)
{
	static const _Atomic int interrupted;
	char root[PATH_MAX], image[PATH_MAX];
	struct squash_cache *cache = squash_cache_new(1 << 20);
	struct image_fill *fill;
	struct squash_inode file;
	struct squash *sq;
	struct err err = { 0 };
	int fd, rc;

	if (mkdtemp(top) == NULL)
		sample_fail("mkdtemp");
	snprintf(root, sizeof root, "%s/root", top);
	snprintf(image, sizeof image, "%s/image", top);
	sample_make(root);
	sample_image(root, image, "-comp zstd");
	fd = open(image, O_RDONLY | O_CLOEXEC);
	CHECK("there is an image", squash_open(&sq, cache, fd, 0, 0, &err) == 0 && squash_resolve(sq, "files/10", true, &file, &err) == 0);
	CHECK("threads start", image_fill_new(&fill, sq, NULL, &interrupted, &err) == 0);
	rc = image_fill_give(fill, open(sample_text("%s/file", top), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), &file);
	rc = image_fill_end(fill, rc, &err);
	CHECK("a time that cannot be set is told as that", rc == -EROFS && err.errnum == EROFS && strcmp(err.detail, "setting the time of a file") == 0);
	squash_close(sq);
	squash_cache_free(cache);
	close(fd);
	sample_run("rm -rf %s", top);
	return check_end();
}
