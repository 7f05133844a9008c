#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Values of QuickJS on a 32-bit machine: the tag in the upper half, numbers that are no small integers shifted below the tags. engine_start_text
 * checks these against the engine. */
#define TAG(value) ((int32_t)((value) >> 32))
#define TAG_INT 0
#define TAG_NULL 2
#define TAG_UNDEFINED 3
#define TAG_EXCEPTION 6
#define TAG_STRING (-7)
#define TAG_ROPE (-6)
#define UNDEFINED ((uint64_t)TAG_UNDEFINED << 32)
#define EXCEPTION ((uint64_t)TAG_EXCEPTION << 32)

#define JS_STACK_MAX (256 * 1024) /* of the module's own stack of 1 MiB */
#define SCRATCH_MAX 4096          /* bytes taken from that stack for a string on its way in */
#define GC_NEVER UINT32_MAX       /* the process ends before cycles matter; ENGINE_HEAP_MAX holds */

const char *const engine_functions[ENGINE_FUNCTIONS] = {"tsrunStart", "tsrunFailure"};

static bool is_string(uint64_t value)
{
	return TAG(value) == TAG_STRING || TAG(value) == TAG_ROPE;
}

/* --- byte strings across the border: the engine's own interface is UTF-8 --- */

static size_t count_high(const char *bytes, size_t len)
{
	size_t high = 0;

	for (size_t i = 0; i < len; i++)
		high += (unsigned char)bytes[i] >> 7;
	return high;
}

/* A place in linear memory for `len` bytes: on the module's stack when small. release_scratch() ends it. */
static uint32_t take_scratch(struct engine *engine, size_t len)
{
	if (len > UINT32_MAX / 2)
		return 0;
	if (len > SCRATCH_MAX)
		return heap_take(engine, (uint32_t)len);
	engine->wasm.w2c___stack_pointer -= (uint32_t)(len + 15) & ~15u;
	return engine->wasm.w2c___stack_pointer;
}

static void release_scratch(struct engine *engine, uint32_t at, size_t len)
{
	if (len > SCRATCH_MAX)
		heap_return(engine, at);
	else
		engine->wasm.w2c___stack_pointer += (uint32_t)(len + 15) & ~15u;
}

/* A JavaScript string of these bytes, or EXCEPTION (out of memory). */
static uint64_t string_value(struct engine *engine, const char *bytes, size_t len)
{
	size_t high = count_high(bytes, len), size = len + high;
	uint32_t at = take_scratch(engine, size);
	uint64_t value;
	char *to;

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
	release_scratch(engine, at, size);
	return value;
}

/* The bytes of a JavaScript string, in linear memory, with a NUL behind. */
struct borrowed {
	uint32_t at; /* 0: an exception is pending */
	const char *bytes;
	size_t len;
	bool not_bytes; /* there is a char above U+00FF: `bytes` is UTF-8 then */
};

/* For a string of ASCII the engine lends its own storage; else it makes a copy in UTF-8, which is ours to narrow in place. */
static struct borrowed borrow(struct engine *engine, uint64_t value)
{
	uint32_t sizeof_len = 4, len_at = take_scratch(engine, sizeof_len), len;
	struct borrowed text = {.at = Z_qjsZ_JS_ToCStringLen2(&engine->wasm, engine->context, len_at, value, 0)};
	unsigned char *bytes;
	size_t to = 0;

	memcpy(&len, runtime_bytes(&engine->wasm, len_at, sizeof_len), sizeof_len);
	release_scratch(engine, len_at, sizeof_len);
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

static void give_back(struct engine *engine, struct borrowed *text)
{
	if (text->at != 0)
		Z_qjsZ_JS_FreeCString(&engine->wasm, engine->context, text->at);
	text->at = 0;
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
	at = take_scratch(engine, sizeof real);
	failed = (int)Z_qjsZ_JS_ToFloat64(&engine->wasm, engine->context, at, value);
	memcpy(&real, runtime_bytes(&engine->wasm, at, sizeof real), sizeof real);
	release_scratch(engine, at, sizeof real);
	if (failed != 0 || !(fabs(real) <= 9007199254740991.0) || real != trunc(real))
		return false;
	*number = (int64_t)real;
	return true;
}

/* The one native function of the bundle, __host: called by the engine through its function table. */
static u64 host_function(void *context, u32 js_context UNUSED, u64 this_value UNUSED, u32 argc, u32 argv)
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
		if (is_string(values[i + 1])) {
			texts[i] = borrow(engine, values[i + 1]);
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
		give_back(engine, &texts[i]);
	if (Z_qjsZ_JS_HasException(&engine->wasm, engine->context))
		return EXCEPTION;
	if (result == 0 && engine->reply.text)
		return string_value(engine, engine->reply.data, engine->reply.len);
	return Z_qjsZ_JS_NewNumber(&engine->wasm, engine->context, (double)result);
}

/* --- limits --- */

static int64_t cpu_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The engine asks now and then whether to go on. Processor time, so that a slow file system is not held against the planner. */
u32 Z_envZ_host_interrupt(struct Z_env_instance_t *env)
{
	env->engine->expired = cpu_now_ns() > env->engine->cpu_deadline_ns;
	return env->engine->expired;
}

void engine_limit_cpu(struct engine *engine, unsigned int milliseconds)
{
	engine->cpu_ms = milliseconds;
}

static void start_clock(struct engine *engine)
{
	engine->expired = false;
	engine->cpu_deadline_ns = cpu_now_ns() + (int64_t)engine->cpu_ms * 1000000;
}

/* --- exceptions --- */

static uint64_t property(struct engine *engine, uint64_t object, const char *name)
{
	size_t size = strlen(name) + 1;
	uint32_t at = take_scratch(engine, size);
	uint64_t value;

	memcpy(runtime_bytes(&engine->wasm, at, size), name, size);
	value = Z_qjsZ_JS_GetPropertyStr(&engine->wasm, engine->context, object, at);
	release_scratch(engine, at, size);
	return value;
}

static void free_value(struct engine *engine, uint64_t value)
{
	Z_qjsZ_JS_FreeValue(&engine->wasm, engine->context, value);
}

/* Turns the pending exception into `err`: "TypeError: message" and the stack below it. */
static int exception(struct engine *engine, const char *step, struct err *err)
{
	uint64_t thrown, stack_value = UNDEFINED;
	struct borrowed message, stack = {0};
	int error;

	/* The report itself needs a little memory and time. */
	heap_limit(engine, (uint32_t)ENGINE_SPACE);
	engine->cpu_deadline_ns = INT64_MAX;
	thrown = Z_qjsZ_JS_GetException(&engine->wasm, engine->context);
	message = borrow(engine, thrown);
	if (Z_qjsZ_JS_IsError(&engine->wasm, thrown))
		stack_value = property(engine, thrown, "stack");
	if (is_string(stack_value))
		stack = borrow(engine, stack_value);
	if (message.at == 0)
		Z_qjsZ_JS_FreeValue(&engine->wasm, engine->context, Z_qjsZ_JS_GetException(&engine->wasm, engine->context));

	/* With no memory left even for an error object, the engine throws null. */
	if (engine->expired)
		error = fail(err, ETIME, step, "the planner used more than %u ms of processor time\n%s", engine->cpu_ms, stack.at ? stack.bytes : "");
	else if (TAG(thrown) == TAG_NULL || (message.at != 0 && strcmp(message.bytes, "InternalError: out of memory") == 0))
		error = fail(err, ENOMEM, step, "the planner needs more than %u MiB of memory\n%s", ENGINE_HEAP_MAX >> 20, stack.at ? stack.bytes : "");
	else
		error = fail(err, EPROTO, step, "%s\n%s", message.at ? message.bytes : "an exception that cannot be shown",
			     stack.at ? stack.bytes : "");
	give_back(engine, &message);
	give_back(engine, &stack);
	free_value(engine, stack_value);
	free_value(engine, thrown);
	heap_limit(engine, ENGINE_HEAP_MAX);
	return error;
}

static int trapped(struct engine *engine, int trap, const char *step, struct err *err)
{
	engine->dead = true;
	return fail(err, EFAULT, step, "fault inside the engine: %s", wasm_rt_strerror((wasm_rt_trap_t)trap));
}

/* --- start --- */

static struct engine *new_engine(const struct host_ops *host)
{
	struct engine *engine = calloc(1, sizeof *engine);

	if (engine == NULL)
		return NULL;
	engine->env = (struct Z_env_instance_t){.instance = &engine->wasm, .engine = engine};
	engine->host = host;
	engine->cpu_ms = ENGINE_CPU_MS;
	Z_qjs_init_module();
	return engine;
}

/* Our function behind the module's own in its table: always at the same place, which the image knows. */
static void add_host_function(struct engine *engine)
{
	uint32_t type = wasm_rt_register_func_type(4, 1, WASM_RT_I32, WASM_RT_I64, WASM_RT_I32, WASM_RT_I32, WASM_RT_I64);

	engine->host_function = runtime_add_function(&engine->wasm, type, (wasm_rt_function_ptr_t)host_function, engine);
}

int engine_start(struct engine **out, const struct host_ops *host, struct err *err)
{
	static bool used;
	static const char step[] = "start the planner's engine";
	const struct engine_image *image = engine_image();
	struct engine *engine;
	jmp_buf target;
	int error;

	*out = NULL;
	if (used)
		return fail(err, EALREADY, step, "its image was used before");
	engine = new_engine(host);
	if (engine == NULL)
		return fail(err, ENOMEM, step, "out of memory");
	error = runtime_reserve(&engine->wasm.w2c_memory, image->pages, image->bytes, image->from, image->len);
	if (error != 0) {
		free(engine);
		return fail(err, -error, step, "cannot reserve %zu MiB of address space: %s", ENGINE_SPACE >> 20, strerror(-error));
	}
	used = true;
	runtime_trap_target = &target;
	error = setjmp(target);
	if (error == 0) {
		module_restore(&engine->wasm, &engine->env, image->stack_pointer);
		add_host_function(engine);
	}
	runtime_trap_target = NULL;
	engine->runtime = image->runtime;
	engine->context = image->context;
	engine->heap = image->heap;
	memcpy(engine->functions, image->functions, sizeof engine->functions);
	if (error != 0) {
		error = trapped(engine, error, step, err);
		engine_free(engine);
		return error;
	}
	*out = engine;
	return 0;
}

/* A runtime and context on our heap. The context has all of the language but what reads clocks: Date is there, its clock stands still. */
static void create_context(struct engine *engine)
{
	Z_qjs_instance_t *wasm = &engine->wasm;
	uint32_t context;

	heap_create(engine);
	engine->runtime = Z_qjsZ_JS_NewRuntime(wasm);
	if (engine->runtime == 0)
		wasm_rt_trap(WASM_RT_TRAP_EXHAUSTION);
	Z_qjsZ_JS_SetMaxStackSize(wasm, engine->runtime, JS_STACK_MAX);
	Z_qjsZ_JS_SetGCThreshold(wasm, engine->runtime, GC_NEVER);
	context = Z_qjsZ_JS_NewContextRaw(wasm, engine->runtime);
	if (context == 0)
		wasm_rt_trap(WASM_RT_TRAP_EXHAUSTION);
	engine->context = context;
	Z_qjsZ_JS_AddIntrinsicBaseObjects(wasm, context);
	Z_qjsZ_JS_AddIntrinsicDate(wasm, context);
	Z_qjsZ_JS_AddIntrinsicEval(wasm, context);
	Z_qjsZ_JS_AddIntrinsicRegExp(wasm, context);
	Z_qjsZ_JS_AddIntrinsicJSON(wasm, context);
	Z_qjsZ_JS_AddIntrinsicProxy(wasm, context);
	Z_qjsZ_JS_AddIntrinsicMapSet(wasm, context);
	Z_qjsZ_JS_AddIntrinsicTypedArrays(wasm, context);
	Z_qjsZ_JS_AddIntrinsicPromise(wasm, context);
	Z_qjsZ_JS_AddIntrinsicBigInt(wasm, context);
	Z_qjsZ_JS_AddIntrinsicWeakRef(wasm, context);
	Z_qjsZ_qjs_set_runtime_and_context(wasm, engine->runtime, context);
	Z_qjsZ_qjs_set_interrupt_handler(wasm, 1);
}

/* `len` bytes of text and a NUL, on the heap. */
static uint32_t place(struct engine *engine, const char *text, size_t len)
{
	uint32_t at = heap_take(engine, (uint32_t)len + 1);

	if (at == 0)
		wasm_rt_trap(WASM_RT_TRAP_EXHAUSTION);
	memcpy(runtime_bytes(&engine->wasm, at, len + 1), text, len);
	*runtime_bytes(&engine->wasm, at + (uint32_t)len, 1) = 0;
	return at;
}

/* Puts the native function into the global object and evaluates the bundle. Returns 0 or -EPROTO with the exception pending. */
static int evaluate(struct engine *engine, const char *bundle, size_t len, const char *name)
{
	Z_qjs_instance_t *wasm = &engine->wasm;
	uint32_t text = place(engine, bundle, len), file = place(engine, name, strlen(name)), host_name = place(engine, "__host", 6);
	uint64_t global = Z_qjsZ_JS_GetGlobalObject(wasm, engine->context), value;

	value = Z_qjsZ_JS_NewCFunction2(wasm, engine->context, engine->host_function, host_name, 1, 0, 0);
	Z_qjsZ_JS_SetPropertyStr(wasm, engine->context, global, host_name, value);
	value = Z_qjsZ_JS_Eval(wasm, engine->context, text, (uint32_t)len, file, 0);
	heap_return(engine, text);
	heap_return(engine, file);
	heap_return(engine, host_name);
	if (TAG(value) != TAG_EXCEPTION) {
		free_value(engine, value);
		for (size_t i = 0; i < ENGINE_FUNCTIONS; i++)
			engine->functions[i] = property(engine, global, engine_functions[i]);
	}
	free_value(engine, global);
	return TAG(value) == TAG_EXCEPTION ? -EPROTO : 0;
}

/* Are values what this file takes them for? */
static bool values_fit(struct engine *engine)
{
	uint64_t text = string_value(engine, "a", 1);
	uint64_t number = Z_qjsZ_JS_NewNumber(&engine->wasm, engine->context, 7);
	uint64_t missing = property(engine, text, "missing");
	uint64_t thrown = Z_qjsZ_JS_ThrowOutOfMemory(&engine->wasm, engine->context);
	bool fit = TAG(text) == TAG_STRING && number == 7 && missing == UNDEFINED && thrown == EXCEPTION;

	free_value(engine, Z_qjsZ_JS_GetException(&engine->wasm, engine->context));
	free_value(engine, text);
	return fit;
}

int engine_load(struct engine **out, const struct host_ops *host, struct heap_plan *plan, const char *bundle, size_t len, const char *name,
		struct err *err)
{
	static const char step[] = "load the planner";
	struct engine *engine;
	jmp_buf target;
	int error;

	*out = NULL;
	if (len > ENGINE_HEAP_MAX)
		return fail(err, E2BIG, step, "a bundle of %zu bytes", len);
	engine = new_engine(host);
	if (engine == NULL)
		return fail(err, ENOMEM, step, "out of memory");
	engine->plan = plan;
	runtime_trap_target = &target;
	error = setjmp(target);
	if (error != 0) {
		error = trapped(engine, error, step, err);
	} else {
		start_clock(engine);
		Z_qjs_instantiate(&engine->wasm, &engine->env, (struct Z_wasi_snapshot_preview1_instance_t *)&engine->env);
		add_host_function(engine);
		Z_qjsZ__initialize(&engine->wasm);
		create_context(engine);
		if (!values_fit(engine))
			error = fail(err, EFAULT, step, "quickjs.wasm is not the version this was written for");
		else if (evaluate(engine, bundle, len, name) != 0)
			error = exception(engine, step, err);
	}
	runtime_trap_target = NULL;
	if (error != 0) {
		engine_free(engine);
		return error;
	}
	*out = engine;
	return 0;
}

int engine_start_text(struct engine **out, const struct host_ops *host, const char *bundle, size_t len, const char *name, struct err *err)
{
	return engine_load(out, host, NULL, bundle, len, name, err);
}

/* --- calls --- */

static uint64_t find_function(struct engine *engine, const char *name)
{
	uint64_t global, value;

	for (size_t i = 0; i < ENGINE_FUNCTIONS; i++)
		if (strcmp(name, engine_functions[i]) == 0)
			return Z_qjsZ_JS_DupValue(&engine->wasm, engine->context, engine->functions[i]);
	global = Z_qjsZ_JS_GetGlobalObject(&engine->wasm, engine->context);
	value = property(engine, global, name);
	free_value(engine, global);
	return value;
}

static int answer(struct engine *engine, const char *function, uint64_t value, char **out, size_t *out_len, struct err *err)
{
	struct borrowed text;
	int error = 0;

	if (!is_string(value))
		return fail(err, EILSEQ, function, "did not return a string");
	text = borrow(engine, value);
	if (text.at == 0)
		return exception(engine, function, err);
	if (text.not_bytes)
		error = fail(err, EILSEQ, function, "returned a string with a char above U+00FF");
	else if ((*out = malloc(text.len + 1)) == NULL)
		error = fail(err, ENOMEM, function, "no memory for an answer of %zu bytes", text.len);
	else
		memcpy(*out, text.bytes, text.len + 1);
	*out_len = text.len;
	give_back(engine, &text);
	return error;
}

static int call(struct engine *engine, const char *function, const char *in, size_t in_len, char **out, size_t *out_len, struct err *err)
{
	uint64_t callee = find_function(engine, function);
	uint64_t argument, result;
	uint32_t argv;
	int error;

	if (!Z_qjsZ_JS_IsFunction(&engine->wasm, engine->context, callee)) {
		free_value(engine, callee);
		return fail(err, ENOENT, function, "the bundle has no such function");
	}
	argument = string_value(engine, in, in_len);
	if (TAG(argument) == TAG_EXCEPTION) {
		free_value(engine, callee);
		return exception(engine, function, err);
	}
	argv = take_scratch(engine, sizeof argument);
	memcpy(runtime_bytes(&engine->wasm, argv, sizeof argument), &argument, sizeof argument);
	result = Z_qjsZ_JS_Call(&engine->wasm, engine->context, callee, UNDEFINED, 1, argv);
	release_scratch(engine, argv, sizeof argument);
	free_value(engine, argument);
	free_value(engine, callee);
	if (TAG(result) == TAG_EXCEPTION)
		return exception(engine, function, err);
	error = answer(engine, function, result, out, out_len, err);
	free_value(engine, result);
	return error;
}

int engine_call(struct engine *engine, const char *function, const char *in, size_t in_len, char **out, size_t *out_len, struct err *err)
{
	jmp_buf target;
	int trap, error;

	*out = NULL;
	*out_len = 0;
	if (engine->dead)
		return fail(err, EFAULT, function, "the engine had a fault before");
	runtime_trap_target = &target;
	trap = setjmp(target);
	if (trap == 0) {
		start_clock(engine);
		error = call(engine, function, in, in_len, out, out_len, err);
	} else {
		error = trapped(engine, trap, function, err);
	}
	runtime_trap_target = NULL;
	return error;
}

int engine_take_fd(struct engine *engine, int64_t handle)
{
	return engine->host == NULL ? -EBADF : engine->host->take_fd(engine->host->context, handle);
}

void engine_free(struct engine *engine)
{
	if (engine == NULL)
		return;
	Z_qjs_free(&engine->wasm);
	host_reply_free(&engine->reply);
	free(engine);
}
