#include "heap.h"

#include "heap_small.h"

#include <string.h>

#define HEADER HEAP_HEADER
#define HEADER_OURS 0x00ffffffu
#define SMALL HEAP_SMALL
#define BLOCK_MAX (ENGINE_SPACE / 2)
#define FRESH ((uint32_t)1 << 20) /* ready behind the image, so that most calls never grow the memory */

/* --- sizes: steps of 16 up to 1 KiB, then four steps for each doubling --- */

static uint32_t stride_of(uint32_t size)
{
	uint32_t need = size + HEADER, step;

	if (need <= SMALL)
		return (need + 15) & ~15u;
	step = 1u << (29 - __builtin_clz(need - 1));
	return (need + step - 1) & ~(step - 1);
}

static uint32_t class_of(uint32_t stride)
{
	uint32_t bits;

	if (stride <= SMALL)
		return stride / 16 - 1;
	bits = 31 - (uint32_t)__builtin_clz(stride - 1); /* 10 for the first four steps above SMALL */
	return SMALL / 16 + (bits - 10) * 4 + ((stride - 1) >> (bits - 2) & 3);
}

static uint32_t stride_of_class(uint32_t class)
{
	if (class < SMALL / 16)
		return (class + 1) * 16;
	class -= SMALL / 16;
	return (5 + class % 4) << (8 + class / 4);
}

/* --- blocks --- */

static uint32_t class_at(uint32_t block)
{
	uint32_t class = heap_word(block - HEADER) & HEADER_OURS;

	if (class >= HEAP_CLASSES)
		wasm_rt_trap(WASM_RT_TRAP_OOB);
	return class;
}

static struct heap_arena *arena_of(struct heap *heap, uint32_t block)
{
	if (!heap->frozen)
		for (int kind = HEAP_READ; kind < HEAP_KINDS; kind++)
			if (block >= heap->arenas[kind].start && block < heap->arenas[kind].end)
				return &heap->arenas[kind];
	return &heap->arenas[HEAP_COLD];
}

/* Room for `stride` more bytes. The last arena grows where memory ends. */
static bool extend(struct engine *engine, struct heap_arena *arena, uint32_t stride)
{
	wasm_rt_memory_t *memory = &engine->wasm.w2c_memory;
	struct heap *heap = heap_of(engine);
	uint32_t limit = heap->limit, top;
	size_t missing;

	if (stride <= arena->end - arena->top)
		return true;
	if (arena != &heap->arenas[HEAP_COLD])
		return false;
	/* After recycle() the arena was elsewhere. */
	top = arena->end == memory->size ? arena->top : (uint32_t)memory->size;
	missing = (top + (size_t)stride - memory->size + WASM_PAGE - 1) / WASM_PAGE;
	if (memory->size > limit || missing * WASM_PAGE > limit - memory->size || wasm_rt_grow_memory(memory, (uint32_t)missing) == UINT32_MAX)
		return false;
	arena->top = top;
	arena->end = memory->size;
	return true;
}

/* Memory is full: the arena goes on in the largest free block, when that is large enough. */
static bool recycle(struct heap_arena *arena, uint32_t stride)
{
	uint32_t class = HEAP_CLASSES, block;

	while (class > 0 && arena->free[class - 1] == 0)
		class--;
	if (class == 0 || stride_of_class(class - 1) < stride)
		return false;
	block = arena->free[class - 1];
	arena->free[class - 1] = heap_word(block);
	arena->top = block - HEADER;
	arena->end = arena->top + stride_of_class(class - 1);
	return true;
}

static uint32_t take(struct engine *engine, struct heap *heap, enum heap_kind kind, uint32_t stride)
{
	struct heap_arena *arena = &heap->arenas[kind];
	uint32_t class = class_of(stride), block = arena->free[class];

	if (block != 0) {
		arena->free[class] = heap_word(block);
	} else if (extend(engine, arena, stride) || (kind == HEAP_COLD && recycle(arena, stride))) {
		block = arena->top + HEADER;
		arena->top += stride;
	} else {
		return 0;
	}
	heap_set_word(block - HEADER, class);
	heap_set_word(block - HEADER + 4, 0);
	return block;
}

/* While an image is made: where the plan has it, which learns of the block. */
static uint32_t take_planned(struct engine *engine, struct heap *heap, uint32_t stride)
{
	struct heap_plan *plan = engine->plan;
	size_t number;
	enum heap_kind kind;
	uint32_t block;

	if (plan == NULL)
		return take(engine, heap, HEAP_COLD, stride);
	number = plan->next++;
	kind = number < plan->count ? plan->kinds[number] : HEAP_COLD;
	block = take(engine, heap, kind, stride);
	if (block == 0 && kind != HEAP_COLD)
		block = take(engine, heap, HEAP_COLD, stride);
	if (block != 0 && number < plan->capacity) {
		plan->strides[number] = stride;
		plan->owners[(block - HEADER) / 8] = (uint32_t)number + 1;
	}
	return block;
}

uint32_t heap_take(struct engine *engine, uint32_t size)
{
	struct heap *heap = heap_of(engine);
	uint32_t block = heap_take_small(engine, size);

	if (block != 0 || size > BLOCK_MAX)
		return block;
	return heap->frozen ? take(engine, heap, HEAP_COLD, stride_of(size)) : take_planned(engine, heap, stride_of(size));
}

uint32_t heap_take_zeroed(struct engine *engine, uint32_t count, uint32_t size)
{
	uint64_t bytes = (uint64_t)count * size;
	uint32_t block = bytes > BLOCK_MAX ? 0 : heap_take(engine, (uint32_t)bytes);

	if (block != 0)
		memset(runtime_bytes(&engine->wasm, block, bytes), 0, bytes);
	return block;
}

void heap_return(struct engine *engine, uint32_t block)
{
	struct heap *heap = heap_of(engine);
	uint32_t class, *list;

	if (block == 0 || heap_return_soon(engine, block))
		return;
	class = class_at(block);
	list = &arena_of(heap, block)->free[class];
	heap_set_word(block, *list);
	*list = block;
	if (engine->plan != NULL && !heap->frozen)
		engine->plan->owners[(block - HEADER) / 8] = 0;
}

uint32_t heap_usable(uint32_t block)
{
	return block == 0 ? 0 : stride_of_class(class_at(block)) - HEADER;
}

/* The last block of an arena changes its size in place: long strings and arrays are built without copies. */
static bool resize_last(struct engine *engine, uint32_t block, uint32_t stride)
{
	struct heap *heap = heap_of(engine);
	struct heap_arena *arena = &heap->arenas[HEAP_COLD];
	uint32_t old = stride_of_class(class_at(block)), header = heap_word(block - HEADER);

	if (!heap->frozen || block - HEADER + old != arena->top || stride <= SMALL || old <= SMALL)
		return false;
	if (stride > old && (arena->end != engine->wasm.w2c_memory.size || !extend(engine, arena, stride - old)))
		return false;
	arena->top = block - HEADER + stride;
	heap_set_word(block - HEADER, (header & ~HEADER_OURS) | class_of(stride));
	return true;
}

uint32_t heap_resize(struct engine *engine, uint32_t block, uint32_t size)
{
	uint32_t old = heap_usable(block), stride, moved;

	if (size > BLOCK_MAX)
		return 0;
	stride = stride_of(size);
	if (block != 0 && (stride - HEADER == old || resize_last(engine, block, stride)))
		return block;
	moved = heap_take(engine, size);
	if (moved == 0)
		return 0;
	if (block != 0) {
		memcpy(runtime_bytes(&engine->wasm, moved, size), runtime_bytes(&engine->wasm, block, old), old < size ? old : size);
		heap_set_word(moved - HEADER, (heap_word(block - HEADER) & ~HEADER_OURS) | class_at(moved));
		heap_set_word(moved - HEADER + 4, heap_word(block - HEADER + 4));
	}
	heap_return(engine, block);
	return moved;
}

/* --- life --- */

void heap_create(struct engine *engine)
{
	wasm_rt_memory_t *memory = &engine->wasm.w2c_memory;
	struct heap_plan *plan = engine->plan;
	uint32_t at = memory->size;
	size_t size = sizeof(struct heap), sizes[HEAP_KINDS] = {0};
	struct heap *heap;

	if (plan != NULL) {
		memcpy(sizes, plan->sizes, sizeof sizes);
		plan->next = 0;
	}
	size += sizes[HEAP_WRITTEN] + sizes[HEAP_READ] + WASM_PAGE;
	if (wasm_rt_grow_memory(memory, (uint32_t)((size + WASM_PAGE - 1) / WASM_PAGE)) == UINT32_MAX)
		wasm_rt_trap(WASM_RT_TRAP_EXHAUSTION);
	engine->heap = at;
	heap = heap_of(engine);
	heap_limit(engine, ENGINE_HEAP_MAX);
	at += (uint32_t)((sizeof(struct heap) + 7) & ~(size_t)7);
	for (int kind = HEAP_KINDS - 1; kind >= 0; kind--) {
		struct heap_arena *arena = &heap->arenas[kind];
		/* Blocks are written in whole pages: the first that is only read starts on another one. */
		if (kind != HEAP_WRITTEN)
			at = (at + 4095) & ~4095u;
		arena->start = at;
		arena->top = at;
		at += (uint32_t)sizes[kind];
		arena->end = kind == HEAP_COLD ? memory->size : at;
	}
}

void heap_limit(struct engine *engine, uint32_t bytes)
{
	heap_of(engine)->limit = bytes < ENGINE_SPACE - engine->heap ? engine->heap + bytes : ENGINE_SPACE;
}

/* Forgets the free blocks and what was in them: an image of zeros is smaller where it is packed. */
static void clear_free(struct engine *engine, struct heap_arena *arena)
{
	for (uint32_t class = 0; class < HEAP_CLASSES; class++)
		while (arena->free[class] != 0) {
			uint32_t block = arena->free[class], len = stride_of_class(class) - HEADER;
			arena->free[class] = heap_word(block);
			memset(runtime_bytes(&engine->wasm, block, len), 0, len);
		}
}

void heap_freeze(struct engine *engine)
{
	struct heap *heap = heap_of(engine);
	struct heap_arena *arena = &heap->arenas[HEAP_COLD];
	uint32_t page = (arena->top + 65535) & ~65535u; /* a page of the largest size there is */

	if (!extend(engine, arena, page - arena->top + FRESH))
		wasm_rt_trap(WASM_RT_TRAP_EXHAUSTION);
	for (int kind = 0; kind < HEAP_KINDS; kind++)
		clear_free(engine, &heap->arenas[kind]);
	arena->start = page;
	arena->top = page;
	heap->frozen = 1;
}
