/* The process that reads one image and answers the kernel's requests for it. */
#include "server_internal.h"

#include "hot.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* The kernel's page cache gives way to programs, so more of the compressed image may wait there than decompressed here. */
#define ADVICE_PER_CACHE 8u

static void say(const struct serving *serving, const struct serving_message *message)
{
	/* When the supervisor is gone there is nobody to tell; the runs are served to their end all the same. */
	(void)!send(serving->channel, message, sizeof *message, MSG_NOSIGNAL);
}

static void say_log(void *ctx, const char *text)
{
	struct serving_message message = { .says = SAYS_LOG };

	snprintf(message.err.detail, sizeof message.err.detail, "%s", text);
	say(ctx, &message);
}

static void say_watch(void *ctx)
{
	say(ctx, &(struct serving_message) { .says = SAYS_WATCH });
}

static void say_fetch(void *ctx)
{
	say(ctx, &(struct serving_message) { .says = SAYS_FETCH });
}

static void say_recovered(void *ctx)
{
	say(ctx, &(struct serving_message) { .says = SAYS_RECOVERED });
}

/* --- only what is needed stays open: other images' devices and mounts would keep them alive --- */

/* Where images are mounted in the server's mount namespace (see server_images.c) this process would keep its own mount, and so itself, alive when the
 * server is killed: it leaves for a namespace without them. */
static void leave_mounts(void)
{
	DIR *listing = opendir(".");
	struct dirent *entry;
	bool left = false;

	while (listing != NULL && (entry = readdir(listing)) != NULL) {
		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		if (!left && unshare(CLONE_NEWNS) < 0)
			break;
		left = true;
		umount2(entry->d_name, MNT_DETACH);
	}
	if (listing != NULL)
		closedir(listing);
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void close_range_of_fds(unsigned first, unsigned last)
{
	if (first > last)
		return;
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, last, 0) == 0)
		return;
#endif
	long limit = sysconf(_SC_OPEN_MAX);
	for (unsigned fd = first; fd <= last && (long)fd < limit; fd++)
		close((int)fd);
}

static void close_all_but(int *kept, unsigned count)
{
	unsigned next = STDERR_FILENO + 1;

	qsort(kept, count, sizeof kept[0], compare_ints);
	for (unsigned i = 0; i < count; i++) {
		close_range_of_fds(next, (unsigned)kept[i] - 1);
		next = (unsigned)kept[i] + 1;
	}
	close_range_of_fds(next, UINT32_MAX);
}

static void close_others(const struct serving *serving)
{
	int kept[IMAGEFS_WORKERS_MAX + 5];
	unsigned count = serving->shared->workers;

	memcpy(kept, serving->devices, count * sizeof kept[0]);
	kept[count++] = serving->image;
	kept[count++] = serving->channel;
	if (serving->listening >= 0)
		kept[count++] = serving->listening;
	if (serving->record >= 0)
		kept[count++] = serving->record;
	if (serving->rests >= 0)
		kept[count++] = serving->rests;
	close_all_but(kept, count);
}

static bool is_still(int fd, const struct stat *then)
{
	struct stat now;

	return fstat(fd, &now) == 0 && now.st_size == then->st_size && now.st_mtim.tv_sec == then->st_mtim.tv_sec
		&& now.st_mtim.tv_nsec == then->st_mtim.tv_nsec;
}

/* --- what a run will want, if the image says so --- */

static uint64_t partition_size(const struct stat *file, uint64_t offset, uint64_t size)
{
	uint64_t whole = (uint64_t)file->st_size;

	return size != 0 ? size : offset < whole ? whole - offset : 0;
}

/* A successor need not: what its predecessor had asked for has come. */
static void advise(const struct serving *serving, struct hot_list *hot)
{
	struct err err = { 0 };

	if (serving->hot_size == 0)
		return;
	if (hot_list_read(hot, serving->image, serving->hot_offset, serving->hot_size, partition_size(serving->identity, serving->offset, serving->size), &err) < 0)
		say_log((void *)(uintptr_t)serving, err.detail); /* it would have been an advice */
	else
		hot_list_advise(hot, serving->image, serving->offset, serving->box->cache_bytes * ADVICE_PER_CACHE);
}

static int open_record(const struct serving *serving, struct hot_record **record, struct err *err)
{
	return serving->record < 0 ? 0 : hot_record_new(record, serving->record, serving->image, serving->offset, err);
}

static int open_image(const struct serving *serving, struct squash **squash, struct err *err)
{
	struct squash_cache *cache = squash_cache_new(serving->box->cache_bytes);
	int rc;

	if (cache == NULL)
		return fail(err, ENOMEM, SERVER_STEP_IMAGE, "out of memory");
	/* Old and new content are never mixed. */
	if (!is_still(serving->image, serving->identity))
		return fail(err, EIO, SERVER_STEP_IMAGE, "the file was changed in place while in use");
	rc = squash_open(squash, cache, serving->image, serving->offset, serving->size, err);
	if (rc == 0)
		squash_count_reads(*squash, &serving->shared->reading);
	return rc;
}

NORETURN void serving_main(const struct serving *serving)
{
	struct imagefs_config config = {
		.shared = serving->shared,
		.devices = serving->devices,
		.listening = serving->listening,
		.uid = serving->box->uid,
		.gid = serving->box->gid,
		.log = say_log,
		.watch = say_watch,
		.recovered = say_recovered,
		.rests = serving->rests,
		.fetch = say_fetch,
		.ctx = (void *)(uintptr_t)serving,
	};
	struct serving_message opened = { .says = SAYS_OPENED };
	struct hot_list hot = { .pieces = NULL };

	prctl(PR_SET_NAME, "tsrun-image");
	squash_reuse_memory();
	leave_mounts();
	close_others(serving);
	opened.rc = server_filter();
	if (opened.rc < 0)
		fail(&opened.err, -opened.rc, SERVER_STEP_SERVER, "confining the process that reads the image");
	else
		opened.rc = open_record(serving, &config.record, &opened.err);
	if (opened.rc == 0) {
		advise(serving, &hot);
		opened.rc = open_image(serving, &config.squash, &opened.err);
	}
	say(serving, &opened);
	if (opened.rc < 0)
		_exit(1);
	if (hot.asks_size > 0 && !atomic_exchange(&serving->shared->fetching, true))
		say_fetch((void *)(uintptr_t)serving);
	if (hot.count > 0)
		hot_list_load(&hot, config.squash, &serving->shared->unused);
	else
		program_ahead(config.squash, serving->program, serving->search);
	if (imagefs_serve(&config, &opened.err) == 0)
		_exit(0);
	say_log((void *)(uintptr_t)serving, opened.err.detail);
	_exit(1);
}

static void fetch_hot(const struct image *image, struct imagefs_shared *shared, int mount)
{
	struct hot_list hot = { .pieces = NULL };

	if (image->hot_size > 0)
		(void)!hot_list_read(&hot, image->fd, image->hot_offset, image->hot_size, partition_size(&image->identity, image->offset, image->size), NULL);
	close(image->fd);
	hot_list_fetch(&hot, mount, image->box->cache_bytes * ADVICE_PER_CACHE, &shared->unused);
	hot_list_free(&hot);
}

NORETURN void fetching_main(pid_t parent, const struct image *image, struct imagefs_shared *shared, int mount, int rests)
{
	int kept[] = { mount, rests, image->fd };

	prctl(PR_SET_NAME, "tsrun-rests");
	/* It is nothing without the server, and would keep the mount in use. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	close_all_but(kept, ARRAY_LEN(kept));
	atomic_store(&shared->fetcher, (uint32_t)getpid());
	fetch_hot(image, shared, mount);
	imagefs_fetch_rests(mount, rests);
	_exit(0);
}
