/* Members of a JSON object by name, for facts of which a start needs a few: parsing all of them in the engine is a tenth of its planning. */
#include "host_internal.h"

#include <string.h>

#define WANTED_MAX 24
#define DEPTH_MAX 16

/* What is asked for, in the order of the answer, and where in the text it was found. */
struct wanted {
	const char *name, *from;
	size_t len;
	size_t reached; /* so much of the name has been met, with what ends it: of all of it, or of the objects around */
	char kind;
};

/* The start of names: those of what is in the object at hand, each with a dot behind. */
struct around {
	const char *name;
	size_t len;
};

struct json {
	const char *at; /* a NUL is at the end */
	struct wanted wanted[WANTED_MAX];
	size_t count, found;
	bool twice; /* a name that was asked for: readers of JSON differ in which they take, so none is */
};

static char next(struct json *json)
{
	/* Mostly there is no blank. */
	while ((unsigned char)*json->at <= ' ' && (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
		json->at++;
	return *json->at;
}

static bool take(struct json *json, char c)
{
	bool here = next(json) == c;

	json->at += here;
	return here;
}

/* `escaped`: there are escapes in it. */
static bool skip_string(struct json *json, bool *escaped)
{
	const char *at;

	*escaped = false;
	if (next(json) != '"')
		return false;
	for (at = json->at + 1;; at++) {
		while ((unsigned char)*at > '"' && *at != '\\')
			at++;
		if (*at == '"')
			break;
		*escaped |= *at == '\\';
		if ((unsigned char)*at < 0x20 || (*at == '\\' && *++at == '\0'))
			return false;
	}
	json->at = at + 1;
	return true;
}

static bool skip_value(struct json *json, int depth);

static bool skip_members(struct json *json, char end, int depth)
{
	bool escaped;

	if (depth == DEPTH_MAX)
		return false;
	json->at++;
	if (take(json, end))
		return true;
	do {
		if (end == '}' && !(skip_string(json, &escaped) && take(json, ':')))
			return false;
		if (!skip_value(json, depth + 1))
			return false;
	} while (take(json, ','));
	return take(json, end);
}

static bool skip_value(struct json *json, int depth)
{
	bool escaped;

	switch (next(json)) {
	case '"':
		return skip_string(json, &escaped);
	case '{':
		return skip_members(json, '}', depth);
	case '[':
		return skip_members(json, ']', depth);
	default: {
		size_t len = strspn(json->at, "+-.0123456789Eaeflnrstu");

		json->at += len;
		return len > 0;
	}
	}
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* An escape; -1: it is none, or stands for no byte, or for NUL, which no path and no variable can hold. */
static int take_escape(const char **text)
{
	static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	const char *letter, *at = *text;
	int high, low;

	if (at[0] != '\\')
		return -1;
	letter = at[1] == '\0' ? NULL : strchr(letters, at[1]);
	if (letter != NULL) {
		*text += 2;
		return (unsigned char)meant[letter - letters];
	}
	if (strncmp(at, "\\u00", 4) != 0 || (high = hex(at[4])) < 0 || (low = hex(at[5])) < 0 || high + low == 0)
		return -1;
	*text += 6;
	return high << 4 | low;
}

/* How long the key is, where the name begins with it; else -1. */
static ssize_t lead(const char *name, size_t name_len, const char *key, size_t len, bool escaped)
{
	const char *end = key + len;
	size_t i = 0;

	if (!escaped)
		return len <= name_len && (len == 0 || *name == *key) && memcmp(name, key, len) == 0 ? (ssize_t)len : -1;
	for (; key < end; i++) {
		int c = *key == '\\' ? take_escape(&key) : (unsigned char)*key++;

		if (i == name_len || c != (unsigned char)name[i])
			return -1;
	}
	return (ssize_t)i;
}

static void meet(struct json *json, struct wanted *wanted, size_t reached)
{
	json->twice |= wanted->reached >= reached;
	wanted->reached = reached;
}

/* Notes where what was asked for begins. True: something in it was asked for, whose name then leads with `around`. */
static bool note(struct json *json, struct around *around, const char *key, size_t len, bool escaped)
{
	const struct around outer = *around;
	bool inside = false;

	for (size_t i = 0; i < json->count; i++) {
		/* They mostly come in the order in which they are asked for. */
		struct wanted *each = &json->wanted[(json->found + i) % json->count];
		ssize_t same = each->len < outer.len || memcmp(each->name, outer.name, outer.len) != 0
				       ? -1
				       : lead(each->name + outer.len, each->len - outer.len, key, len, escaped);
		size_t end = outer.len + (size_t)same;

		if (same < 0 || (end < each->len && each->name[end] != '.'))
			continue;
		meet(json, each, end + 1);
		if (end == each->len) {
			each->from = json->at;
			json->found++;
			return false;
		}
		inside = true;
		*around = (struct around){.name = each->name, .len = end + 1};
	}
	return inside;
}

/* Goes through the members, and into those in which something was asked for. */
static bool search(struct json *json, struct around around, int depth)
{
	if (depth == DEPTH_MAX || !take(json, '{'))
		return false;
	if (take(json, '}'))
		return true;
	do {
		struct around inner = around;
		bool escaped, inside;
		const char *key;
		size_t len;

		next(json);
		key = json->at + 1;
		if (!skip_string(json, &escaped))
			return false;
		len = (size_t)(json->at - 1 - key);
		if (!take(json, ':'))
			return false;
		inside = note(json, &inner, key, len, escaped) && next(json) == '{';
		if (json->twice || !(inside ? search(json, inner, depth + 1) : skip_value(json, 0)))
			return false;
	} while (take(json, ','));
	return take(json, '}');
}

/* Adds the bytes of a string. */
static int64_t add_string(struct json *json, struct host_reply *reply)
{
	if (!take(json, '"'))
		return -EBADMSG;
	while (*json->at != '"') {
		const char *from = json->at;
		char byte;
		int c;

		while (*json->at != '"' && *json->at != '\\' && *json->at != '\0')
			json->at++;
		if (json->at > from && host_reply_add(reply, from, (size_t)(json->at - from)) != 0)
			return -ENOMEM;
		if (*json->at == '"')
			break;
		c = take_escape(&json->at);
		if (c < 0)
			return -EBADMSG;
		byte = (char)c;
		if (host_reply_add(reply, &byte, 1) != 0)
			return -ENOMEM;
	}
	json->at++;
	return 0;
}

static int64_t add_strings(struct json *json, struct host_reply *reply)
{
	int64_t error = 0;

	if (!take(json, '['))
		return -EBADMSG;
	if (take(json, ']'))
		return 0;
	do {
		error = add_string(json, reply);
		if (error == 0)
			error = host_reply_add(reply, "", 1);
	} while (error == 0 && take(json, ','));
	return error == 0 && !take(json, ']') ? -EBADMSG : error;
}

static int64_t add_number(struct json *json, struct host_reply *reply)
{
	size_t digits = strspn(json->at, "0123456789");
	int64_t number = 0;

	if (digits == 0 || digits > 15 || strchr(",}] \n\r\t", json->at[digits]) == NULL)
		return -EBADMSG;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (json->at[i] - '0');
	return host_reply_list_number(reply, number);
}

static int64_t add_boolean(struct json *json, struct host_reply *reply)
{
	bool yes = strncmp(json->at, "true", 4) == 0;

	return yes || strncmp(json->at, "false", 5) == 0 ? host_reply_list_number(reply, yes) : -EBADMSG;
}

static int64_t add_object(struct json *json, struct host_reply *reply)
{
	const char *from = json->at;

	return *from == '{' && skip_value(json, 0) ? host_reply_add(reply, from, (size_t)(json->at - from)) : -EBADMSG;
}

static int64_t add_text(struct json *json, char kind, struct host_reply *reply)
{
	size_t begun = host_reply_list_begin(reply);
	int64_t error = kind == 's' ? add_string(json, reply) : kind == 'l' ? add_strings(json, reply) : add_object(json, reply);

	return error != 0 ? error : host_reply_list_end(reply, begun);
}

static int64_t add_wanted(struct json *json, const struct wanted *wanted, struct host_reply *reply)
{
	json->at = wanted->from;
	switch (wanted->kind) {
	case 'n':
		return add_number(json, reply);
	case 'b':
		return add_boolean(json, reply);
	case 's':
	case 'l':
	case 'o':
		return add_text(json, wanted->kind, reply);
	default:
		return -EINVAL;
	}
}

static bool read_wanted(struct json *json, const char *names)
{
	while (*names != '\0') {
		size_t len = (size_t)(strchrnul(names, '\n') - names);

		if (json->count == WANTED_MAX || len == 0)
			return false;
		json->wanted[json->count++] = (struct wanted){.kind = names[0], .name = names + 1, .len = len - 1};
		names += len + (names[len] == '\n');
	}
	return true;
}

int64_t host_call_json(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	struct json json = {.at = args[0].bytes};
	int64_t error = 0;

	if (!read_wanted(&json, args[1].bytes))
		return -EINVAL;
	if (!search(&json, (struct around){.name = ""}, 0) || next(&json) != '\0')
		return -EBADMSG;
	if (json.found < json.count)
		return -ENOENT;
	for (size_t i = 0; error == 0 && i < json.count; i++)
		error = add_wanted(&json, &json.wanted[i], reply);
	return error;
}

/* A name in quotes, as factsJson (src/image/compute.ts) writes it: ASCII. */
static int quote(struct host_reply *reply, const char *name, const char *end)
{
	static const char meant[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt", digits[] = "0123456789abcdef";
	int error = host_reply_add(reply, "\"", 1);

	while (error == 0 && name < end) {
		const char *special, *from = name;
		unsigned char c = 0;

		while (name < end && (c = (unsigned char)*name) >= 0x20 && c < 0x7f && c != '"' && c != '\\')
			name++;
		error = host_reply_add(reply, from, (size_t)(name - from));
		if (error != 0 || name == end)
			break;
		name++;
		special = strchr(meant, c);
		if (special != NULL)
			error = host_reply_add(reply, (const char[]){'\\', letters[special - meant]}, 2);
		else
			error = host_reply_add(reply, (const char[]){'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]}, 6);
	}
	return error != 0 ? error : host_reply_add(reply, "\":\"", 3);
}

/* Not by going through the object: there are hundreds of members in some, and a start asks for a few. */
static int64_t add_member(const struct host_value *object, const char *name, const char *name_end, struct host_reply *reply)
{
	const char *end = object->bytes + object->len, *at = object->bytes;
	size_t begun = reply->len, len;
	struct json json;

	/* What is looked for lies where the answer will. */
	if (quote(reply, name, name_end) != 0)
		return -ENOMEM;
	len = reply->len - begun;
	reply->len = begun;
	for (; (at = memmem(at, (size_t)(end - at), reply->data + begun, len)) != NULL; at++) {
		if (at == object->bytes || (at[-1] != '{' && at[-1] != ','))
			continue;
		json.at = at + len - 1;
		return add_string(&json, reply);
	}
	return -ENOENT;
}

int64_t host_call_member(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	return add_member(&args[0], args[1].bytes, args[1].bytes + args[1].len, reply);
}

int64_t host_call_members(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	int64_t error = 0;

	for (const char *end, *name = args[1].bytes; error == 0; name = end + 1) {
		size_t before = reply->len, begun = host_reply_list_begin(reply);

		end = strchrnul(name, '\n');
		error = begun == SIZE_MAX ? -ENOMEM : add_member(&args[0], name, end, reply);
		if (error == 0) {
			error = host_reply_list_end(reply, begun);
		} else if (error == -ENOENT) {
			reply->len = before;
			error = host_reply_list_number(reply, 0);
		}
		if (*end == '\0')
			break;
	}
	return error;
}
