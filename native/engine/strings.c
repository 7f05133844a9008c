/* Byte strings on their way between JavaScript and C. The engine's own interface is UTF-8. */
#include "internal.h"

#include <string.h>

#define SCRATCH_MAX 4096 /* bytes taken from the module's stack for a string on its way in */

bool engine_is_string(uint64_t value)
{
	return TAG(value) == TAG_STRING || TAG(value) == TAG_ROPE;
}

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
 * behind them. engine_load() compares. */
#define STRING_WIDE 0x80000000u
#define STRING_KIND 0x30000000u /* of the second word; 0 is the usual one */
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

/* Without a detour through UTF-8. */
uint64_t engine_string_value(struct engine *engine, const char *bytes, size_t len)
{
	uint32_t at;
	char *to;

	/* Of the empty string there is one. */
	if (len == 0 || len > ENGINE_HEAP_MAX)
		return len == 0 ? Z_qjsZ_JS_NewStringLen(&engine->wasm, engine->context, 0, 0) : Z_qjsZ_JS_ThrowOutOfMemory(&engine->wasm, engine->context);
	at = module_new_string(&engine->wasm, engine->context, (uint32_t)len);
	if (at == 0)
		return EXCEPTION;
	to = runtime_bytes(&engine->wasm, at + STRING_CHARS, len + 1);
	memcpy(to, bytes, len);
	to[len] = 0;
	return (uint64_t)(uint32_t)TAG_STRING << 32 | at;
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
