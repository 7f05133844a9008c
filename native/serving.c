/* The process that reads one image and answers the kernel's requests for it. */
#include "server_internal.h"

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
	const struct serving *serving = ctx;

	if (serving->is_successor)
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

static void close_others(const struct serving *serving)
{
	const int own[] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, serving->image, serving->channel, serving->listening, serving->record, serving->fetcher };
	int kept[IMAGEFS_WORKERS_MAX + ARRAY_LEN(own)];
	unsigned devices = serving->shared->workers;

	memcpy(kept, own, sizeof own);
	memcpy(kept + ARRAY_LEN(own), serving->devices, devices * sizeof kept[0]);
	close_all_but(kept, ARRAY_LEN(own) + devices);
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

/* A successor need not ask for anything: what its predecessor had asked for has come. */
static void load(const struct serving *serving, struct hot_list *hot, struct squash *squash)
{
	bool asks = hot->asks_size > 0 && serving->fetcher >= 0 && !atomic_exchange(&serving->shared->fetching, true);

	if (asks)
		say_fetch((void *)(uintptr_t)serving);
	hot_list_load(hot, squash, asks ? serving->fetcher : -1, serving->box->cache_bytes * ADVICE_PER_CACHE, &serving->shared->unused);
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

/* Without a supervisor there will be none. */
static void await_mount(const struct serving *serving)
{
	char now;

	if (!serving->is_mounted && RETRY(read(serving->channel, &now, sizeof now)) <= 0)
		_exit(1);
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
		.fetcher = serving->fetcher,
		.fetch = say_fetch,
		.ctx = (void *)(uintptr_t)serving,
	};
	struct serving_message opened = { .says = SAYS_OPENED };
	struct hot_list hot = { .pieces = NULL };

	prctl(PR_SET_NAME, "tsrun-image");
	squash_reuse_memory();
	if (serving->box->detached < 0)
		leave_mounts();
	close_others(serving);
	opened.rc = serving_filter();
	if (opened.rc < 0)
		fail(&opened.err, -opened.rc, SERVER_STEP_SERVER, "confining the process that reads the image");
	else
		opened.rc = open_record(serving, &config.record, &opened.err);
	if (opened.rc == 0) {
		advise(serving, &hot);
		opened.rc = open_image(serving, &config.squash, &opened.err);
	}
	if (opened.rc < 0)
		await_mount(serving); /* what is left unread when this end closes takes away what was said */
	say(serving, &opened);
	if (opened.rc < 0)
		_exit(1);
	if (hot.count > 0)
		load(serving, &hot, config.squash);
	else if (!serving->is_successor) /* which finds no run that has not started its program yet, or hardly */
		program_ahead(config.squash, serving->program, serving->search, &serving->shared->read);
	await_mount(serving);
	if (imagefs_serve(&config, &opened.err) == 0)
		_exit(0);
	say_log((void *)(uintptr_t)serving, opened.err.detail);
	_exit(1);
}
