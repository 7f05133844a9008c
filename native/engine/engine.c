/* Calls into the bundle, what they throw, and how long they may take. */
#include "internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

/* --- limits --- */

static int64_t cpu_now_ns(void)
{
	struct timespec now = {0};

	/* Not by the C library, which first looks for the way without a system call, that this clock does not have: a page more to touch. */
	syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &now);
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

void engine_start_clock(struct engine *engine)
{
	engine->expired = false;
	engine->cpu_deadline_ns = cpu_now_ns() + (int64_t)engine->cpu_ms * 1000000;
}

/* --- exceptions --- */

/* Turns the pending exception into `err`: "TypeError: message" and the stack below it. */
int engine_exception(struct engine *engine, const char *step, struct err *err)
{
	uint64_t thrown, stack_value = UNDEFINED;
	struct borrowed message, stack = {0};
	int error;

	/* The report itself needs a little memory and time. */
	heap_limit(engine, (uint32_t)ENGINE_SPACE);
	engine->cpu_deadline_ns = INT64_MAX;
	thrown = Z_qjsZ_JS_GetException(&engine->wasm, engine->context);
	message = engine_borrow(engine, thrown);
	if (Z_qjsZ_JS_IsError(&engine->wasm, thrown))
		stack_value = engine_property(engine, thrown, "stack");
	if (engine_is_string(stack_value))
		stack = engine_borrow(engine, stack_value);
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
	engine_give_back(engine, &message);
	engine_give_back(engine, &stack);
	engine_free_value(engine, stack_value);
	engine_free_value(engine, thrown);
	heap_limit(engine, ENGINE_HEAP_MAX);
	return error;
}

int engine_trapped(struct engine *engine, int trap, const char *step, struct err *err)
{
	engine->dead = true;
	return fail(err, EFAULT, step, "fault inside the engine: %s", wasm_rt_strerror((wasm_rt_trap_t)trap));
}

/* --- calls --- */

static uint64_t find_function(struct engine *engine, const char *name)
{
	uint64_t global, value;

	for (size_t i = 0; i < ENGINE_FUNCTIONS; i++)
		if (strcmp(name, engine_functions[i]) == 0)
			return Z_qjsZ_JS_DupValue(&engine->wasm, engine->context, engine->functions[i]);
	global = Z_qjsZ_JS_GetGlobalObject(&engine->wasm, engine->context);
	value = engine_property(engine, global, name);
	engine_free_value(engine, global);
	return value;
}

static int answer(struct engine *engine, const char *function, uint64_t value, char **out, size_t *out_len, struct err *err)
{
	struct borrowed text;
	int error = 0;

	if (!engine_is_string(value)) {
		error = engine_texts(engine, value, out, out_len);
		if (error == -EPROTO)
			return engine_exception(engine, function, err);
		return error == 0 ? 0 : fail(err, -error, function, "returned neither a byte string nor lists of them without NUL");
	}
	text = engine_borrow(engine, value);
	if (text.at == 0)
		return engine_exception(engine, function, err);
	if (text.not_bytes)
		error = fail(err, EILSEQ, function, "returned a string with a char above U+00FF");
	else if ((*out = malloc(text.len + 1)) == NULL)
		error = fail(err, ENOMEM, function, "no memory for an answer of %zu bytes", text.len);
	else
		memcpy(*out, text.bytes, text.len + 1);
	*out_len = text.len;
	engine_give_back(engine, &text);
	return error;
}

static int call(struct engine *engine, const char *function, const char *in, size_t in_len, char **out, size_t *out_len, struct err *err)
{
	uint64_t callee = find_function(engine, function);
	uint64_t argument, result;
	uint32_t argv;
	int error;

	if (!Z_qjsZ_JS_IsFunction(&engine->wasm, engine->context, callee)) {
		engine_free_value(engine, callee);
		return fail(err, ENOENT, function, "the bundle has no such function");
	}
	argument = engine_string_value(engine, in, in_len);
	if (TAG(argument) == TAG_EXCEPTION) {
		engine_free_value(engine, callee);
		return engine_exception(engine, function, err);
	}
	argv = engine_take_scratch(engine, sizeof argument);
	memcpy(runtime_bytes(&engine->wasm, argv, sizeof argument), &argument, sizeof argument);
	result = Z_qjsZ_JS_Call(&engine->wasm, engine->context, callee, UNDEFINED, 1, argv);
	engine_release_scratch(engine, argv, sizeof argument);
	engine_free_value(engine, argument);
	engine_free_value(engine, callee);
	/* The last that was allocated: what comes now finds its pages touched. */
	host_reply_free(&engine->reply);
	if (TAG(result) == TAG_EXCEPTION)
		return engine_exception(engine, function, err);
	error = answer(engine, function, result, out, out_len, err);
	engine_free_value(engine, result);
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
		engine_start_clock(engine);
		error = call(engine, function, in, in_len, out, out_len, err);
	} else {
		error = engine_trapped(engine, trap, function, err);
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
