/* Host calls about files by name. */
#include "host_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define READDIR_BYTES_MAX ((size_t)1 << 20)

int64_t host_link_text(const char *path, struct host_reply *reply)
{
	ssize_t len;

	/* Into what room there is: a path's length on the stack would be a page more that a start touches. */
	while ((len = readlink(path, reply->data, reply->room)) == (ssize_t)reply->room) {
		if (len > PATH_MAX)
			return -ENAMETOOLONG;
		if (host_reply_room(reply, reply->room * 2) != 0)
			return -ENOMEM;
	}
	if (len < 0)
		return -errno;
	reply->len = (size_t)len;
	return 0;
}

/* At least `width` digits: a tenth of what printf takes. */
static int add_decimal(struct host_reply *reply, uint64_t number, size_t width)
{
	char digits[20];
	size_t at = sizeof digits;

	for (; number > 0 || sizeof digits - at < width; number /= 10)
		digits[--at] = (char)('0' + number % 10);
	return host_reply_add(reply, digits + at, sizeof digits - at);
}

static int list_time(struct host_reply *reply, struct timespec time)
{
	size_t begun = host_reply_list_begin(reply);
	bool early = time.tv_sec < 0;

	if ((early && host_reply_add(reply, "-", 1) != 0) || add_decimal(reply, early ? -(uint64_t)time.tv_sec : (uint64_t)time.tv_sec, 1) != 0 ||
	    host_reply_add(reply, ".", 1) != 0 || add_decimal(reply, (uint64_t)time.tv_nsec, 9) != 0)
		return -ENOMEM;
	return host_reply_list_end(reply, begun);
}

static int list_decimal(struct host_reply *reply, uint64_t number)
{
	size_t begun = host_reply_list_begin(reply);
	int error = add_decimal(reply, number, 1);

	return error != 0 ? error : host_reply_list_end(reply, begun);
}

int64_t host_list_stat(const struct stat *st, struct host_reply *reply)
{
	if (host_reply_list_number(reply, st->st_mode) != 0 || host_reply_list_number(reply, st->st_uid) != 0 ||
	    host_reply_list_number(reply, st->st_gid) != 0 || host_reply_list_number(reply, st->st_size) != 0)
		return -ENOMEM;
	if (list_time(reply, st->st_mtim) != 0 || list_time(reply, st->st_ctim) != 0 || list_decimal(reply, st->st_dev) != 0)
		return -ENOMEM;
	return list_decimal(reply, st->st_ino);
}

int64_t host_call_stat(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct stat st;

	return stat(args[0].bytes, &st) != 0 ? -errno : host_list_stat(&st, reply);
}

int64_t host_call_lstat(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct stat st;

	return lstat(args[0].bytes, &st) != 0 ? -errno : host_list_stat(&st, reply);
}

int64_t host_call_access(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply UNUSED)
{
	if (args[1].number < 0 || args[1].number > 7)
		return -EINVAL;
	return faccessat(AT_FDCWD, args[0].bytes, (int)args[1].number, AT_EACCESS) == 0 ? 0 : -errno;
}

int64_t host_call_same_file(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply UNUSED)
{
	struct stat one, other;

	return stat(args[0].bytes, &one) == 0 && stat(args[1].bytes, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

int64_t host_call_statfs(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply UNUSED)
{
	struct statfs fs;

	if (RETRY(statfs(args[0].bytes, &fs)) != 0)
		return -errno;
	return (uint32_t)fs.f_type;
}

int64_t host_call_readlink(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	return host_link_text(args[0].bytes, reply);
}

int64_t host_call_real_path(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	cleanup_fd int fd = open(args[0].bytes, O_PATH | O_CLOEXEC);
	char link[32];
	int64_t result;

	if (fd < 0)
		return -errno;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	result = host_link_text(link, reply);
	/* "(unreachable)…": it is outside the root directory. */
	return result == 0 && (reply->len == 0 || reply->data[0] != '/') ? -ENOENT : result;
}

static char type_letter(unsigned char type)
{
	switch (type) {
	case DT_REG:
		return 'f';
	case DT_DIR:
		return 'd';
	case DT_LNK:
		return 'l';
	case DT_CHR:
		return 'c';
	case DT_BLK:
		return 'b';
	case DT_FIFO:
		return 'p';
	case DT_SOCK:
		return 's';
	default:
		return '?';
	}
}

static void close_directory(DIR **directory)
{
	if (*directory != NULL)
		closedir(*directory);
}

int64_t host_call_readdir(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	__attribute__((cleanup(close_directory))) DIR *directory = NULL;
	int64_t left = args[1].number;

	if (left < 0)
		return -EINVAL;
	directory = opendir(args[0].bytes);
	if (directory == NULL)
		return -errno;
	reply->list = true;
	for (;;) {
		struct dirent *entry;
		size_t begun;
		char letter;

		errno = 0;
		entry = readdir(directory);
		if (entry == NULL)
			return -errno;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (left-- == 0 || reply->len > READDIR_BYTES_MAX)
			return -EOVERFLOW;
		letter = type_letter(entry->d_type);
		begun = host_reply_list_begin(reply);
		if (host_reply_add(reply, &letter, 1) != 0 || host_reply_add(reply, entry->d_name, strlen(entry->d_name)) != 0 ||
		    host_reply_list_end(reply, begun) != 0)
			return -ENOMEM;
	}
}

static bool begins(const char *path, const char *start)
{
	return strncmp(path, start, strlen(start)) == 0;
}

/* Pipes are only what the user's shell passed (`--env-file <(command)`). */
static bool is_from_shell(const char *path)
{
	return begins(path, "/dev/fd/") || begins(path, "/proc/self/fd/");
}

int host_refuse_kind(mode_t mode, bool directory_too, bool pipe_too)
{
	if (S_ISDIR(mode))
		return directory_too ? 0 : -EISDIR;
	return S_ISREG(mode) || (S_ISFIFO(mode) && pipe_too) ? 0 : -ENOTSUP;
}

/* In /dev, devices are turned away before they are opened (opening can already do something to them). Elsewhere a look before would be one more
 * journey to a file server. */
int host_open(const char *path, bool directory_too, bool pipe_too)
{
	struct stat st = {.st_mode = 0};
	int error, fd;

	if (is_from_shell(path) || begins(path, "/dev/")) {
		if (stat(path, &st) != 0)
			return -errno;
		error = host_refuse_kind(st.st_mode, directory_too, pipe_too);
		if (error != 0)
			return error;
	}
	/* Without O_NONBLOCK a pipe without writer would hang; with it, reading has to wait itself. (musl's open sets O_CLOEXEC twice, openat once.) */
	fd = RETRY(openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (S_ISFIFO(st.st_mode) ? 0 : O_NONBLOCK)));
	/* ENXIO: a socket, or a device that is none. */
	return fd >= 0 ? fd : errno == ENXIO ? -ENOTSUP : -errno;
}

/* A file that is read at once. What it is, is looked at (again) when it is open: the name may have changed hands. */
static int open_plain(const char *path, struct stat *st)
{
	bool pipe_too = is_from_shell(path);
	cleanup_fd int fd = host_open(path, false, pipe_too);
	int error;

	if (fd < 0)
		return fd;
	if (fstat(fd, st) != 0)
		return -errno;
	error = host_refuse_kind(st->st_mode, false, pipe_too);
	return error != 0 ? error : steal_fd(&fd);
}

/* Reads up to `limit` bytes, less only at the end of the file. */
static int64_t read_upto(int fd, const struct stat *st, int64_t offset, int64_t limit, struct host_reply *reply)
{
	bool seekable = !S_ISFIFO(st->st_mode);
	int64_t left = limit;

	if (offset < 0 || limit < 0 || limit > HOST_READ_MAX)
		return -EINVAL;
	if (!seekable && offset != 0)
		return -ESPIPE;
	while (left > 0) {
		/* Files of /proc say that they have no bytes. */
		int64_t rest = st->st_size > offset ? st->st_size - offset + 1 : 4096;
		size_t want = (size_t)(rest < left ? rest : left);
		ssize_t got;

		if (host_reply_room(reply, want) != 0)
			return -ENOMEM;
		got = seekable ? RETRY(pread(fd, reply->data + reply->len, want, offset)) : RETRY(read(fd, reply->data + reply->len, want));
		if (got < 0)
			return -errno;
		reply->len += (size_t)got;
		offset += got;
		left -= got;
		/* A file with a size gives all it has at once. */
		if (got == 0 || (S_ISREG(st->st_mode) && st->st_size > 0 && offset == st->st_size))
			break;
	}
	return 0;
}

int64_t host_call_read(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct stat st;
	cleanup_fd int fd = open_plain(args[0].bytes, &st);

	return fd < 0 ? fd : read_upto(fd, &st, args[1].number, args[2].number, reply);
}

int64_t host_read_whole(const char *path, struct host_reply *reply)
{
	struct stat st;
	cleanup_fd int fd = open_plain(path, &st);

	return fd < 0 ? fd : read_upto(fd, &st, 0, HOST_READ_MAX, reply);
}
