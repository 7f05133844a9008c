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
	uint32_t host_function; /* its place in the function table */
	uint64_t functions[ENGINE_FUNCTIONS];
	unsigned int cpu_ms;
	int64_t cpu_deadline_ns;
	bool expired, dead;
	struct heap_plan *plan; /* only while an image is made */
	struct host_reply reply;
};

/* engine_start_text with a plan of the heap. */
int engine_load(struct engine **engine, const struct host_ops *host, struct heap_plan *plan, const char *bundle, size_t len, const char *name,
		struct err *err);

#endif
