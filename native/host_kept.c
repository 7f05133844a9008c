/* Host calls about files kept open, which are one and the same file for planner and launcher. */
#include "host_internal.h"

#include <string.h>
#include <sys/stat.h>

#define UNPACK_MAX ((size_t)64 << 10) /* bytes */

/* Where the descriptor of a handle is; NULL: there is none. */
static int *kept_file(struct host *host, int64_t handle)
{
	return handle >= 0 && handle < host->kept_count && host->kept[handle] >= 0 ? &host->kept[handle] : NULL;
}

int64_t host_call_open_keep(struct host *host, const struct host_value *args, struct host_reply *reply UNUSED)
{
	int fd;

	if (host->kept_count == HOST_KEPT_MAX)
		return -EMFILE;
	fd = host_open(args[0].bytes, true, false);
	if (fd < 0)
		return fd;
	host->kept[host->kept_count] = fd;
	return host->kept_count++;
}

/* Asks for what is wanted and no more: who calls knows how much there is. */
int64_t host_call_pread(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	const int *fd = kept_file(host, args[0].number);
	int64_t offset = args[1].number, left = args[2].number;

	if (fd == NULL)
		return -EBADF;
	if (offset < 0 || left < 0 || left > HOST_READ_MAX)
		return -EINVAL;
	if (host_reply_room(reply, (size_t)left) != 0)
		return -ENOMEM;
	while (left > 0) {
		ssize_t got = RETRY(pread(*fd, reply->data + reply->len, (size_t)left, offset));

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

int64_t host_call_fstat(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	const int *fd = kept_file(host, args[0].number);
	struct stat st;
	int error;

	if (fd == NULL)
		return -EBADF;
	if (fstat(*fd, &st) != 0)
		return -errno;
	error = host_refuse_kind(st.st_mode, true, false);
	return error != 0 ? error : host_list_stat(&st, reply);
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
	case 'E':
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

			if (value == 0 && letter == 'E')
				return 0;
			error = host_reply_list_number(reply, value > HOST_NUMBER_MAX ? -1 : (int64_t)value);
		}
		at += count * size;
	}
	return error;
}

int64_t host_call_unpack(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	const int *fd = kept_file(host, args[0].number);
	const char *layout = args[2].bytes;
	cleanup_free unsigned char *bytes = NULL;
	size_t size = 0, count;
	ssize_t got;
	char letter;

	if (fd == NULL)
		return -EBADF;
	while (size <= UNPACK_MAX && next_part(&layout, &letter, &count))
		size += count * field_size(letter);
	if (*layout != '\0' || size > UNPACK_MAX || args[1].number < 0)
		return -EINVAL;
	bytes = malloc(size + 1);
	if (bytes == NULL)
		return -ENOMEM;
	got = RETRY(pread(*fd, bytes, size, args[1].number));
	if (got < 0)
		return -errno;
	return (size_t)got < size ? -ENODATA : list_fields(bytes, args[2].bytes, reply);
}

int host_take_fd(void *context, int64_t handle)
{
	int *fd = kept_file(context, handle);

	return fd == NULL ? -EBADF : steal_fd(fd);
}
