/* The generated translation unit, included for its static functions: a start from an image runs none of the module's initialisers, the
 * function table is a constant, and some functions are ours: adapt.mjs gives the generated ones another name. Compiled on its own, with the
 * flags for generated code: it takes most of a minute.
 *
 * With -DENGINE_WATCH, as mksnapshot has it, every access to linear memory is told to engine_watch(). */
#include <string.h>
#include <wasm-rt.h>

#include "heap_small.h"

#ifdef ENGINE_WATCH
void engine_watch(const void *to, const void *from, size_t len);
#undef wasm_rt_memcpy
#define wasm_rt_memcpy(to, from, len) (engine_watch(to, from, len), memcpy(to, from, len))
#define memmove(to, from, len) (engine_watch(to, from, len), memmove(to, from, len))
#define memset(to, value, len) (engine_watch(to, NULL, len), memset(to, value, len))
#endif

/* What adapt.mjs puts in the place of each address. An address that is none (a mistake in the engine) leads nowhere but into the engine's own memory,
 * to whose size it is cut. With -DENGINE_LAST, where nothing is mapped in the 4 GiB behind that memory (README.md), any 32 bits will do: there is nothing
 * to be found but a fault. Checks would be a seventh of all instructions of a call. */
#ifdef ENGINE_LAST
#define INSIDE(address) (u32)(address)
#else
#define INSIDE(address) ((address) & (ENGINE_SPACE - 1))
#endif
#define PLACE(address, more)           \
	((u64)INSIDE(address) + \
	 (more + 0) * sizeof(char[(more + 0) <= ENGINE_BEYOND - sizeof(u64) ? 1 : -1]))

/* Entry n + 1 of the function table is element n of the generated constant; behind them lies our own function, of type HOST_TYPE. */
#define ELEMENTS (uint32_t)(sizeof elem_segment_exprs_w2c_e0 / sizeof *elem_segment_exprs_w2c_e0)
#define HOST_TYPE 1 /* (i32, i64, i32, i32) -> i64; module_host_function() compares */
#define TABLE_ENTRY(type, place)                                                                                           \
	((place) < ELEMENTS ? (elem_segment_exprs_w2c_e0[place].func_type_index == (type) ? elem_segment_exprs_w2c_e0[place].func : NULL) \
			    : (place) == ELEMENTS && (type) == HOST_TYPE ? (wasm_rt_function_ptr_t)&engine_host_function : NULL)
#define CALL_INDIRECT(table, t, type, index, ...)                                \
	({                                                                       \
		uint32_t place_ = (index)-1u;                                    \
		wasm_rt_function_ptr_t function_ = TABLE_ENTRY(type, place_);    \
		if (UNLIKELY(function_ == NULL))                                 \
			TRAP(CALL_INDIRECT);                                     \
		((t)function_)(__VA_ARGS__);                                     \
	})

#include "qjs.c"

uint32_t module_host_function(void)
{
	uint32_t type = wasm_rt_register_func_type(4, 1, WASM_RT_I32, WASM_RT_I64, WASM_RT_I32, WASM_RT_I32, WASM_RT_I64);

	return func_types[HOST_TYPE] == type ? ELEMENTS + 1 : 0;
}

void module_restore(Z_qjs_instance_t *instance, struct Z_env_instance_t *env, uint32_t stack_pointer)
{
	init_instance_import(instance, env, (struct Z_wasi_snapshot_preview1_instance_t *)env);
	instance->w2c___stack_pointer = stack_pointer;
	init_data_instances(instance);
	init_elem_instances(instance);
}

#define FIRST_COUNTED 0xfffffff7u /* the least tag of values that are: JS_TAG_FIRST */

/* A value that is counted ends here when it was the last; all others, which most are, need none of the generated function's registers. The count
 * lies in front of what the value points to (engine_load() checks). */
static inline bool is_last(u64 value)
{
	u32 count;

	if (value < (u64)FIRST_COUNTED << 32)
		return false;
	count = i32_load(NULL, PLACE((u32)value - 4, 0));
	if ((s32)count <= 1)
		return true;
	i32_store(NULL, PLACE((u32)value - 4, 0), count - 1);
	return false;
}

static void w2c_JS_FreeValueRT(Z_qjs_instance_t *instance, u32 runtime, u64 value)
{
	if (is_last(value))
		generated_JS_FreeValueRT(instance, runtime, value);
}

static void w2c_JS_FreeValue(Z_qjs_instance_t *instance, u32 context, u64 value)
{
	if (is_last(value))
		generated_JS_FreeValue(instance, context, value);
}

/* The engine's own functions that have no name in quickjs.wasm; engine_load() looks whether they are these. */
#define find_own_property w2c_f99
#define add_property w2c_f158
#define alloc_string w2c_f322

uint32_t module_new_string(Z_qjs_instance_t *instance, uint32_t context, uint32_t len)
{
	return alloc_string(instance, context, len, false);
}

/* Of an object's second word. */
#define EXTENSIBLE 2u
#define EXOTIC 8u
/* What a property is made with. */
#define ATTRIBUTES 7u
#define HAS_VALUE 0x2000u
#define HAS_ACCESSORS 0x1800u

/* A property that is new, with a value, of an object that takes it: as nearly all of those that literals have. A start makes hundreds. */
static u32 w2c_JS_DefineProperty(Z_qjs_instance_t *instance, u32 context, u64 object, u32 name, u64 value, u64 getter, u64 setter, u32 flags)
{
	u32 scratch = instance->w2c___stack_pointer - 16, place;

	if (TAG(object) != TAG_OBJECT || (flags & (HAS_VALUE | HAS_ACCESSORS)) != HAS_VALUE ||
	    (i32_load8_u(NULL, PLACE((u32)object, 8)) & (EXTENSIBLE | EXOTIC)) != EXTENSIBLE ||
	    find_own_property(instance, scratch, (u32)object, name) != 0)
		return generated_JS_DefineProperty(instance, context, object, name, value, getter, setter, flags);
	place = add_property(instance, context, (u32)object, name, flags & ATTRIBUTES);
	if (place == 0)
		return (u32)-1;
	if (value >= (u64)FIRST_COUNTED << 32)
		i32_store(NULL, PLACE((u32)value - 4, 0), i32_load(NULL, PLACE((u32)value - 4, 0)) + 1);
	i64_store(NULL, PLACE(place, 0), value);
	return true;
}

#define CONTEXT_RUNTIME 8
#define CONTEXT_INTERRUPT 292
#define RUNTIME_ATOMS_ROOM 556
#define RUNTIME_ATOMS 568

/* At each call and each jump back it is asked whether to go on: once in thousands of times there is more to it than counting down. */
static u32 w2c_f93(Z_qjs_instance_t *instance, u32 context)
{
	s32 left = (s32)i32_load(NULL, PLACE(context, CONTEXT_INTERRUPT));

	if (left <= 1)
		return generated_f93(instance, context);
	i32_store(NULL, PLACE(context, CONTEXT_INTERRUPT), (u32)(left - 1));
	return 0;
}

#define ATOM_KIND 0xc0000000u /* of the second word of a string */
#define ATOM_TEXT 0x40000000u

/* The value of a name in the bundle's text: mostly a string that is there. */
static u64 w2c_f208(Z_qjs_instance_t *instance, u32 context, u32 atom, u32 as_text)
{
	u32 runtime = i32_load(NULL, PLACE(context, CONTEXT_RUNTIME)), text;

	if (atom >= i32_load(NULL, PLACE(runtime, RUNTIME_ATOMS_ROOM)))
		return generated_f208(instance, context, atom, as_text);
	text = i32_load(NULL, PLACE(i32_load(NULL, PLACE(runtime, RUNTIME_ATOMS)) + 4 * atom, 0));
	if ((i32_load(NULL, PLACE(text, 4)) & ATOM_KIND) != ATOM_TEXT)
		return generated_f208(instance, context, atom, as_text);
	i32_store(NULL, PLACE(text - 4, 0), i32_load(NULL, PLACE(text - 4, 0)) + 1);
	return (u64)(u32)TAG_STRING << 32 | text;
}

#define UNSETTLED 2u
#define BIT(tag) (1u << ((tag) - TAG_STRING))
#define SIMPLE (BIT(TAG_STRING) | BIT(TAG_OBJECT) | BIT(TAG_INT) | BIT(TAG_BOOL) | BIT(TAG_NULL) | BIT(TAG_UNDEFINED))

/* Whether two values are the same in JavaScript's eyes, where kind, place or length tell. */
static inline u32 same(u64 one, u64 other)
{
	u32 kind = (u32)(TAG(one) - TAG_STRING), other_kind = (u32)(TAG(other) - TAG_STRING);

	if (kind > TAG_UNDEFINED - TAG_STRING || other_kind > TAG_UNDEFINED - TAG_STRING || (SIMPLE >> kind & SIMPLE >> other_kind & 1) == 0)
		return UNSETTLED;
	if (kind != other_kind)
		return false;
	if (one == other || kind == TAG_NULL - TAG_STRING || kind == TAG_UNDEFINED - TAG_STRING)
		return true;
	return kind != 0 || (i32_load(NULL, PLACE((u32)one, 0)) << 1) != (i32_load(NULL, PLACE((u32)other, 0)) << 1) ? false : UNSETTLED;
}

/* === and !== of the two values on top of the interpreter's stack that are not both small integers. */
static void w2c_f120(Z_qjs_instance_t *instance, u32 context, u32 stack, u32 is_not)
{
	u64 one = i64_load(NULL, PLACE(stack - 16, 0)), other = i64_load(NULL, PLACE(stack - 8, 0));
	u32 answer = same(one, other);

	if (answer == UNSETTLED) {
		generated_f120(instance, context, stack, is_not);
		return;
	}
	w2c_JS_FreeValue(instance, context, one);
	w2c_JS_FreeValue(instance, context, other);
	i64_store(NULL, PLACE(stack - 16, 0), (u64)TAG_BOOL << 32 | (answer ^ is_not));
}

/* The allocator (heap.h). Within all that use it, it would take more registers from them than its calls cost. */

static NOINLINE u32 w2c_js_malloc_rt(Z_qjs_instance_t *instance, u32 runtime, u32 size)
{
	u32 block;

	if (size == 0)
		return 0;
	block = heap_take_small((struct engine *)instance, size);
	return block != 0 ? block : heap_take((struct engine *)instance, size);
}

static NOINLINE void w2c_js_free_rt(Z_qjs_instance_t *instance, u32 runtime, u32 block)
{
	if (block != 0 && !heap_return_soon((struct engine *)instance, block))
		heap_return((struct engine *)instance, block);
}

static u32 w2c_js_calloc_rt(Z_qjs_instance_t *instance, u32 runtime, u32 count, u32 size)
{
	return count == 0 || size == 0 ? 0 : heap_take_zeroed((struct engine *)instance, count, size);
}

static u32 w2c_js_realloc_rt(Z_qjs_instance_t *instance, u32 runtime, u32 block, u32 size)
{
	if (size > 0)
		return heap_resize((struct engine *)instance, block, size);
	heap_return((struct engine *)instance, block);
	return 0;
}

static u32 w2c_js_malloc_usable_size_rt(Z_qjs_instance_t *instance, u32 runtime, u32 block)
{
	return heap_usable(block);
}

static u32 w2c_js_malloc_usable_size(Z_qjs_instance_t *instance, u32 context, u32 block)
{
	return heap_usable(block);
}
