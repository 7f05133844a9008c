#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "owners.h"
#include "statx.h"

#define STEP "read the table of owners"
#define TABLE_MAX (1u << 30)
#define LINE_MAX_BYTES 256

size_t owner_format(const struct owner_record *record, char text[OWNER_TEXT_MAX])
{
	int len = snprintf(text, OWNER_TEXT_MAX, "%u:%u", record->uid, record->gid);

	if (record->device != 0)
		len += snprintf(text + len, OWNER_TEXT_MAX - (size_t)len, " %c %u:%u", record->device, record->major, record->minor);
	return (size_t)len;
}

/* --- reading: `*at` moves on, never beyond `end` --- */

static bool take_number(const char **at, const char *end, uint64_t max, uint64_t *out)
{
	const char *start = *at;
	uint64_t value = 0;

	while (*at < end && **at >= '0' && **at <= '9') {
		if (mul_overflows(value, 10, &value) || add_overflows(value, (uint64_t)(**at - '0'), &value))
			return false;
		(*at)++;
	}
	*out = value;
	return *at > start && value <= max && !(*start == '0' && *at > start + 1);
}

static bool take_char(const char **at, const char *end, char wanted)
{
	if (*at == end || **at != wanted)
		return false;
	(*at)++;
	return true;
}

static bool take_pair(const char **at, const char *end, uint32_t *first, uint32_t *second)
{
	uint64_t a, b;

	if (!take_number(at, end, UINT32_MAX, &a) || !take_char(at, end, ':') || !take_number(at, end, UINT32_MAX, &b))
		return false;
	*first = (uint32_t)a;
	*second = (uint32_t)b;
	return true;
}

int owner_parse(const char *text, size_t len, struct owner_record *record)
{
	const char *at = text, *end = text + len;
	struct owner_record read = {0};

	if (!take_pair(&at, end, &read.uid, &read.gid) || read.uid == UINT32_MAX || read.gid == UINT32_MAX)
		return -EPROTO;
	if (at < end) {
		if (!take_char(&at, end, ' ') || at == end || (*at != 'c' && *at != 'b'))
			return -EPROTO;
		read.device = *at++;
		if (!take_char(&at, end, ' ') || !take_pair(&at, end, &read.major, &read.minor) || at != end)
			return -EPROTO;
	}
	*record = read;
	return 0;
}

/* --- the table --- */

int owner_key_of(int fd, struct owner_key *key)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &st) < 0)
		return -errno;
	*key = (struct owner_key){.device = makedev(st.stx_dev_major, st.stx_dev_minor), .inode = st.stx_ino};
	if ((st.stx_mask & STATX_BTIME) != 0) {
		key->seconds = st.stx_btime.tv_sec;
		key->nanoseconds = st.stx_btime.tv_nsec;
	}
	return 0;
}

/* FNV-1a. Whoever looks for collisions changes owners in directories of his own. */
static uint64_t hash_of(const char *text, uint64_t start)
{
	uint64_t hash = start;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
	return hash;
}

struct owner_key owner_key_of_path(const char *path)
{
	if (path[0] == '.' && path[1] == '/')
		path += 2;
	return (struct owner_key){.inode = hash_of(path, 0xcbf29ce484222325u), .seconds = (int64_t)(hash_of(path, 0x9e3779b97f4a7c15u) >> 1)};
}

struct slot {
	bool used;
	struct owner_key key;
	struct owner_record record;
};

struct owner_table {
	int fd;
	struct slot *slots;
	size_t count, cap; /* cap is a power of two */
};

static bool same_key(const struct owner_key *a, const struct owner_key *b)
{
	return a->inode == b->inode && a->device == b->device && a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

static struct slot *slot_of(const struct owner_table *table, const struct owner_key *key)
{
	uint64_t mixed = (key->inode ^ key->device << 40 ^ (uint64_t)key->seconds << 20 ^ key->nanoseconds) * 0x9e3779b97f4a7c15u;
	size_t at = (size_t)(mixed >> 24) & (table->cap - 1);

	while (table->slots[at].used && !same_key(&table->slots[at].key, key))
		at = (at + 1) & (table->cap - 1);
	return &table->slots[at];
}

static int remember(struct owner_table *table, const struct owner_key *key, const struct owner_record *record)
{
	struct slot *slot;

	if (table->count * 2 >= table->cap) {
		struct owner_table bigger = {.cap = table->cap == 0 ? 256 : table->cap * 2};

		bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
		if (bigger.slots == NULL)
			return -ENOMEM;
		for (size_t i = 0; i < table->cap; i++) {
			if (table->slots[i].used)
				*slot_of(&bigger, &table->slots[i].key) = table->slots[i];
		}
		free(table->slots);
		table->slots = bigger.slots;
		table->cap = bigger.cap;
	}
	slot = slot_of(table, key);
	table->count += !slot->used;
	*slot = (struct slot){.used = true, .key = *key, .record = *record};
	return 0;
}

static bool read_line(const char *at, const char *end, struct owner_key *key, struct owner_record *record)
{
	uint64_t seconds, nanoseconds;
	bool negative;

	if (!take_number(&at, end, UINT64_MAX, &key->device) || !take_char(&at, end, ' ') || !take_number(&at, end, UINT64_MAX, &key->inode) ||
	    !take_char(&at, end, ' '))
		return false;
	negative = take_char(&at, end, '-');
	if (!take_number(&at, end, INT64_MAX, &seconds) || !take_char(&at, end, '.') || !take_number(&at, end, 999999999, &nanoseconds) ||
	    !take_char(&at, end, ' '))
		return false;
	key->seconds = negative ? -(int64_t)seconds : (int64_t)seconds;
	key->nanoseconds = (uint32_t)nanoseconds;
	return owner_parse(at, (size_t)(end - at), record) == 0;
}

static int read_lines(struct owner_table *table, const char *path, const char *text, size_t len, struct err *err)
{
	const char *at = text, *newline;
	size_t number = 1;

	for (; (newline = memchr(at, '\n', len - (size_t)(at - text))) != NULL; at = newline + 1, number++) {
		struct owner_key key;
		struct owner_record record;

		if (!read_line(at, newline, &key, &record))
			return fail(err, EPROTO, STEP, "%s: line %zu is none", path, number);
		if (remember(table, &key, &record) < 0)
			return fail(err, ENOMEM, STEP, "%s", path);
	}
	return 0;
}

static int read_table(struct owner_table *table, const char *path, struct err *err)
{
	struct stat st;
	cleanup_free char *text = NULL;
	size_t len = 0;

	if (fstat(table->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > TABLE_MAX)
		return fail(err, errno == 0 ? EFBIG : errno, STEP, "%s", path);
	text = malloc((size_t)st.st_size + 1);
	if (text == NULL)
		return fail(err, ENOMEM, STEP, "%s", path);
	while (len < (size_t)st.st_size) {
		ssize_t got = RETRY(pread(table->fd, text + len, (size_t)st.st_size - len, (off_t)len));

		if (got < 0)
			return fail(err, errno, STEP, "%s", path);
		if (got == 0)
			break;
		len += (size_t)got;
	}
	return read_lines(table, path, text, len, err);
}

int owner_table_open(int fd, const char *path, struct owner_table **out, struct err *err)
{
	struct owner_table *table = calloc(1, sizeof *table);
	int result;

	if (table == NULL) {
		close(fd);
		return fail(err, ENOMEM, STEP, "%s", path);
	}
	table->fd = fd;
	errno = 0;
	result = read_table(table, path, err);
	if (result < 0)
		owner_table_close(table);
	else
		*out = table;
	return result;
}

int owner_table_fd(const struct owner_table *table)
{
	return table->fd;
}

const struct owner_record *owner_table_find(const struct owner_table *table, const struct owner_key *key)
{
	const struct slot *slot = table->cap == 0 ? NULL : slot_of(table, key);

	return slot != NULL && slot->used ? &slot->record : NULL;
}

int owner_table_put(struct owner_table *table, const struct owner_key *key, const struct owner_record *record)
{
	char line[LINE_MAX_BYTES], text[OWNER_TEXT_MAX];
	int len;

	owner_format(record, text);
	len = snprintf(line, sizeof line, "%llu %llu %lld.%u %s\n", (unsigned long long)key->device, (unsigned long long)key->inode,
	               (long long)key->seconds, key->nanoseconds, text);
	/* In one piece, behind whatever is there. */
	if (RETRY(write(table->fd, line, (size_t)len)) != len)
		return errno == 0 ? -EIO : -errno;
	return remember(table, key, record);
}

void owner_table_close(struct owner_table *table)
{
	if (table == NULL)
		return;
	close_fd(&table->fd);
	free(table->slots);
	free(table);
}
