/* Between engine.c, the image and the program that makes it. */
#ifndef TSRUN_ENGINE_INTERNAL_H
#define TSRUN_ENGINE_INTERNAL_H

#include "engine.h"
#include "heap.h"
#include "runtime.h"

/* The functions of the bundle that are looked up when the image is made. */
#define ENGINE_FUNCTIONS 2
extern const char *const engine_functions[ENGINE_FUNCTIONS];

/* Linear memory as it was when the image was made: `pages` long; all of it zero but [from, from + len), which is at `bytes`. */
struct engine_image {
	char *bytes;
	size_t from, len;
	uint32_t pages, stack_pointer, runtime, context, heap;
	uint64_t functions[ENGINE_FUNCTIONS];
};
const struct engine_image *engine_image(void);

struct engine {
	Z_qjs_instance_t wasm; /* first: module.c finds the engine by it */
	struct Z_env_instance_t env;
	const struct host_ops *host; /* NULL while the image is made: every host call answers -ENOSYS */
	uint32_t runtime, context; /* addresses in linear memory */
	uint32_t heap;
	uint64_t functions[ENGINE_FUNCTIONS];
	unsigned int cpu_ms;
	int64_t cpu_deadline_ns;
	bool expired, dead;
	struct heap_plan *plan; /* only while an image is made */
	struct host_reply reply;
};

/* Values of QuickJS on a 32-bit machine: the tag in the upper half, numbers that are no small integers shifted below the tags. engine_load checks
 * these against the engine. */
#define TAG(value) ((int32_t)((value) >> 32))
#define TAG_INT 0
#define TAG_BOOL 1
#define TAG_NULL 2
#define TAG_UNDEFINED 3
#define TAG_EXCEPTION 6
#define TAG_STRING (-7)
#define TAG_ROPE (-6)
#define TAG_OBJECT (-1)
#define UNDEFINED ((uint64_t)TAG_UNDEFINED << 32)
#define EXCEPTION ((uint64_t)TAG_EXCEPTION << 32)

/* The bytes of a JavaScript string, in linear memory, with a NUL behind. */
struct borrowed {
	uint32_t at; /* 0: an exception is pending */
	const char *bytes;
	size_t len;
	bool not_bytes; /* there is a char above U+00FF: `bytes` is UTF-8 then */
	bool lent;      /* `bytes` are the string's own */
};

/* strings.c */
bool engine_is_string(uint64_t value);
/* A place in linear memory for `len` bytes: on the module's stack when small; 0: there is none. engine_release_scratch() ends it. */
uint32_t engine_take_scratch(struct engine *engine, size_t len);
void engine_release_scratch(struct engine *engine, uint32_t at, size_t len);
/* A JavaScript string of these bytes, or EXCEPTION (out of memory). */
uint64_t engine_string_value(struct engine *engine, const char *bytes, size_t len);
struct borrowed engine_borrow(struct engine *engine, uint64_t value);
void engine_give_back(struct engine *engine, struct borrowed *text);
uint64_t engine_property(struct engine *engine, uint64_t object, const char *name);
void engine_free_value(struct engine *engine, uint64_t value);

/* answers.c: the parts of an array as bytes: the text of each of their values, and a NUL behind it. A list among these is one text, with commas between its values: as
 * JavaScript has it, where it would cost a start a tenth of its planning. 0; -EILSEQ: it is no array, or not all are byte strings without NUL; -ENOMEM; -EPROTO: an
 * exception is pending. */
int engine_texts(struct engine *engine, uint64_t array, char **out, size_t *out_len);

/* host_function.c: the one native function of the bundle, __host, called by the engine through its function table. */
u64 engine_host_function(void *context, u32 js_context, u64 this_value, u32 argc, u32 argv);

/* engine.c: both fill `err` and return its negative errno. */
int engine_exception(struct engine *engine, const char *step, struct err *err);
int engine_trapped(struct engine *engine, int trap, const char *step, struct err *err);
void engine_start_clock(struct engine *engine);

/* engine_start_text with a plan of the heap. */
int engine_load(struct engine **engine, const struct host_ops *host, struct heap_plan *plan, const char *bundle, size_t len, const char *name,
		struct err *err);

#endif
