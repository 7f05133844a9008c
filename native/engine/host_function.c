/* The one function of the bundle that leads out: `__host`, with its arguments and answers. */
#include "internal.h"

#include <math.h>
#include <string.h>

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
	for (u32 i = 0; i + 1 < argc && i < ARRAY_LEN(texts); i++)
		engine_give_back(engine, &texts[i]);
	if (Z_qjsZ_JS_HasException(&engine->wasm, engine->context))
		return EXCEPTION;
	if (result == 0 && engine->reply.list)
		return list_value(engine, &engine->reply);
	if (result == 0 && engine->reply.text)
		return engine_string_value(engine, engine->reply.data, engine->reply.len);
	return Z_qjsZ_JS_NewNumber(&engine->wasm, engine->context, (double)result);
}
