#include "tar_in.h"

#include <string.h>

#define BLOCK 512u
#define META_MAX (1u << 20)

int tar_in_open(struct tar_in *in, int fd)
{
	*in = (struct tar_in) {.fd = fd, .buffer = malloc(TAR_IN_BUFFER)};
	return in->buffer == NULL ? -ENOMEM : 0;
}

void tar_in_close(struct tar_in *in)
{
	free(in->buffer);
	free(in->meta);
}

ssize_t tar_in_some(struct tar_in *in, const char **bytes, size_t len)
{
	if (in->start == in->end) {
		ssize_t got = RETRY(read(in->fd, in->buffer, TAR_IN_BUFFER));

		if (got <= 0)
			return got < 0 ? -errno : 0;
		in->start = 0;
		in->end = (size_t)got;
	}
	if (len > in->end - in->start)
		len = in->end - in->start;
	*bytes = in->buffer + in->start;
	in->start += len;
	return (ssize_t)len;
}

static int exactly(struct tar_in *in, void *into, size_t len)
{
	char *to = into;

	while (len > 0) {
		const char *bytes;
		ssize_t got = tar_in_some(in, &bytes, len);

		if (got <= 0)
			return got < 0 ? (int)got : -EPROTO;
		if (into != NULL) {
			memcpy(to, bytes, (size_t)got);
			to += got;
		}
		len -= (size_t)got;
	}
	return 0;
}

static size_t padding(uint64_t size)
{
	return (BLOCK - size % BLOCK) % BLOCK;
}

int tar_in_skip_padding(struct tar_in *in, uint64_t size)
{
	return exactly(in, NULL, padding(size));
}

static int octal(const char *field, size_t len, uint64_t *value)
{
	*value = 0;
	for (size_t i = 0; i < len && field[i] != '\0' && field[i] != ' '; i++) {
		if (field[i] < '0' || field[i] > '7')
			return -EPROTO;
		*value = *value << 3 | (uint64_t)(field[i] - '0');
	}
	return 0;
}

static int decimal(const char *text, size_t len, uint64_t *value)
{
	*value = 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9' || *value > UINT64_MAX / 10 - 1)
			return -EPROTO;
		*value = *value * 10 + (uint64_t)(text[i] - '0');
	}
	return len == 0 ? -EPROTO : 0;
}

static int take_text(char into[PATH_MAX], const char *text, size_t len)
{
	if (len >= PATH_MAX || memchr(text, 0, len) != NULL)
		return -ENAMETOOLONG;
	memcpy(into, text, len);
	into[len] = '\0';
	return 0;
}

/* "-5.75" is 5.75 seconds before 1970. */
static int take_time(struct timespec *time, const char *text, size_t len)
{
	const char *dot = memchr(text, '.', len);
	bool before = len > 0 && text[0] == '-';
	size_t whole = dot == NULL ? len : (size_t)(dot - text);
	size_t digits = dot == NULL ? 0 : len - whole - 1;
	uint64_t seconds, part = 0;

	if (decimal(text + before, whole - before, &seconds) < 0 || digits > 9 || (digits > 0 && decimal(dot + 1, digits, &part) < 0))
		return -EPROTO;
	for (; digits > 0 && digits < 9; digits++)
		part *= 10;
	time->tv_sec = before ? -(time_t)seconds - (part > 0) : (time_t)seconds;
	time->tv_nsec = before && part > 0 ? (long)(1000000000 - part) : (long)part;
	return 0;
}

static int take_record(struct tar_member *entry, const char *key, size_t key_len, const char *value, size_t len)
{
	uint64_t number;
	int result;

#define IS(name) (key_len == sizeof(name) - 1 && memcmp(key, name, key_len) == 0)
	if (IS("path"))
		return take_text(entry->path, value, len);
	if (IS("linkpath"))
		return take_text(entry->link, value, len);
	if (IS("mtime"))
		return take_time(&entry->mtime, value, len);
	if (!IS("size") && !IS("uid") && !IS("gid"))
		return 0;
	result = decimal(value, len, &number);
	if (result < 0)
		return result;
	if (IS("size"))
		entry->size = number;
	else if (IS("uid"))
		entry->uid = (uid_t)number;
	else
		entry->gid = (gid_t)number;
#undef IS
	return 0;
}

/* Each is "LENGTH KEY=VALUE\n". */
int tar_in_each_record(struct tar_in *in, tar_in_visit *visit, void *ctx)
{
	const char *at = in->meta, *end = in->meta + in->meta_len;

	while (at < end) {
		const char *blank = memchr(at, ' ', (size_t)(end - at));
		uint64_t len;

		if (blank == NULL || decimal(at, (size_t)(blank - at), &len) < 0 || len > (uint64_t)(end - at) || len < (uint64_t)(blank - at) + 2 || at[len - 1] != '\n')
			return -EPROTO;
		const char *key = blank + 1, *record_end = at + len - 1;
		const char *equals = memchr(key, '=', (size_t)(record_end - key));
		int result = equals == NULL ? -EPROTO : visit(ctx, key, (size_t)(equals - key), equals + 1, (size_t)(record_end - equals - 1));

		if (result < 0)
			return result;
		at += len;
	}
	return 0;
}

static int visit_fields(void *ctx, const char *key, size_t key_len, const char *value, size_t len)
{
	return take_record(ctx, key, key_len, value, len);
}

static int read_meta(struct tar_in *in, uint64_t size)
{
	if (size > META_MAX)
		return -EFBIG;
	free(in->meta);
	in->meta = malloc((size_t)size + 1);
	in->meta_len = (size_t)size;
	if (in->meta == NULL)
		return -ENOMEM;
	int result = exactly(in, in->meta, (size_t)size);
	return result < 0 ? result : tar_in_skip_padding(in, size);
}

int tar_in_next(struct tar_in *in, struct tar_member *entry)
{
	char block[BLOCK];
	uint64_t mode, uid, gid, mtime, major, minor;
	int result;

	in->meta_len = 0;
	for (;;) {
		result = exactly(in, block, BLOCK);
		if (result < 0)
			return result;
		if (block[0] == '\0')
			return 0;
		memset(entry, 0, sizeof *entry);
		entry->type = block[156];
		if (octal(block + 100, 8, &mode) < 0 || octal(block + 108, 8, &uid) < 0 || octal(block + 116, 8, &gid) < 0 || octal(block + 124, 12, &entry->size) < 0 ||
		    octal(block + 136, 12, &mtime) < 0 || octal(block + 329, 8, &major) < 0 || octal(block + 337, 8, &minor) < 0)
			return -EPROTO;
		if (entry->type != 'x')
			break;
		result = read_meta(in, entry->size);
		if (result < 0)
			return result;
	}
	entry->mode = (mode_t)mode & 07777;
	entry->uid = (uid_t)uid;
	entry->gid = (gid_t)gid;
	entry->mtime.tv_sec = (time_t)mtime;
	entry->major = (unsigned)major;
	entry->minor = (unsigned)minor;
	memcpy(entry->path, block, 100);
	memcpy(entry->link, block + 157, 100);
	result = tar_in_each_record(in, visit_fields, entry);
	for (size_t len = strlen(entry->path); len > 1 && entry->path[len - 1] == '/'; len--)
		entry->path[len - 1] = '\0';
	return result < 0 ? result : entry->path[0] == '\0' || entry->path[0] == '/' ? -EPROTO : 1;
}
