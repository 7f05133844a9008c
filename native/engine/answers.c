/* The answer of a call where it is no string but lists: the bytes of all texts in them. */
#include "internal.h"

#include <string.h>

#define LEVELS 2

struct texts {
	char *bytes;
	size_t len, room;
	int error;
};

static void add_bytes(struct texts *texts, const char *bytes, size_t len, char end)
{
	if (texts->error == 0 && texts->room - texts->len <= len) {
		size_t room = texts->room * 2 + len + 4096;
		char *bigger = realloc(texts->bytes, room);

		if (bigger == NULL) {
			texts->error = -ENOMEM;
			return;
		}
		texts->bytes = bigger;
		texts->room = room;
	}
	if (texts->error == 0 && memchr(bytes, 0, len) != NULL)
		texts->error = -EILSEQ;
	if (texts->error != 0)
		return;
	memcpy(texts->bytes + texts->len, bytes, len);
	texts->len += len;
	texts->bytes[texts->len++] = end;
}

static void add_number(struct texts *texts, uint32_t number, char end)
{
	char digits[10];
	size_t at = sizeof digits;

	do
		digits[--at] = (char)('0' + number % 10);
	while ((number /= 10) != 0);
	add_bytes(texts, digits + at, sizeof digits - at, end);
}

static void add_value(struct engine *engine, struct texts *texts, uint64_t value, char end)
{
	struct borrowed text;

	if (TAG(value) == TAG_INT && (int32_t)value >= 0) {
		add_number(texts, (uint32_t)value, end);
		return;
	}
	text = engine_borrow(engine, value);
	if (text.at == 0 || text.not_bytes)
		texts->error = text.at == 0 ? -EPROTO : -EILSEQ;
	else
		add_bytes(texts, text.bytes, text.len, end);
	engine_give_back(engine, &text);
}

/* How QuickJS keeps an array that has every one of its values: its class, where `length` is, where the values are, and how many. In others the count is
 * not the length. engine_load() compares. */
#define OBJECT_CLASS 10
#define OBJECT_LENGTH 16
#define OBJECT_VALUES 28
#define OBJECT_COUNT 32
#define CLASS_ARRAY 2

/* NULL: it is no such array. */
static const char *values_of(struct engine *engine, uint64_t array, uint32_t *count)
{
	const char *object;
	uint64_t length;
	uint32_t at;
	uint16_t class;

	if (TAG(array) != TAG_OBJECT)
		return NULL;
	object = runtime_bytes(&engine->wasm, (uint32_t)array, OBJECT_COUNT + sizeof *count);
	memcpy(&class, object + OBJECT_CLASS, sizeof class);
	if (class != CLASS_ARRAY)
		return NULL;
	memcpy(&at, object + OBJECT_LENGTH, sizeof at);
	memcpy(&length, runtime_bytes(&engine->wasm, at, sizeof length), sizeof length);
	memcpy(count, object + OBJECT_COUNT, sizeof *count);
	memcpy(&at, object + OBJECT_VALUES, sizeof at);
	return length == *count ? runtime_bytes(&engine->wasm, at, (size_t)*count * sizeof length) : NULL;
}

/* Lists in a list, and those in them, are taken for their values; the values of one further down are one text, with commas between them. */
static void add_list(struct engine *engine, struct texts *texts, const char *values, uint32_t count, int level)
{
	uint32_t inner_count;

	if (count == 0 && level == LEVELS)
		add_bytes(texts, "", 0, 0);
	for (uint32_t i = 0; texts->error == 0 && i < count; i++) {
		const char *inner = NULL;
		uint64_t value;

		memcpy(&value, values + i * sizeof value, sizeof value);
		if (level < LEVELS && (inner = values_of(engine, value, &inner_count)) != NULL)
			add_list(engine, texts, inner, inner_count, level + 1);
		else
			add_value(engine, texts, value, level == LEVELS && i + 1 < count ? ',' : 0);
	}
}

int engine_texts(struct engine *engine, uint64_t array, char **out, size_t *out_len)
{
	struct texts texts = {0};
	uint32_t count;
	const char *values = values_of(engine, array, &count);

	if (values == NULL)
		return -EILSEQ;
	add_list(engine, &texts, values, count, 0);
	add_bytes(&texts, "", 0, 0);
	if (texts.error != 0) {
		free(texts.bytes);
		return texts.error;
	}
	*out = texts.bytes;
	*out_len = texts.len - 1;
	return 0;
}
