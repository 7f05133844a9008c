/* Host calls about files: by name, and kept open. */
#include "host_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define UNPACK_MAX ((size_t)64 << 10) /* bytes */
#define READDIR_BYTES_MAX ((size_t)1 << 20)

/* --- files by name --- */

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

static int64_t list_stat(const struct stat *st, struct host_reply *reply)
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

	return stat(args[0].bytes, &st) != 0 ? -errno : list_stat(&st, reply);
}

int64_t host_call_lstat(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct stat st;

	return lstat(args[0].bytes, &st) != 0 ? -errno : list_stat(&st, reply);
}

int64_t host_call_access(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply UNUSED)
{
	if (args[1].number < 0 || args[1].number > 7)
		return -EINVAL;
	return faccessat(AT_FDCWD, args[0].bytes, (int)args[1].number, AT_EACCESS) == 0 ? 0 : -errno;
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

/* Opens a regular file, or a directory where that will do. In /dev, devices are turned away before they are opened (opening can already do
 * something to them) and once more after: the name may have changed hands. Elsewhere a look before would be one more journey to a file server.
 * Pipes are only what the user's shell passed (`--env-file <(command)`). */
static int open_plain(const char *path, bool directory_too, struct stat *st)
{
	bool from_shell = begins(path, "/dev/fd/") || begins(path, "/proc/self/fd/");
	cleanup_fd int fd = -1;
	int status;

	st->st_mode = 0;
	for (int look = from_shell || begins(path, "/dev/") ? 0 : 1; look < 2; look++) {
		if (look == 1) {
			/* Without O_NONBLOCK a pipe without writer would hang; with it, reading has to wait itself. (musl's open sets O_CLOEXEC twice, openat once.) */
			fd = RETRY(openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (S_ISFIFO(st->st_mode) ? 0 : O_NONBLOCK)));
			/* ENXIO: a socket, or a device that is none. */
			if (fd < 0)
				return errno == ENXIO ? -ENOTSUP : -errno;
		}
		status = look == 0 ? stat(path, st) : fstat(fd, st);
		if (status != 0)
			return -errno;
		if (S_ISDIR(st->st_mode) && !directory_too)
			return -EISDIR;
		if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !(S_ISFIFO(st->st_mode) && from_shell))
			return -ENOTSUP;
	}
	return steal_fd(&fd);
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
	cleanup_fd int fd = open_plain(args[0].bytes, false, &st);

	return fd < 0 ? fd : read_upto(fd, &st, args[1].number, args[2].number, reply);
}

/* Is the field that begins at `at` one of `wanted`, which colons separate? Lines end with a newline. */
static bool is_wanted(const char *at, const char *wanted)
{
	for (;; wanted++) {
		size_t same = 0;

		while (at[same] == wanted[same] && at[same] != ':' && at[same] != '\n' && at[same] != '\0')
			same++;
		wanted += same;
		if ((at[same] == ':' || at[same] == '\n') && (*wanted == ':' || *wanted == '\0'))
			return true;
		while (*wanted != ':')
			if (*wanted++ == '\0')
				return false;
	}
}

/* `starts`: the first chars of what is wanted, by which nearly all fields are told at once. */
static bool has_field(const char *line, const char *wanted, const bool starts[UCHAR_MAX + 1])
{
	for (const char *at = line; !(starts[(unsigned char)*at] && is_wanted(at, wanted)); at++) {
		while (*at != ':')
			if (*at++ == '\n')
				return false;
	}
	return true;
}

int64_t host_call_lines(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct stat st;
	cleanup_fd int fd = open_plain(args[0].bytes, false, &st);
	int64_t error = fd < 0 ? fd : read_upto(fd, &st, 0, HOST_READ_MAX, reply);
	bool starts[UCHAR_MAX + 1] = {false};
	char *kept;

	if (error != 0)
		return error;
	for (const char *value = args[1].bytes; value != NULL; value = strchr(value, ':')) {
		value += *value == ':';
		starts[(unsigned char)*value] = true;
	}
	if (reply->len == HOST_READ_MAX)
		return -EFBIG;
	if (reply->len > 0 && reply->data[reply->len - 1] != '\n' && (error = host_reply_add(reply, "\n", 1)) != 0)
		return error;
	kept = reply->data;
	for (char *line = reply->data, *end = reply->data + reply->len, *next; line < end; line = next) {
		next = (char *)memchr(line, '\n', (size_t)(end - line)) + 1;
		if (!has_field(line, args[1].bytes, starts))
			continue;
		memmove(kept, line, (size_t)(next - line));
		kept += next - line;
	}
	reply->len = (size_t)(kept - reply->data);
	return 0;
}

/* --- files kept open --- */

static struct host_kept *kept_file(struct host *host, int64_t handle)
{
	return handle >= 0 && handle < host->kept_count && host->kept[handle].fd >= 0 ? &host->kept[handle] : NULL;
}

int64_t host_call_open_keep(struct host *host, const struct host_value *args, struct host_reply *reply UNUSED)
{
	struct host_kept kept;
	cleanup_fd int fd = -1;

	if (host->kept_count == HOST_KEPT_MAX)
		return -EMFILE;
	fd = open_plain(args[0].bytes, true, &kept.stat);
	if (fd < 0)
		return fd;
	if (S_ISFIFO(kept.stat.st_mode))
		return -ENOTSUP;
	kept.fd = steal_fd(&fd);
	host->kept[host->kept_count] = kept;
	return host->kept_count++;
}

int64_t host_call_pread(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	const struct host_kept *kept = kept_file(host, args[0].number);

	return kept == NULL ? -EBADF : read_upto(kept->fd, &kept->stat, args[1].number, args[2].number, reply);
}

int64_t host_call_fstat(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	const struct host_kept *kept = kept_file(host, args[0].number);

	return kept == NULL ? -EBADF : list_stat(&kept->stat, reply);
}

/* --- fields of a kept file --- */

static uint64_t little_endian(const unsigned char *bytes, size_t size)
{
	uint64_t value = 0;

	while (size-- > 0)
		value = value << 8 | bytes[size];
	return value;
}

static size_t field_size(char letter)
{
	switch (letter) {
	case 'x':
	case 's':
	case 'B':
		return 1;
	case 'H':
		return 2;
	case 'I':
		return 4;
	case 'Q':
		return 8;
	default:
		return 0;
	}
}

/* Takes the next part of a layout: a letter, and how many of it. False: there is none, or it is not one. */
static bool next_part(const char **layout, char *letter, size_t *count)
{
	const char *at = *layout;
	size_t number = 0;

	for (; *at >= '0' && *at <= '9' && number <= UNPACK_MAX; at++)
		number = number * 10 + (size_t)(*at - '0');
	if (field_size(*at) == 0 || number > UNPACK_MAX)
		return false;
	*letter = *at;
	*count = number == 0 ? 1 : number;
	*layout = at + 1;
	return true;
}

static int64_t list_fields(const unsigned char *at, const char *layout, struct host_reply *reply)
{
	int64_t error = 0;
	size_t count;
	char letter;

	reply->list = true;
	while (error == 0 && next_part(&layout, &letter, &count)) {
		size_t size = field_size(letter);

		if (letter == 's') {
			size_t begun = host_reply_list_begin(reply);

			error = host_reply_add(reply, (const char *)at, strnlen((const char *)at, count));
			if (error == 0)
				error = host_reply_list_end(reply, begun);
		}
		for (size_t i = 0; error == 0 && letter != 's' && letter != 'x' && i < count; i++) {
			uint64_t value = little_endian(at + i * size, size);

			error = host_reply_list_number(reply, value > HOST_NUMBER_MAX ? -1 : (int64_t)value);
		}
		at += count * size;
	}
	return error;
}

int64_t host_call_unpack(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	const struct host_kept *kept = kept_file(host, args[0].number);
	const char *layout = args[2].bytes;
	cleanup_free unsigned char *bytes = NULL;
	size_t size = 0, count;
	ssize_t got;
	char letter;

	if (kept == NULL)
		return -EBADF;
	while (size <= UNPACK_MAX && next_part(&layout, &letter, &count))
		size += count * field_size(letter);
	if (*layout != '\0' || size > UNPACK_MAX || args[1].number < 0)
		return -EINVAL;
	bytes = malloc(size + 1);
	if (bytes == NULL)
		return -ENOMEM;
	got = RETRY(pread(kept->fd, bytes, size, args[1].number));
	if (got < 0)
		return -errno;
	return (size_t)got < size ? -ENODATA : list_fields(bytes, args[2].bytes, reply);
}

int host_take_fd(void *context, int64_t handle)
{
	struct host_kept *kept = kept_file(context, handle);

	return kept == NULL ? -EBADF : steal_fd(&kept->fd);
}
