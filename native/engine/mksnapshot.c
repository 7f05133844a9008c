/* mksnapshot BUNDLE DIRECTORY: loads the bundle, warms it up (globalThis.tsrunWarm, when there is one), and writes DIRECTORY/image.bin and
 * DIRECTORY/image.h for image.c. Linked with generated code that counts (Makefile), it writes what a call runs through, for the compiler, instead.
 *
 * It does so twice. The first time it watches one more call and notes which blocks of the heap are written and which are only read; the second time the
 * heap is laid out accordingly (heap.h). Only linear addresses and the bundle's own data are in the image: the same bundle gives the same bytes. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

#define IMAGE_UNIT ((size_t)65536) /* the largest page size of the architectures */
#define ALLOCATIONS_MAX ((size_t)8 << 20)

static NORETURN void die(const char *what, const char *why)
{
	fprintf(stderr, "mksnapshot: %s: %s\n", what, why);
	exit(1);
}

static char *read_file(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rb");
	char *text = malloc(ENGINE_HEAP_MAX);

	if (file == NULL || text == NULL)
		die(path, strerror(errno));
	*len = fread(text, 1, ENGINE_HEAP_MAX, file);
	fclose(file);
	return text;
}

static void *zeroed(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL)
		die("memory", "not enough");
	return memory;
}

/* --- watching: module.c tells every access to linear memory --- */

static struct engine *watched;
static uint32_t watched_end; /* what lies behind was allocated after the freeze */
static struct heap_plan plan;

void engine_watch(const void *to, const void *from, size_t len);

static void touch(const void *at, size_t len, enum heap_kind kind)
{
	uintptr_t start = (uintptr_t)watched->wasm.w2c_memory.data, address = (uintptr_t)at;

	if (address < start || address >= start + watched_end)
		return;
	for (size_t place = (address - start) / 8; place <= (address - start + len - 1) / 8; place++) {
		uint32_t owner = plan.owners[place];
		if (owner != 0 && plan.kinds[owner - 1] < kind)
			plan.kinds[owner - 1] = (uint8_t)kind;
	}
}

void engine_watch(const void *to, const void *from, size_t len)
{
	if (watched == NULL || len == 0)
		return;
	if (from != NULL)
		touch(from, len, HEAP_READ);
	touch(to, len, HEAP_WRITTEN);
}

/* --- loading --- */

/* A typical call, so that what is made on first use (shapes, atoms, compiled expressions) is in the image. */
static bool warm(struct engine *engine)
{
	struct err err = {0};
	char *out;
	size_t out_len;
	int error = engine_call(engine, "tsrunWarm", "", 0, &out, &out_len, &err);

	free(out);
	if (error != 0 && error != -ENOENT)
		die(err.step, err.detail);
	return error == 0;
}

static struct engine *load(const char *bundle, size_t len)
{
	struct engine *engine;
	struct err err = {0};

	if (engine_load(&engine, NULL, &plan, bundle, len, "planner.js", &err) != 0)
		die(err.step, err.detail);
	engine_limit_cpu(engine, 10 * 60 * 1000);
	warm(engine);
	warm(engine);
	Z_qjsZ_JS_RunGC(&engine->wasm, engine->runtime);
	heap_freeze(engine);
	return engine;
}

/* Notes what a call does to the blocks that are there, and how much room each kind of them needs. */
static void learn(struct engine *engine)
{
	struct heap *heap = (struct heap *)(void *)runtime_bytes(&engine->wasm, engine->heap, sizeof *heap);

	watched_end = heap->arenas[HEAP_COLD].start;
	for (size_t place = watched_end / 8; place-- > 0;) {
		uint32_t owner = plan.owners[place];
		for (size_t i = 1; owner != 0 && i < plan.strides[owner - 1] / 8; i++)
			plan.owners[place + i] = owner;
	}
	plan.count = plan.next < plan.capacity ? plan.next : plan.capacity;
	watched = engine;
	warm(engine);
	watched = NULL;
	for (size_t i = 0; i < plan.count; i++)
		plan.sizes[plan.kinds[i]] += plan.strides[i];
	plan.sizes[HEAP_COLD] = 0;
	memset(plan.owners, 0, ENGINE_SPACE / 8 * sizeof *plan.owners);
}

/* --- writing --- */

static FILE *create(const char *directory, const char *name)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	file = fopen(path, "wb");
	if (file == NULL)
		die(path, strerror(errno));
	return file;
}

static void finish(FILE *file)
{
	if (fflush(file) != 0 || ferror(file) || fclose(file) != 0)
		die("the image", strerror(errno));
}

static void write_image(struct engine *engine, const char *directory)
{
	const wasm_rt_memory_t *memory = &engine->wasm.w2c_memory;
	uint32_t stack_pointer = engine->wasm.w2c___stack_pointer;
	size_t from = stack_pointer / IMAGE_UNIT * IMAGE_UNIT, end = memory->size;
	FILE *file;

	/* What lies below the stack pointer is dead. The rest is the image: data, then heap. */
	memset(memory->data, 0, stack_pointer);
	while (end > from && memory->data[end - 1] == 0)
		end--;
	end = (end + IMAGE_UNIT - 1) / IMAGE_UNIT * IMAGE_UNIT;

	file = create(directory, "image.bin");
	fwrite(memory->data + from, 1, end - from, file);
	finish(file);
	file = create(directory, "image.h");
	fprintf(file, "#define IMAGE_FROM %zuu\n#define IMAGE_LEN %zuu\n#define IMAGE_PAGES %uu\n", from, end - from, memory->pages);
	fprintf(file, "#define IMAGE_STACK_POINTER %uu\n#define IMAGE_RUNTIME %uu\n#define IMAGE_CONTEXT %uu\n#define IMAGE_HEAP %uu\n", stack_pointer,
		engine->runtime, engine->context, engine->heap);
	fprintf(file, "#define IMAGE_FUNCTIONS 0x%llxu, 0x%llxu\n", (unsigned long long)engine->functions[0],
		(unsigned long long)engine->functions[1]);
	finish(file);
}

/* --- counting: of the compiler's own library, there when generated code was compiled for it --- */

void __gcov_reset(void) __attribute__((weak));
void __gcov_dump(void) __attribute__((weak));

/* Not the call that is watched, which does things no start does: the one after it, with fresh memory as a start has it. And one that asks the host, as the
 * warm-up does not: it gets no answer. */
static void count(struct engine *engine)
{
	struct err err = {0};
	char *out;
	size_t out_len;

	warm(engine);
	heap_freeze(engine);
	__gcov_reset();
	warm(engine);
	engine_call(engine, engine_functions[0], "", 0, &out, &out_len, &err);
	__gcov_dump();
	free(out);
}

int main(int argc, char **argv)
{
	struct engine *engine;
	size_t len, allocations;
	char *bundle;

	if (argc != 3)
		die("usage", "mksnapshot BUNDLE DIRECTORY");
	bundle = read_file(argv[1], &len);
	plan.capacity = ALLOCATIONS_MAX;
	plan.kinds = zeroed(ALLOCATIONS_MAX, sizeof *plan.kinds);
	plan.strides = zeroed(ALLOCATIONS_MAX, sizeof *plan.strides);
	plan.owners = zeroed(ENGINE_SPACE / 8, sizeof *plan.owners);

	engine = load(bundle, len);
	if (__gcov_dump != NULL) {
		count(engine);
		return 0;
	}
	allocations = plan.next;
	learn(engine);
	engine_free(engine);
	engine = load(bundle, len);
	if (plan.next != allocations)
		die(argv[1], "loading it twice did not allocate the same");
	write_image(engine, argv[2]);
	fprintf(stderr, "%s: %zu allocations, %zu bytes written and %zu only read by a call\n", argv[1], allocations, plan.sizes[HEAP_WRITTEN],
		plan.sizes[HEAP_READ]);

	engine_free(engine);
	free(bundle);
	free(plan.kinds);
	free(plan.strides);
	free(plan.owners);
	return 0;
}
