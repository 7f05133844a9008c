/* The planner's engine: QuickJS-NG with the planner bundle already loaded, started from an image made when tsrun was built.
 *
 * Strings in and out are byte strings: in JavaScript one char, U+0000 to U+00FF, for each byte. The bundle reaches the machine only through
 * __host(), that is through `host_ops`. What it may use is bounded: 48 MiB of heap, processor time for each call, depth of recursion. */
#ifndef TSRUN_ENGINE_H
#define TSRUN_ENGINE_H

#include "../host.h"

#define ENGINE_HEAP_MAX ((uint32_t)48 << 20) /* bytes */
#define ENGINE_CPU_MS 5000                   /* of processor time for one call; engine_limit_cpu() changes it */

struct engine;

/* Starts the engine from the embedded image. Once per process: the image's pages become the engine's memory. `host` must outlive the engine.
 * -ENOSYS: built without an engine (make ENGINE=none). -EALREADY: the image was used before. */
int engine_start(struct engine **engine, const struct host_ops *host, struct err *err);

/* Starts an engine by evaluating a bundle's text (NUL-terminated; some 15 times slower): for making the image and for tests. */
int engine_start_text(struct engine **engine, const struct host_ops *host, const char *bundle, size_t len, const char *name, struct err *err);

/* Calls globalThis[function](in) and gives its answer as malloc'ed bytes with a NUL behind: those of a string, or of all texts in an array of arrays with
 * a NUL behind each (numbers are decimal text; a list in such an array is one text, with commas). What it throws comes back in `err` with its stack:
 * -EPROTO; -ENOMEM and -ETIME when a limit was met; -ENOENT without such a function; -EILSEQ when the answer is neither, or no byte string. After
 * -EFAULT (a fault inside the engine) the engine takes no more calls. */
int engine_call(struct engine *engine, const char *function, const char *in, size_t in_len, char **out, size_t *out_len, struct err *err);

void engine_limit_cpu(struct engine *engine, unsigned int milliseconds);

/* The descriptor behind a handle of open_keep becomes the caller's, or -EBADF. */
int engine_take_fd(struct engine *engine, int64_t handle);

void engine_free(struct engine *engine);

#endif
