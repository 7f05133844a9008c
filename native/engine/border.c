/* Values on their way between JavaScript and C: byte strings, whole numbers, and the one function that leads out. */
#include "internal.h"

#include <math.h>
#include <string.h>

#define LONG_MIN_LEN 256 /* bytes; shorter texts are names that may become property names: those the engine makes itself */
#define SCRATCH_MAX 4096 /* bytes taken from the module's stack for a string on its way in */

bool engine_is_string(uint64_t value)
{
	return TAG(value) == TAG_STRING || TAG(value) == TAG_ROPE;
}

/* --- byte strings across the border: the engine's own interface is UTF-8 --- */

/* Bytes from 0x80 on; nearly always there is none, which is found out eight bytes at a time. */
static size_t count_high(const char *bytes, size_t len)
{
	size_t high = 0, i = 0;

	for (uint64_t word; i + sizeof word <= len; i += sizeof word) {
		memcpy(&word, bytes + i, sizeof word);
		if ((word & 0x8080808080808080u) != 0)
			high += (size_t)__builtin_popcountll(word & 0x8080808080808080u);
	}
	for (; i < len; i++)
		high += (unsigned char)bytes[i] >> 7;
	return high;
}

/* A place in linear memory for `len` bytes: on the module's stack when small. engine_release_scratch() ends it. */
uint32_t engine_take_scratch(struct engine *engine, size_t len)
{
	if (len > UINT32_MAX / 2)
		return 0;
	if (len > SCRATCH_MAX)
		return heap_take(engine, (uint32_t)len);
	engine->wasm.w2c___stack_pointer -= (uint32_t)(len + 15) & ~15u;
	return engine->wasm.w2c___stack_pointer;
}

void engine_release_scratch(struct engine *engine, uint32_t at, size_t len)
{
	if (len > SCRATCH_MAX)
		heap_return(engine, at);
	else
		engine->wasm.w2c___stack_pointer += (uint32_t)(len + 15) & ~15u;
}

/* How QuickJS keeps a string: length and width in one word, hash and kind in the next; the chars of the usual kind begin at STRING_CHARS, a NUL is
 * behind them. At STRING_LINK it is in the list of all strings: where the one before and the one behind have theirs. engine_load() compares. */
#define STRING_WIDE 0x80000000u
#define STRING_KIND 0x30000000u /* of the second word; 0 is the usual one */
#define STRING_LINK 16
#define STRING_CHARS 24

/* The engine lends its own storage of nearly every string. */
static bool lend(struct engine *engine, uint64_t value, struct borrowed *text)
{
	uint32_t at = (uint32_t)value, words[2];

	if (TAG(value) != TAG_STRING)
		return false;
	memcpy(words, runtime_bytes(&engine->wasm, at, sizeof words), sizeof words);
	if ((words[0] & STRING_WIDE) != 0 || (words[1] & STRING_KIND) != 0)
		return false;
	*text = (struct borrowed){.at = at, .bytes = runtime_bytes(&engine->wasm, at, STRING_CHARS + (size_t)words[0] + 1) + STRING_CHARS, .len = words[0], .lent = true};
	return text->bytes[text->len] == 0;
}

static uint64_t plain_value(struct engine *engine, const char *bytes, size_t len)
{
	size_t high = count_high(bytes, len), size = len + high;
	uint64_t value;
	uint32_t at;
	char *to;

	at = engine_take_scratch(engine, size);
	if (at == 0)
		return Z_qjsZ_JS_ThrowOutOfMemory(&engine->wasm, engine->context);
	to = runtime_bytes(&engine->wasm, at, size);
	if (high == 0)
		memcpy(to, bytes, len);
	else
		for (size_t i = 0; i < len; i++) {
			unsigned char c = (unsigned char)bytes[i];
			if (c >= 0x80)
				*to++ = (char)(0xc0 | c >> 6);
			*to++ = (char)(c < 0x80 ? c : 0x80 | (c & 0x3f));
		}
	value = Z_qjsZ_JS_NewStringLen(&engine->wasm, engine->context, at, (uint32_t)size);
	engine_release_scratch(engine, at, size);
	return value;
}

/* The word of a neighbour in the list of strings that leads to the string at `at`: of the one before (0) or behind (1). */
static char *way_back(struct engine *engine, uint32_t at, unsigned int neighbour)
{
	uint32_t place;

	memcpy(&place, runtime_bytes(&engine->wasm, at + STRING_LINK + 4 * neighbour, sizeof place), sizeof place);
	return runtime_bytes(&engine->wasm, place + 4 * (1 - neighbour), sizeof place);
}

/* Puts the string where there is room for `len` chars. 0: there is none, or it is not what it was taken for. */
static uint32_t lengthen(struct engine *engine, uint32_t at, size_t len)
{
	char *before = way_back(engine, at, 0), *behind = way_back(engine, at, 1);
	uint32_t link = at + STRING_LINK, words = (uint32_t)len;

	if (memcmp(before, &link, sizeof link) != 0 || memcmp(behind, &link, sizeof link) != 0)
		return 0;
	at = heap_resize(engine, at, (uint32_t)(STRING_CHARS + len + 1));
	if (at == 0)
		return 0;
	link = at + STRING_LINK;
	memcpy(before, &link, sizeof link);
	memcpy(behind, &link, sizeof link);
	memcpy(runtime_bytes(&engine->wasm, at, sizeof words), &words, sizeof words);
	return at;
}

/* A long text, without a detour through UTF-8, which costs 8 instructions for each byte and 20 for one above 0x7f: a short string is made longer, and the
 * bytes are put where the engine keeps them. False: that did not work, and no harm was done. */
static bool long_value(struct engine *engine, const char *bytes, size_t len, uint64_t *value)
{
	uint64_t made = plain_value(engine, "--", 2);
	struct borrowed text;
	uint32_t at = len <= ENGINE_HEAP_MAX && lend(engine, made, &text) ? lengthen(engine, text.at, len) : 0;
	char *to;

	if (at == 0) {
		engine_free_value(engine, made);
		return false;
	}
	to = runtime_bytes(&engine->wasm, at + STRING_CHARS, len + 1);
	memcpy(to, bytes, len);
	to[len] = 0;
	*value = (made & ~(uint64_t)UINT32_MAX) | at;
	return true;
}

/* A JavaScript string of these bytes, or EXCEPTION (out of memory). */
uint64_t engine_string_value(struct engine *engine, const char *bytes, size_t len)
{
	uint64_t value;

	return len >= LONG_MIN_LEN && long_value(engine, bytes, len, &value) ? value : plain_value(engine, bytes, len);
}

/* What cannot be lent is copied as UTF-8, which is ours to narrow in place. */
struct borrowed engine_borrow(struct engine *engine, uint64_t value)
{
	uint32_t sizeof_len = 4, len_at, len;
	struct borrowed text;
	unsigned char *bytes;
	size_t to = 0;

	if (lend(engine, value, &text))
		return text;
	len_at = engine_take_scratch(engine, sizeof_len);
	text = (struct borrowed){.at = Z_qjsZ_JS_ToCStringLen2(&engine->wasm, engine->context, len_at, value, 0)};
	memcpy(&len, runtime_bytes(&engine->wasm, len_at, sizeof_len), sizeof_len);
	engine_release_scratch(engine, len_at, sizeof_len);
	if (text.at == 0)
		return text;
	text.len = len;
	text.bytes = runtime_bytes(&engine->wasm, text.at, (size_t)len + 1);
	if (count_high(text.bytes, len) == 0)
		return text;
	bytes = (unsigned char *)runtime_bytes(&engine->wasm, text.at, (size_t)len + 1);
	for (size_t i = 0; i < len; i++)
		if (bytes[i] > 0xc3)
			text.not_bytes = true;
	if (text.not_bytes)
		return text;
	for (size_t i = 0; i < len; to++) {
		bool pair = bytes[i] >= 0xc2 && i + 1 < len;
		bytes[to] = pair ? (unsigned char)(bytes[i] << 6 | (bytes[i + 1] & 0x3f)) : bytes[i];
		i += pair ? 2 : 1;
	}
	bytes[to] = 0;
	text.len = to;
	return text;
}

void engine_give_back(struct engine *engine, struct borrowed *text)
{
	if (text->at != 0 && !text->lent)
		Z_qjsZ_JS_FreeCString(&engine->wasm, engine->context, text->at);
	text->at = 0;
}

uint64_t engine_property(struct engine *engine, uint64_t object, const char *name)
{
	size_t size = strlen(name) + 1;
	uint32_t at = engine_take_scratch(engine, size);
	uint64_t value;

	memcpy(runtime_bytes(&engine->wasm, at, size), name, size);
	value = Z_qjsZ_JS_GetPropertyStr(&engine->wasm, engine->context, object, at);
	engine_release_scratch(engine, at, size);
	return value;
}

void engine_free_value(struct engine *engine, uint64_t value)
{
	Z_qjsZ_JS_FreeValue(&engine->wasm, engine->context, value);
}

/* --- answers --- */

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

/* The parts of an array as bytes: the text of each of their values, and a NUL behind it. A list among these is one text, with commas between its values: as
 * JavaScript has it, where it would cost a start a tenth of its planning. 0; -EILSEQ: it is no array, or not all are byte strings without NUL; -ENOMEM; -EPROTO: an
 * exception is pending. */
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

/* --- host calls --- */

static bool whole_number(struct engine *engine, uint64_t value, int64_t *number)
{
	uint32_t at;
	double real;
	int failed;

	if (TAG(value) == TAG_INT) {
		*number = (int32_t)value;
		return true;
	}
	at = engine_take_scratch(engine, sizeof real);
	failed = (int)Z_qjsZ_JS_ToFloat64(&engine->wasm, engine->context, at, value);
	memcpy(&real, runtime_bytes(&engine->wasm, at, sizeof real), sizeof real);
	engine_release_scratch(engine, at, sizeof real);
	if (failed != 0 || !(fabs(real) <= 9007199254740991.0) || real != trunc(real))
		return false;
	*number = (int64_t)real;
	return true;
}

static uint64_t item_value(struct engine *engine, const struct host_item *item, const char *text)
{
	if (item->text)
		return engine_string_value(engine, text, (size_t)item->number);
	if (item->number >= INT32_MIN && item->number <= INT32_MAX)
		return (uint32_t)item->number;
	return Z_qjsZ_JS_NewNumber(&engine->wasm, engine->context, (double)item->number);
}

/* A JavaScript array of a list's items, or EXCEPTION. */
static uint64_t list_value(struct engine *engine, const struct host_reply *reply)
{
	size_t max = reply->len / sizeof(struct host_item) + 1, at = 0;
	uint64_t value = 0;
	uint32_t values = engine_take_scratch(engine, max * sizeof value), count = 0;

	if (values == 0)
		return Z_qjsZ_JS_ThrowOutOfMemory(&engine->wasm, engine->context);
	while (at < reply->len) {
		struct host_item item;

		memcpy(&item, reply->data + at, sizeof item);
		at += sizeof item;
		value = item_value(engine, &item, reply->data + at);
		if (TAG(value) == TAG_EXCEPTION)
			break;
		memcpy(runtime_bytes(&engine->wasm, values + count++ * 8, sizeof value), &value, sizeof value);
		at += item.text ? (size_t)item.number : 0;
	}
	if (TAG(value) != TAG_EXCEPTION) {
		value = Z_qjsZ_JS_NewArrayFrom(&engine->wasm, engine->context, count, values);
	} else {
		for (uint64_t made; count-- > 0; engine_free_value(engine, made))
			memcpy(&made, runtime_bytes(&engine->wasm, values + count * 8, sizeof made), sizeof made);
	}
	engine_release_scratch(engine, values, max * sizeof value);
	return value;
}

u64 engine_host_function(void *context, u32 js_context UNUSED, u64 this_value UNUSED, u32 argc, u32 argv)
{
	struct engine *engine = context;
	struct borrowed texts[HOST_ARGS_MAX] = {0};
	struct host_value args[HOST_ARGS_MAX] = {0};
	uint64_t values[HOST_ARGS_MAX + 1];
	int64_t number = 0, result = 0;

	if (argc < 1 || argc > ARRAY_LEN(values))
		result = -EINVAL;
	else
		memcpy(values, runtime_bytes(&engine->wasm, argv, argc * sizeof values[0]), argc * sizeof values[0]);
	if (result == 0 && !whole_number(engine, values[0], &number))
		result = -EINVAL;
	for (u32 i = 0; result == 0 && i + 1 < argc; i++) {
		if (engine_is_string(values[i + 1])) {
			texts[i] = engine_borrow(engine, values[i + 1]);
			args[i] = (struct host_value){.bytes = texts[i].bytes, .len = texts[i].len};
			if (texts[i].at == 0 || texts[i].not_bytes)
				result = texts[i].at == 0 ? -ENOMEM : -EILSEQ;
		} else if (!whole_number(engine, values[i + 1], &args[i].number)) {
			result = -EINVAL;
		}
	}
	host_reply_clear(&engine->reply);
	if (result == 0)
		result = engine->host == NULL || number < 0 || number > UINT32_MAX
				 ? -ENOSYS
				 : engine->host->call(engine->host->context, (uint32_t)number, args, argc - 1, &engine->reply);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		engine_give_back(engine, &texts[i]);
	if (Z_qjsZ_JS_HasException(&engine->wasm, engine->context))
		return EXCEPTION;
	if (result == 0 && engine->reply.list)
		return list_value(engine, &engine->reply);
	if (result == 0 && engine->reply.text)
		return engine_string_value(engine, engine->reply.data, engine->reply.len);
	return Z_qjsZ_JS_NewNumber(&engine->wasm, engine->context, (double)result);
}
