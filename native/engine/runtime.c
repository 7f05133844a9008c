#include "runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

#define TYPES_MAX 256

jmp_buf *runtime_trap_target;

_Alignas(65536) uint8_t engine_space[ENGINE_SPACE + ENGINE_BEYOND];
static bool space_taken;

/* --- traps --- */

void wasm_rt_trap(wasm_rt_trap_t trap)
{
	if (runtime_trap_target == NULL)
		abort();
	longjmp(*runtime_trap_target, trap);
}

bool wasm_rt_is_initialized(void)
{
	return true;
}

const char *wasm_rt_strerror(wasm_rt_trap_t trap)
{
	static const char *const texts[] = {
		[WASM_RT_TRAP_NONE] = "no trap",
		[WASM_RT_TRAP_OOB] = "access outside the engine's memory",
		[WASM_RT_TRAP_INT_OVERFLOW] = "integer overflow",
		[WASM_RT_TRAP_DIV_BY_ZERO] = "division by zero",
		[WASM_RT_TRAP_INVALID_CONVERSION] = "invalid conversion to an integer",
		[WASM_RT_TRAP_UNREACHABLE] = "unreachable code (an assertion of the engine)",
		[WASM_RT_TRAP_CALL_INDIRECT] = "call of a function that is not there",
		[WASM_RT_TRAP_UNCAUGHT_EXCEPTION] = "uncaught exception",
		[WASM_RT_TRAP_EXHAUSTION] = "call stack exhausted",
	};

	return (size_t)trap < ARRAY_LEN(texts) && texts[trap] != NULL ? texts[trap] : "unknown trap";
}

/* --- function types: a signature packed into 64 bits (three for each type, 17 parameters are the most there are) --- */

static uint64_t types[TYPES_MAX];
static uint32_t type_count;

uint32_t wasm_rt_register_func_type(uint32_t params, uint32_t results, ...)
{
	uint64_t type = (uint64_t)params << 1 | results;
	va_list args;

	if (params > 17 || results > 1)
		abort();
	va_start(args, results);
	for (uint32_t i = 0; i < params + results; i++)
		type = type << 3 | (uint64_t)va_arg(args, wasm_rt_type_t);
	va_end(args);
	for (uint32_t i = 0; i < type_count; i++)
		if (types[i] == type)
			return i + 1;
	if (type_count == TYPES_MAX)
		abort();
	types[type_count++] = type;
	return type_count;
}

/* --- memory --- */

/* Moves the image's pages to their place. Something stays mapped where they were: whoever walks the program's data (a leak checker, a core dump)
 * must not meet a hole. */
static int move_image(char *image, size_t len, char *to)
{
	if (mremap(image, len, len, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) != MAP_FAILED)
		return 0;
	/* Linux before 5.13 cannot leave a file's pages mapped. */
	if (mremap(image, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED ||
	    mmap(image, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return -errno;
	return 0;
}

/* All zeros again, and without pages. */
static bool clear_space(void)
{
	return mmap(engine_space, sizeof engine_space, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

int runtime_reserve(wasm_rt_memory_t *memory, uint32_t pages, char *image, size_t from, size_t len)
{
	size_t size = pages * WASM_PAGE;
	int error;

	if (size > ENGINE_SPACE || from > size || len > size - from)
		return -EINVAL;
	if (space_taken)
		return -EBUSY;
	if (image != NULL && (error = move_image(image, len, (char *)engine_space + from)) != 0)
		return error;
	space_taken = true;
	*memory = (wasm_rt_memory_t){
		.data = engine_space, .pages = pages, .max_pages = (uint32_t)(ENGINE_SPACE / WASM_PAGE), .size = (uint32_t)size};
	return 0;
}

/* The module asks for its own maximum, 4 GiB; it gets ours. */
void wasm_rt_allocate_memory(wasm_rt_memory_t *memory, uint32_t initial_pages, uint32_t max_pages UNUSED)
{
	if (runtime_reserve(memory, initial_pages, NULL, 0, 0) != 0)
		wasm_rt_trap(WASM_RT_TRAP_EXHAUSTION);
}

uint32_t wasm_rt_grow_memory(wasm_rt_memory_t *memory, uint32_t delta)
{
	uint32_t old = memory->pages;

	if (delta > memory->max_pages - old)
		return UINT32_MAX;
	memory->pages = old + delta;
	memory->size = (uint32_t)(memory->pages * WASM_PAGE);
	return old;
}

void wasm_rt_free_memory(wasm_rt_memory_t *memory)
{
	if (memory->data != NULL)
		space_taken = !clear_space();
	memory->data = NULL;
}

/* --- the function table: a constant of module.c; the instance's own stays empty --- */

void wasm_rt_allocate_funcref_table(wasm_rt_funcref_table_t *table, uint32_t elements, uint32_t max_elements)
{
	*table = (wasm_rt_funcref_table_t){.data = calloc(elements, sizeof *table->data), .size = elements, .max_size = max_elements};
	if (table->data == NULL)
		wasm_rt_trap(WASM_RT_TRAP_EXHAUSTION);
}

void wasm_rt_free_funcref_table(wasm_rt_funcref_table_t *table)
{
	free(table->data);
	table->data = NULL;
}

/* --- what the module imports beside host calls: the planner has no clock, no randomness (the host call gives it), no files, no modules --- */

#define WASI_BADF 8
#define WASI_FILETYPE_CHARACTER 2

static char *bytes_at(struct Z_wasi_snapshot_preview1_instance_t *wasi, uint32_t at, uint32_t len)
{
	return runtime_bytes(((struct Z_env_instance_t *)wasi)->instance, at, len);
}

u32 Z_wasi_snapshot_preview1Z_clock_time_get(struct Z_wasi_snapshot_preview1_instance_t *wasi, u32 clock UNUSED, u64 precision UNUSED, u32 result)
{
	memset(bytes_at(wasi, result, 8), 0, 8);
	return 0;
}

u32 Z_wasi_snapshot_preview1Z_random_get(struct Z_wasi_snapshot_preview1_instance_t *wasi, u32 buffer, u32 len)
{
	memset(bytes_at(wasi, buffer, len), 1, len);
	return 0;
}

u32 Z_wasi_snapshot_preview1Z_fd_close(struct Z_wasi_snapshot_preview1_instance_t *wasi UNUSED, u32 fd UNUSED)
{
	return WASI_BADF;
}

u32 Z_wasi_snapshot_preview1Z_fd_fdstat_get(struct Z_wasi_snapshot_preview1_instance_t *wasi, u32 fd, u32 result)
{
	char *stat;

	if (fd != 1 && fd != 2)
		return WASI_BADF;
	stat = bytes_at(wasi, result, 24);
	memset(stat, 0, 24);
	stat[0] = WASI_FILETYPE_CHARACTER;
	return 0;
}

u32 Z_wasi_snapshot_preview1Z_fd_seek(struct Z_wasi_snapshot_preview1_instance_t *wasi UNUSED, u32 fd UNUSED, u64 offset UNUSED, u32 whence UNUSED,
				      u32 result UNUSED)
{
	return WASI_BADF;
}

/* The engine's own last words (failed assertions) go to stderr. */
u32 Z_wasi_snapshot_preview1Z_fd_write(struct Z_wasi_snapshot_preview1_instance_t *wasi, u32 fd, u32 vectors, u32 count, u32 written)
{
	uint32_t total = 0;

	if (fd != 1 && fd != 2)
		return WASI_BADF;
	for (uint32_t i = 0; i < count && i < 16; i++) {
		uint32_t vector[2];
		memcpy(vector, bytes_at(wasi, vectors + i * 8, 8), 8);
		if (write_full(STDERR_FILENO, bytes_at(wasi, vector[0], vector[1]), vector[1]) != 0)
			break;
		total += vector[1];
	}
	memcpy(bytes_at(wasi, written, 4), &total, 4);
	return 0;
}

u32 Z_envZ_host_get_timezone_offset(struct Z_env_instance_t *env UNUSED, u32 high UNUSED, u32 low UNUSED)
{
	return 0;
}

u32 Z_envZ_host_module_load(struct Z_env_instance_t *env UNUSED, u32 name UNUSED, u32 len UNUSED)
{
	return 0;
}

u32 Z_envZ_host_module_normalize(struct Z_env_instance_t *env UNUSED, u32 base UNUSED, u32 name UNUSED)
{
	return 0;
}

void Z_envZ_host_promise_rejection(struct Z_env_instance_t *env UNUSED, u32 promise UNUSED, u32 reason UNUSED, u32 handled UNUSED)
{
}

/* The library's own way to call the host is not used: host.def's one function sits in the table directly. */
u32 Z_envZ_host_call(struct Z_env_instance_t *env UNUSED, u32 name UNUSED, u32 len UNUSED, u32 this_value UNUSED, u32 argc UNUSED, u32 argv UNUSED)
{
	wasm_rt_trap(WASM_RT_TRAP_UNREACHABLE);
}
