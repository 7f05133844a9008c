#include "staged.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#include "memory.h"
#include "place.h"

#define STEP STAGED_STEP
#define PIECE (4u << 20)
#define UNUSED_SECONDS (7 * 24 * 3600)
#define UNUSED_SECONDS_MEMORY (24 * 3600)
#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC 0x01021994
#endif
#define RAMFS_MAGIC 0x858458f6

struct staging {
	int image;
	struct stat identity; /* of the image, when it was opened */
	const char *path;     /* of the copy */
	const char *name;
	int parent;
	bool memory;
};

static bool is_memory(const struct statfs *fs)
{
	return fs->f_type == TMPFS_MAGIC || fs->f_type == RAMFS_MAGIC;
}

/* --- what is there --- */

/* The copy, or -ENOENT when it is not there yet. Nobody else can have put it there: the directory is ours, and so must it be. */
static int open_copy(const struct staging *staging, struct err *err)
{
	cleanup_fd int fd = openat(staging->parent, staging->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const struct timespec used[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : fail(err, errno, STEP, "open %s", staging->path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) != 0)
		return fail(err, EPERM, STEP, "%s is not a file of yours alone", staging->path);
	if (st.st_size != staging->identity.st_size)
		return -ENOENT;
	/* For those who remove what is not used. From here on its time stays: what a server still reads ahead of a run that has ended is no use. */
	(void)!futimens(fd, used);
	(void)!fcntl(fd, F_SETFL, O_NOATIME | O_NONBLOCK);
	return steal_fd(&fd);
}

/* --- room --- */

static int check_room(const struct staging *staging, const struct statfs *fs, struct err *err)
{
	uint64_t size = (uint64_t)staging->identity.st_size, free_bytes = (uint64_t)fs->f_bavail * (uint64_t)fs->f_bsize;
	uint64_t available;

	if (size > free_bytes)
		return fail(err, ENOSPC, STEP, "it has %" PRIu64 " MB, and %.*s has %" PRIu64 " MB left", size >> 20, (int)(staging->name - staging->path), staging->path,
			free_bytes >> 20);
	if (!is_memory(fs))
		return 0;
	/* The programs of the image need some, too. */
	available = memory_available("") / 2;
	if (size > available)
		return fail(err, ENOMEM, STEP, "it has %" PRIu64 " MB, and half of the memory that is free for this job is %" PRIu64 " MB", size >> 20, available >> 20);
	return 0;
}

/* --- copying --- */

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec
		&& a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static int copy_bytes(const struct staging *staging, int to, struct err *err)
{
	char *piece cleanup_free = malloc(PIECE);
	off_t at = 0;

	if (piece == NULL)
		return fail(err, ENOMEM, STEP, "out of memory");
	posix_fadvise(staging->image, 0, 0, POSIX_FADV_SEQUENTIAL);
	while (at < staging->identity.st_size) {
		ssize_t got = RETRY(pread(staging->image, piece, PIECE, at));

		if (got <= 0)
			return fail(err, got < 0 ? errno : ESTALE, STEP, "reading it at %lld", (long long)at);
		if (write_full(to, piece, (size_t)got) < 0)
			return fail(err, errno, STEP, "writing %s", staging->path);
		at += got;
	}
	return 0;
}

/* All the room at once, so that a lack of it shows before the work. */
static int reserve(int fd, off_t size)
{
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size) == 0 || errno == EOPNOTSUPP || errno == ENOSYS ? 0 : -errno;
}

static int fill(const struct staging *staging, int fd, struct err *err)
{
	struct stat now;
	int result = staging->identity.st_size == 0 ? 0 : reserve(fd, staging->identity.st_size);

	if (result < 0)
		return fail(err, -result, STEP, "making room in %s", staging->path);
	result = copy_bytes(staging, fd, err);
	/* On disk before it has its name: after a crash of the machine a copy must not be complete in name only. */
	if (result == 0 && (fdatasync(fd) < 0 || fstat(staging->image, &now) < 0))
		return fail(err, errno, STEP, "writing %s", staging->path);
	if (result == 0 && !is_same(&now, &staging->identity))
		return fail(err, ESTALE, STEP, "it was changed meanwhile");
	/* The page cache need not hold it a second time. */
	if (result == 0)
		posix_fadvise(staging->image, 0, 0, POSIX_FADV_DONTNEED);
	return result;
}

/* Under the lock. */
static int make_copy(const struct staging *staging, struct err *err)
{
	char partial[NAME_MAX + 1];
	int result;

	snprintf(partial, sizeof partial, "%s.partial", staging->name);
	if (unlinkat(staging->parent, partial, 0) < 0 && errno != ENOENT)
		return fail(err, errno, STEP, "remove %s.partial, left by an interrupted run", staging->path);
	cleanup_fd int fd = openat(staging->parent, partial, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	if (fd < 0)
		return fail(err, errno, STEP, "make %s.partial", staging->path);
	result = fill(staging, fd, err);
	/* Who has removed our lock's file may have let another one begin. */
	if (result == 0 && !place_is_at(fd, staging->parent, partial))
		result = fail(err, ESTALE, STEP, "%s.partial was removed just now", staging->path);
	if (result == 0 && renameat(staging->parent, partial, staging->parent, staging->name) < 0)
		result = fail(err, errno, STEP, "name %s", staging->path);
	if (result < 0)
		unlinkat(staging->parent, partial, 0);
	return result;
}

/* --- removing what is of no use any more --- */

/* "DEVICE-INODE-" of a copy's name, or 0. */
static size_t file_part(const char *name)
{
	const char *dash = strchr(name, '-');

	dash = dash == NULL ? NULL : strchr(dash + 1, '-');
	return dash == NULL ? 0 : (size_t)(dash + 1 - name);
}

static bool is_useless(const struct staging *staging, const char *name, const struct stat *st, time_t now)
{
	time_t used = st->st_atim.tv_sec > st->st_mtim.tv_sec ? st->st_atim.tv_sec : st->st_mtim.tv_sec;
	size_t part = file_part(name);

	if (part > 0 && part == file_part(staging->name) && strncmp(name, staging->name, part) == 0)
		return true;
	return now - used > (staging->memory ? UNUSED_SECONDS_MEMORY : UNUSED_SECONDS);
}

/* `entry` is a copy, what is left of one, or a lock; all of it goes, unless somebody is at it. Runs that use a copy have it open and keep it. */
static void remove_if_useless(const struct staging *staging, const char *entry, time_t now)
{
	static const char *const endings[] = { ".partial", ".lock" };
	char name[NAME_MAX + 1], file[NAME_MAX + 16];
	struct stat st;

	snprintf(name, sizeof name, "%s", entry);
	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		size_t len = strlen(name), end = strlen(endings[i]);

		if (len > end && strcmp(name + len - end, endings[i]) == 0)
			name[len - end] = '\0';
	}
	if (strcmp(name, staging->name) == 0 || fstatat(staging->parent, entry, &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_useless(staging, name, &st, now))
		return;
	cleanup_fd int lock = place_try_lock(staging->parent, name);
	if (lock < 0)
		return;
	unlinkat(staging->parent, name, 0);
	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		snprintf(file, sizeof file, "%s%s", name, endings[i]);
		unlinkat(staging->parent, file, 0);
	}
}

static void remove_useless(const struct staging *staging)
{
	int fd = openat(staging->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);
	time_t now = time(NULL);

	for (struct dirent *entry; listing != NULL && (entry = readdir(listing)) != NULL;)
		if (entry->d_name[0] != '.')
			remove_if_useless(staging, entry->d_name, now);
	if (listing != NULL)
		closedir(listing);
	else
		close_fd(&fd);
}

/* --- --- */

static int copy_once(const struct staging *staging, const struct statfs *fs, struct err *err)
{
	cleanup_fd int lock = place_lock(staging->parent, staging->name, staging->path, STEP, err);
	int result = lock < 0 ? lock : open_copy(staging, err);

	if (result != -ENOENT)
		return result;
	/* What makes room goes first. */
	remove_useless(staging);
	result = check_room(staging, fs, err);
	if (result == 0)
		result = make_copy(staging, err);
	if (result < 0)
		return result;
	result = open_copy(staging, err);
	return result == -ENOENT ? fail(err, ESTALE, STEP, "%s was removed just now", staging->path) : result;
}

int staged_file(int image, const char *path, bool memory, struct err *err)
{
	struct staging staging = { .image = image, .path = path, .name = strrchr(path, '/') + 1, .memory = memory };
	struct statfs fs, own;
	struct stat place;
	int result;

	if (staging.name[0] == '\0' || staging.name[0] == '.' || strlen(staging.name) + sizeof ".partial" > NAME_MAX)
		return fail(err, EINVAL, STEP, "%s is no name for a file", path);
	if (fstat(image, &staging.identity) < 0 || fstatfs(image, &own) < 0)
		return fail(err, errno, STEP, "looking at it");
	cleanup_fd int parent = place_open_parent(path, STEP, err);
	if (parent < 0)
		return parent;
	if (fstat(parent, &place) < 0 || fstatfs(parent, &fs) < 0)
		return fail(err, errno, STEP, "looking at the place for %s", path);
	if (place.st_dev == staging.identity.st_dev || (memory && is_memory(&own)))
		return image;
	if (memory && !is_memory(&fs))
		return fail(err, ENOTSUP, STEP, "the place for %s is not in memory", path);
	staging.parent = parent;
	result = open_copy(&staging, err);
	return result == -ENOENT ? copy_once(&staging, &fs, err) : result;
}
