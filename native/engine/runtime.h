/* What the code that wasm2c generates expects of its surroundings (wasm-rt.h), made for one engine that starts from an image: address space is
 * reserved once and memory grows inside it, no signal handler, no allocation for types. Private to native/engine. */
#ifndef TSRUN_ENGINE_RUNTIME_H
#define TSRUN_ENGINE_RUNTIME_H

#include "../util.h"

#include <setjmp.h>

/* Parts of the build (qjs.h is generated into the object directory). */
#include "qjs.h"
#include "space.h"

#define WASM_PAGE ((size_t)65536)

struct engine;

/* The two import instances are one and the same thing to us. */
struct Z_env_instance_t {
	Z_qjs_instance_t *instance;
	struct engine *engine;
};

/* Where a trap (a bug in the engine, or stack or memory at an end inside it) lands; NULL: the process aborts. */
extern jmp_buf *runtime_trap_target;

/* Makes `pages` of zeroed memory usable at the start of engine_space, with the bytes [from, from + len) moved there out of `image`
 * (page aligned, private to this process, gone afterwards) when it is not NULL. -EBUSY: another engine has it. */
int runtime_reserve(wasm_rt_memory_t *memory, uint32_t pages, char *image, size_t from, size_t len);

/* The bytes [at, at + len) of linear memory; a trap when they are not all there. */
static inline char *runtime_bytes(Z_qjs_instance_t *instance, uint32_t at, size_t len)
{
	if (at > instance->w2c_memory.size || len > instance->w2c_memory.size - at)
		wasm_rt_trap(WASM_RT_TRAP_OOB);
	return (char *)instance->w2c_memory.data + at;
}

/* module.c: an instance whose memory and stack pointer come from an image instead of the module's own initialisers. */
void module_restore(Z_qjs_instance_t *instance, struct Z_env_instance_t *env, uint32_t stack_pointer);
/* The place of engine_host_function in the function table; 0 when it does not fit there. After Z_qjs_init_module(). */
uint32_t module_host_function(void);
/* A string of QuickJS's for so many bytes, which the caller puts there; 0: an exception is pending. */
uint32_t module_new_string(Z_qjs_instance_t *instance, uint32_t context, uint32_t len);

#endif
