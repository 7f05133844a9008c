/* Host calls about accounts: passwd(5) and group(5). */
#include "host_internal.h"

#include <limits.h>
#include <string.h>

#define NO_ID (-1)

/* Takes the next line of what is left. */
static bool next_line(struct chars *left, struct chars *line)
{
	const char *end;

	if (left->at == left->end)
		return false;
	end = memchr(left->at, '\n', (size_t)(left->end - left->at));
	*line = (struct chars){left->at, end == NULL ? left->end : end};
	left->at = line->end + (line->end < left->end);
	return true;
}

/* Field `number` of a line; empty where there is none. */
static struct chars field_of(struct chars line, unsigned number)
{
	struct chars field;

	/* Not by memchr: they are short. */
	for (; number > 0 && line.at < line.end; line.at++)
		number -= *line.at == ':';
	for (field = (struct chars){line.at, line.at}; field.end < line.end && *field.end != ':'; field.end++)
		;
	return field;
}

/* As the kernel's ids are written; or NO_ID. */
static int64_t id_of(struct chars field)
{
	int64_t id = 0;

	if (field.at == field.end || field.end - field.at > 10 || (*field.at == '0' && field.end - field.at > 1))
		return NO_ID;
	for (; field.at < field.end; field.at++) {
		if (*field.at < '0' || *field.at > '9')
			return NO_ID;
		id = id * 10 + (*field.at - '0');
	}
	return id;
}

static int list_chars(struct host_reply *reply, struct chars chars)
{
	size_t begun = host_reply_list_begin(reply);
	int error = host_reply_add(reply, chars.at, (size_t)(chars.end - chars.at));

	return error != 0 ? error : host_reply_list_end(reply, begun);
}

/* The file's text; none of one that cannot be read, or is too long to be looked through. */
static struct chars text_of(const char *path, struct host_reply *text)
{
	host_reply_clear(text);
	if (host_read_whole(path, text) != 0 || text->len == HOST_READ_MAX)
		text->len = 0;
	return (struct chars){text->data, text->data + text->len};
}

int host_list_account(struct chars left, int64_t uid, const char *name, size_t len, struct host_reply *reply)
{
	static const unsigned fields[] = {0, 4, 5, 6};
	struct chars line, own = {NULL, NULL};
	bool known = false;

	while (!(known && own.at != NULL) && next_line(&left, &line)) {
		known = known || (len > 0 && (size_t)(line.end - line.at) > len && line.at[len] == ':' && memcmp(line.at, name, len) == 0);
		if (own.at == NULL && id_of(field_of(line, 2)) == uid)
			own = line;
	}
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (list_chars(reply, own.at == NULL ? own : field_of(own, fields[i])) != 0)
			return -ENOMEM;
	return host_reply_list_number(reply, known);
}

int host_list_groups(struct chars left, const gid_t *gids, size_t count, struct host_reply *reply)
{
	cleanup_free struct chars *names = calloc(count, sizeof *names);
	struct chars line;
	size_t missing = count;
	int result = names == NULL ? -ENOMEM : 0;

	while (result == 0 && missing > 0 && next_line(&left, &line)) {
		int64_t gid = id_of(field_of(line, 2));

		for (size_t i = 0; gid != NO_ID && i < count; i++) {
			if (gids[i] != gid || names[i].at != NULL)
				continue;
			names[i] = field_of(line, 0);
			missing--;
		}
	}
	for (size_t i = 0; result == 0 && i < count; i++)
		result = list_chars(reply, names[i]);
	return result;
}

int64_t host_call_accounts(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	int count = getgroups(0, NULL);
	cleanup_free gid_t *gids = count < 0 ? NULL : calloc((size_t)count + 1, sizeof *gids);
	struct host_reply text = {.data = NULL};
	int result;

	if (gids == NULL)
		return count < 0 ? -errno : -ENOMEM;
	gids[0] = getegid();
	count = getgroups(count, gids + 1);
	if (count < 0)
		return -errno;
	result = host_list_account(text_of("/etc/passwd", &text), geteuid(), args[0].bytes, args[0].len, reply);
	if (result == 0)
		result = host_list_groups(text_of("/etc/group", &text), gids, (size_t)count + 1, reply);
	host_reply_free(&text);
	return result;
}

int64_t host_call_find_line(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct chars line, left = {args[0].bytes, args[0].bytes + args[0].len};

	if (args[1].number < 0 || args[1].number > UINT_MAX)
		return -EINVAL;
	while (next_line(&left, &line)) {
		struct chars field = field_of(line, (unsigned)args[1].number);

		if (field.end < line.end && (size_t)(field.end - field.at) == args[2].len && memcmp(field.at, args[2].bytes, args[2].len) == 0)
			return host_reply_add(reply, line.at, (size_t)(line.end - line.at));
	}
	return -ENOENT;
}
