#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#define READDIR_BYTES_MAX ((size_t)1 << 20)
#define TRACE_BYTES_MAX ((size_t)8 << 20)

/* --- answers --- */

void host_reply_clear(struct host_reply *reply)
{
	reply->text = false;
	reply->len = 0;
	if (reply->data == NULL) {
		reply->data = reply->fixed;
		reply->room = sizeof reply->fixed;
	}
}

void host_reply_free(struct host_reply *reply)
{
	if (reply->data != reply->fixed)
		free(reply->data);
	reply->data = NULL;
	host_reply_clear(reply);
}

int host_reply_room(struct host_reply *reply, size_t more)
{
	size_t want, room;
	char *bigger;

	if (reply->data == NULL)
		host_reply_clear(reply);
	if (__builtin_add_overflow(reply->len, more, &want))
		return -ENOMEM;
	if (want <= reply->room)
		return 0;
	room = want > reply->room * 2 ? want : reply->room * 2;
	bigger = realloc(reply->data == reply->fixed ? NULL : reply->data, room);
	if (bigger == NULL)
		return -ENOMEM;
	if (reply->data == reply->fixed)
		memcpy(bigger, reply->fixed, reply->len);
	reply->data = bigger;
	reply->room = room;
	return 0;
}

int host_reply_add(struct host_reply *reply, const char *bytes, size_t len)
{
	if (host_reply_room(reply, len) != 0)
		return -ENOMEM;
	if (len > 0)
		memcpy(reply->data + reply->len, bytes, len);
	reply->len += len;
	return 0;
}

int host_reply_print(struct host_reply *reply, const char *format, ...)
{
	char line[512];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof line)
		return -EOVERFLOW;
	return host_reply_add(reply, line, (size_t)len);
}

/* One string of a list: its bytes and a NUL. */
static int add_string(struct host_reply *reply, const char *string)
{
	return host_reply_add(reply, string, strlen(string) + 1);
}

/* --- what the process was given --- */

static int64_t call_args(struct host *host, const struct host_value *args UNUSED, struct host_reply *reply)
{
	for (int i = 0; i < host->argc; i++)
		if (add_string(reply, host->argv[i]) != 0)
			return -ENOMEM;
	return 0;
}

static int64_t call_environ(struct host *host, const struct host_value *args UNUSED, struct host_reply *reply)
{
	for (char *const *entry = host->envp; entry != NULL && *entry != NULL; entry++)
		if (add_string(reply, *entry) != 0)
			return -ENOMEM;
	return 0;
}

static int64_t call_getcwd(struct host *host UNUSED, const struct host_value *args UNUSED, struct host_reply *reply)
{
	char path[PATH_MAX];

	if (getcwd(path, sizeof path) == NULL)
		return -errno;
	return host_reply_add(reply, path, strlen(path));
}

static int64_t call_ids(struct host *host UNUSED, const struct host_value *args UNUSED, struct host_reply *reply)
{
	cleanup_free gid_t *groups = NULL;
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;
	mode_t mask = umask(077); /* reading it means setting it */
	int count;

	umask(mask);
	if (getresuid(&ruid, &euid, &suid) != 0 || getresgid(&rgid, &egid, &sgid) != 0)
		return -errno;
	count = getgroups(0, NULL);
	if (count < 0)
		return -errno;
	groups = calloc((size_t)count + 1, sizeof *groups);
	if (groups == NULL)
		return -ENOMEM;
	count = getgroups(count, groups);
	if (count < 0)
		return -errno;
	if (host_reply_print(reply, "%u %u %u %u %u %u %o", ruid, euid, suid, rgid, egid, sgid, mask) != 0)
		return -ENOMEM;
	for (int i = 0; i < count; i++)
		if (host_reply_print(reply, " %u", groups[i]) != 0)
			return -ENOMEM;
	return 0;
}

static int64_t call_uname(struct host *host UNUSED, const struct host_value *args UNUSED, struct host_reply *reply)
{
	struct utsname name;

	if (uname(&name) != 0)
		return -errno;
	if (add_string(reply, name.sysname) != 0 || add_string(reply, name.nodename) != 0 || add_string(reply, name.release) != 0)
		return -ENOMEM;
	return add_string(reply, name.machine);
}

static int64_t link_text(const char *path, struct host_reply *reply)
{
	char text[PATH_MAX];
	ssize_t len = readlink(path, text, sizeof text);

	if (len < 0)
		return -errno;
	if ((size_t)len == sizeof text)
		return -ENAMETOOLONG;
	return host_reply_add(reply, text, (size_t)len);
}

static int64_t call_self_exe(struct host *host UNUSED, const struct host_value *args UNUSED, struct host_reply *reply)
{
	return link_text("/proc/self/exe", reply);
}

static int64_t call_isatty(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply UNUSED)
{
	if (args[0].number < 0 || args[0].number > 2)
		return -EINVAL;
	return isatty((int)args[0].number);
}

/* --- files by name --- */

static int64_t stat_at(int fd, const char *path, int flags, struct host_reply *reply)
{
	struct statx st;

	if (statx(fd, path, flags | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS, &st) != 0)
		return -errno;
	return host_reply_print(reply, "%o %o %u %u %llu %lld %u %lld %u %llu %llu %u", st.stx_mode & S_IFMT, st.stx_mode & 07777, st.stx_uid,
				st.stx_gid, (unsigned long long)st.stx_size, (long long)st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec,
				(long long)st.stx_ctime.tv_sec, st.stx_ctime.tv_nsec,
				(unsigned long long)makedev(st.stx_dev_major, st.stx_dev_minor), (unsigned long long)st.stx_ino, st.stx_nlink);
}

static int64_t call_stat(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	return stat_at(AT_FDCWD, args[0].bytes, 0, reply);
}

static int64_t call_lstat(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	return stat_at(AT_FDCWD, args[0].bytes, AT_SYMLINK_NOFOLLOW, reply);
}

static int64_t call_access(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply UNUSED)
{
	if (args[1].number < 0 || args[1].number > 7)
		return -EINVAL;
	return faccessat(AT_FDCWD, args[0].bytes, (int)args[1].number, AT_EACCESS) == 0 ? 0 : -errno;
}

static int64_t call_statfs(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct statfs fs;

	if (RETRY(statfs(args[0].bytes, &fs)) != 0)
		return -errno;
	return host_reply_print(reply, "%llu %llu %llu %llu %llu %llu %llu %llu", (unsigned long long)fs.f_type, (unsigned long long)fs.f_bsize,
				(unsigned long long)fs.f_blocks, (unsigned long long)fs.f_bfree, (unsigned long long)fs.f_bavail,
				(unsigned long long)fs.f_files, (unsigned long long)fs.f_ffree, (unsigned long long)fs.f_flags);
}

static int64_t call_readlink(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	return link_text(args[0].bytes, reply);
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

static int64_t call_readdir(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	__attribute__((cleanup(close_directory))) DIR *directory = NULL;
	int64_t left = args[1].number;

	if (left < 0)
		return -EINVAL;
	directory = opendir(args[0].bytes);
	if (directory == NULL)
		return -errno;
	for (;;) {
		struct dirent *entry;
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
		if (host_reply_add(reply, &letter, 1) != 0 || add_string(reply, entry->d_name) != 0)
			return -ENOMEM;
	}
}

/* Opens a regular file, or a directory where that will do. Devices are turned away before they are opened (opening can already do something to
 * them) and once more after: the name may have changed hands. Pipes are only what the user's shell passed (`--env-file <(command)`). */
static int open_plain(const char *path, bool directory_too, struct stat *st)
{
	bool from_shell = strncmp(path, "/dev/fd/", 8) == 0 || strncmp(path, "/proc/self/fd/", 14) == 0;
	cleanup_fd int fd = -1;
	int status;

	for (int look = 0; look < 2; look++) {
		if (look == 1) {
			/* Without O_NONBLOCK a pipe without writer would hang; with it, reading has to wait itself. */
			fd = RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (S_ISFIFO(st->st_mode) ? 0 : O_NONBLOCK)));
			if (fd < 0)
				return -errno;
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

/* Reads up to `limit` bytes, less only at the end of the file. `size` is a hint (0 for files of /proc). */
static int64_t read_upto(int fd, int64_t offset, int64_t limit, int64_t size, struct host_reply *reply)
{
	bool seekable = lseek(fd, 0, SEEK_CUR) >= 0;
	int64_t left = limit;

	if (offset < 0 || limit < 0 || limit > HOST_READ_MAX)
		return -EINVAL;
	if (!seekable && offset != 0)
		return -ESPIPE;
	while (left > 0) {
		int64_t rest = size > offset ? size - offset + 1 : 4096;
		size_t want = (size_t)(rest < left ? rest : left);
		ssize_t got;

		if (host_reply_room(reply, want) != 0)
			return -ENOMEM;
		got = seekable ? RETRY(pread(fd, reply->data + reply->len, want, offset)) : RETRY(read(fd, reply->data + reply->len, want));
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		reply->len += (size_t)got;
		offset += got;
		left -= got;
	}
	return 0;
}

static int64_t call_read(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct stat st;
	cleanup_fd int fd = open_plain(args[0].bytes, false, &st);

	return fd < 0 ? fd : read_upto(fd, args[1].number, args[2].number, st.st_size, reply);
}

/* --- files kept open --- */

static int *kept_fd(struct host *host, int64_t handle)
{
	return handle >= 0 && handle < host->kept_count && host->kept[handle] != 0 ? &host->kept[handle] : NULL;
}

static int64_t call_open_keep(struct host *host, const struct host_value *args, struct host_reply *reply UNUSED)
{
	struct stat st;
	cleanup_fd int fd = -1;

	if (host->kept_count == HOST_KEPT_MAX)
		return -EMFILE;
	fd = open_plain(args[0].bytes, true, &st);
	if (fd < 0)
		return fd;
	if (S_ISFIFO(st.st_mode))
		return -ENOTSUP;
	host->kept[host->kept_count] = steal_fd(&fd) + 1;
	return host->kept_count++;
}

static int64_t call_pread(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	int *kept = kept_fd(host, args[0].number);
	struct stat st;

	if (kept == NULL)
		return -EBADF;
	if (fstat(*kept - 1, &st) != 0)
		return -errno;
	return read_upto(*kept - 1, args[1].number, args[2].number, st.st_size, reply);
}

static int64_t call_fstat(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	int *kept = kept_fd(host, args[0].number);

	return kept == NULL ? -EBADF : stat_at(*kept - 1, "", AT_EMPTY_PATH, reply);
}

static int take_fd(void *context, int64_t handle)
{
	int *kept = kept_fd(context, handle);
	int fd;

	if (kept == NULL)
		return -EBADF;
	fd = *kept - 1;
	*kept = 0;
	return fd;
}

/* --- the rest --- */

static int64_t call_getent(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	return host_getent(args[0].bytes, args[1].bytes, reply);
}

static int64_t call_random(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	unsigned char bytes[64];
	size_t count = (size_t)args[0].number;

	if (args[0].number < 0 || count > sizeof bytes)
		return -EINVAL;
	if (RETRY(getrandom(bytes, count, 0)) != (ssize_t)count)
		return -EIO;
	for (size_t i = 0; i < count; i++)
		if (host_reply_print(reply, "%02x", bytes[i]) != 0)
			return -ENOMEM;
	return 0;
}

/* Names from outside may hold terminal controls: they are shown as "?". */
static int64_t call_log(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	if (host_reply_add(reply, args[0].bytes, args[0].len) != 0)
		return -ENOMEM;
	for (size_t i = 0; i < reply->len; i++) {
		unsigned char c = (unsigned char)reply->data[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			reply->data[i] = '?';
	}
	if (host_reply_add(reply, "\n", 1) != 0)
		return -ENOMEM;
	return write_full(STDERR_FILENO, reply->data, reply->len);
}

static int64_t call_trace(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	if (args[0].number == 1) {
		host_reply_clear(&host->trace);
		host->tracing = true;
		return 0;
	}
	return host_reply_add(reply, host->trace.data, host->trace.len);
}

/* --- the table --- */

struct call {
	const char *name;
	const char *arguments;
	int64_t (*run)(struct host *host, const struct host_value *args, struct host_reply *reply);
};

static const struct call calls[] = {
#define CALL(number, call_name, call_arguments) [number] = {.name = #call_name, .arguments = call_arguments, .run = call_##call_name},
#include "host.def"
#undef CALL
};

/* Which calls answer with a number: the others answer with text. */
static bool answers_number(uint32_t number, const struct host_value *args)
{
	switch (number) {
	case HOST_isatty:
	case HOST_access:
	case HOST_open_keep:
	case HOST_log:
		return true;
	case HOST_trace:
		return args[0].number == 1;
	default:
		return false;
	}
}

static bool arguments_fit(const struct call *call, const struct host_value *args, size_t count)
{
	if (strlen(call->arguments) != count)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (call->arguments[i] == 'n' && args[i].bytes != NULL)
			return false;
		if (call->arguments[i] == 's' && (args[i].bytes == NULL || memchr(args[i].bytes, 0, args[i].len) != NULL))
			return false;
	}
	return true;
}

static void record(struct host *host, const struct call *call, const struct host_value *args, size_t count, int64_t result)
{
	struct host_reply *trace = &host->trace;
	char number[24];
	int failed = add_string(trace, call->name);

	if (!failed && count > 0 && args[0].bytes != NULL)
		failed = host_reply_add(trace, args[0].bytes, args[0].len);
	if (!failed && count > 0 && args[0].bytes == NULL) {
		snprintf(number, sizeof number, "%lld", (long long)args[0].number);
		failed = host_reply_add(trace, number, strlen(number));
	}
	snprintf(number, sizeof number, "%lld", (long long)result);
	failed = failed || host_reply_add(trace, "", 1) || add_string(trace, number);
	if (failed || trace->len > TRACE_BYTES_MAX)
		host->tracing = false;
}

int64_t host_call(void *context, uint32_t number, const struct host_value *args, size_t count, struct host_reply *reply)
{
	struct host *host = context;
	const struct call *call = number < ARRAY_LEN(calls) ? &calls[number] : NULL;
	bool tracing = host->tracing;
	int64_t result;

	host_reply_clear(reply);
	if (call == NULL || call->run == NULL)
		return -ENOSYS;
	if (!arguments_fit(call, args, count))
		return -EINVAL;
	result = call->run(host, args, reply);
	reply->text = result == 0 && !answers_number(number, args);
	if (tracing && number != HOST_trace)
		record(host, call, args, count, reply->text ? (int64_t)reply->len : result);
	return result;
}

struct host_ops host_ops_of(struct host *host)
{
	return (struct host_ops){.call = host_call, .take_fd = take_fd, .context = host};
}

void host_release(struct host *host)
{
	for (int i = 0; i < host->kept_count; i++)
		if (host->kept[i] != 0)
			close(host->kept[i] - 1);
	host->kept_count = 0;
	host_reply_free(&host->trace);
}
