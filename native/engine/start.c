/* Starting: from the image, or from a bundle's text. */
#include "internal.h"

#include <string.h>

#define JS_STACK_MAX (256 * 1024) /* of the module's own stack of 1 MiB */
#define GC_NEVER UINT32_MAX       /* the process ends before cycles matter; ENGINE_HEAP_MAX holds */

const char *const engine_functions[ENGINE_FUNCTIONS] = {"tsrunStart", "tsrunFailure"};

static struct engine *new_engine(const struct host_ops *host)
{
	struct engine *engine = calloc(1, sizeof *engine);

	if (engine == NULL)
		return NULL;
	engine->env = (struct Z_env_instance_t){.instance = &engine->wasm, .engine = engine};
	engine->host = host;
	engine->cpu_ms = ENGINE_CPU_MS;
	return engine;
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
		return fail(err, -error, step, "cannot reserve %u MiB of address space: %s", ENGINE_SPACE >> 20, strerror(-error));
	}
	used = true;
	runtime_trap_target = &target;
	error = setjmp(target);
	if (error == 0)
		module_restore(&engine->wasm, &engine->env, image->stack_pointer);
	runtime_trap_target = NULL;
	engine->runtime = image->runtime;
	engine->context = image->context;
	engine->heap = image->heap;
	memcpy(engine->functions, image->functions, sizeof engine->functions);
	if (error != 0) {
		error = engine_trapped(engine, error, step, err);
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

	value = Z_qjsZ_JS_NewCFunction2(wasm, engine->context, module_host_function(), host_name, 1, 0, 0);
	Z_qjsZ_JS_SetPropertyStr(wasm, engine->context, global, host_name, value);
	value = Z_qjsZ_JS_Eval(wasm, engine->context, text, (uint32_t)len, file, 0);
	heap_return(engine, text);
	heap_return(engine, file);
	heap_return(engine, host_name);
	if (TAG(value) != TAG_EXCEPTION) {
		engine_free_value(engine, value);
		for (size_t i = 0; i < ENGINE_FUNCTIONS; i++)
			engine->functions[i] = engine_property(engine, global, engine_functions[i]);
	}
	engine_free_value(engine, global);
	return TAG(value) == TAG_EXCEPTION ? -EPROTO : 0;
}

/* How many hold the value: in front of what it points to. */
static uint32_t holders(struct engine *engine, uint64_t value)
{
	uint32_t count;

	memcpy(&count, runtime_bytes(&engine->wasm, (uint32_t)value - sizeof count, sizeof count), sizeof count);
	return count;
}

/* Does the engine itself find the bytes that were put where it keeps those of a string? */
static bool lends(struct engine *engine)
{
	char bytes[512];
	uint64_t value = engine_string_value(engine, memset(bytes, 0xe9, sizeof bytes), sizeof bytes);
	struct borrowed text = engine_borrow(engine, value);
	uint32_t copy = Z_qjsZ_JS_ToCStringLen2(&engine->wasm, engine->context, 0, value, 0);
	bool same = text.lent && text.len == sizeof bytes && memcmp(text.bytes, bytes, sizeof bytes) == 0 && copy != 0;

	for (size_t i = 0; same && i < sizeof bytes; i++)
		same = memcmp(runtime_bytes(&engine->wasm, copy + (uint32_t)i * 2, 2), "\xc3\xa9", 2) == 0;
	Z_qjsZ_JS_FreeCString(&engine->wasm, engine->context, copy);
	engine_give_back(engine, &text);
	engine_free_value(engine, value);
	return same;
}

/* Is the byte that adapt.mjs takes for the first of the dump flags, and for always 0, that byte? */
#define DUMP_FLAGS 753
static bool flags_fit(struct engine *engine)
{
	char *flags = runtime_bytes(&engine->wasm, engine->runtime + DUMP_FLAGS, 3);
	bool fit;

	Z_qjsZ_JS_SetDumpFlags(&engine->wasm, engine->runtime, 0x030201);
	fit = memcmp(flags, "\1\2\3", 3) == 0;
	Z_qjsZ_JS_SetDumpFlags(&engine->wasm, engine->runtime, 0);
	return fit && memcmp(flags, "\0\0\0", 3) == 0;
}

/* Are the values of an array where they are read? */
static bool reads_arrays(struct engine *engine)
{
	uint64_t values[] = {7, engine_string_value(engine, "a", 1)}, array;
	uint32_t at = engine_take_scratch(engine, sizeof values);
	size_t len = 0;
	char *texts = NULL;
	bool same;

	memcpy(runtime_bytes(&engine->wasm, at, sizeof values), values, sizeof values);
	array = Z_qjsZ_JS_NewArrayFrom(&engine->wasm, engine->context, 2, at);
	engine_release_scratch(engine, at, sizeof values);
	same = engine_texts(engine, array, &texts, &len) == 0 && len == sizeof "7\0a" && memcmp(texts, "7\0a", len) == 0;
	free(texts);
	Z_qjsZ_JS_SetLength(&engine->wasm, engine->context, array, 3);
	same = same && engine_texts(engine, array, &texts, &len) == -EILSEQ;
	engine_free_value(engine, array);
	return same;
}

/* What module.c does in the place of the engine's own functions that have no name. */
static bool own_functions_fit(struct engine *engine)
{
	static const char script[] = "(() => { const b = 'ab'.slice(1), made = { a: 1, a: 2, b, get c() { return 3; }, 7: 4 };"
				     "return Object.keys(made).join() === '7,a,b,c' && made.a === 2 && made.b === 'b' && made.b !== 'c' && made.c === 3 && made[7] === 4 &&"
				     "made !== {} && b !== undefined && null !== undefined && NaN !== NaN && 0 === -0 && 1n === 1n && b + b === 'bb' &&"
				     "!Reflect.defineProperty(Object.freeze({}), 'a', { value: 1 }); })()";
	uint32_t text = place(engine, script, sizeof script - 1), file = place(engine, "", 0);
	uint64_t answer = Z_qjsZ_JS_Eval(&engine->wasm, engine->context, text, sizeof script - 1, file, 0);

	heap_return(engine, text);
	heap_return(engine, file);
	return answer == ((uint64_t)TAG_BOOL << 32 | 1);
}

/* Are values what these files take them for? */
static bool values_fit(struct engine *engine)
{
	uint64_t text = engine_string_value(engine, "a", 1);
	uint64_t number = Z_qjsZ_JS_NewNumber(&engine->wasm, engine->context, 7);
	uint64_t missing = engine_property(engine, text, "missing");
	uint64_t thrown = Z_qjsZ_JS_ThrowOutOfMemory(&engine->wasm, engine->context);
	bool counts = holders(engine, text) == 1 && holders(engine, Z_qjsZ_JS_DupValue(&engine->wasm, engine->context, text)) == 2;
	bool fit = TAG(text) == TAG_STRING && number == 7 && missing == UNDEFINED && thrown == EXCEPTION && counts;

	engine_free_value(engine, Z_qjsZ_JS_GetException(&engine->wasm, engine->context));
	engine_free_value(engine, text);
	counts = counts && holders(engine, text) == 1;
	engine_free_value(engine, text);
	return fit && counts && lends(engine) && reads_arrays(engine) && flags_fit(engine) && own_functions_fit(engine);
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
		error = engine_trapped(engine, error, step, err);
	} else {
		engine_start_clock(engine);
		Z_qjs_init_module();
		Z_qjs_instantiate(&engine->wasm, &engine->env, (struct Z_wasi_snapshot_preview1_instance_t *)&engine->env);
		Z_qjsZ__initialize(&engine->wasm);
		create_context(engine);
		if (module_host_function() == 0 || !values_fit(engine))
			error = fail(err, EFAULT, step, "quickjs.wasm is not the version this was written for");
		else if (evaluate(engine, bundle, len, name) != 0)
			error = engine_exception(engine, step, err);
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
