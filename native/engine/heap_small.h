/* The usual ways of the allocator, a dozen instructions each: for heap.c, and for module.c to have them within the generated code. */
#ifndef TSRUN_ENGINE_HEAP_SMALL_H
#define TSRUN_ENGINE_HEAP_SMALL_H

#include "internal.h"

#include <string.h>

static inline struct heap *heap_of(struct engine *engine)
{
	return (struct heap *)(void *)(engine_space + engine->heap);
}

/* Of an address that is none, the place where it wraps around to. */
static inline uint8_t *heap_place(uint32_t at)
{
	return engine_space + (at & (ENGINE_SPACE - 1));
}

static inline uint32_t heap_word(uint32_t at)
{
	uint32_t value;

	memcpy(&value, heap_place(at), sizeof value);
	return value;
}

static inline void heap_set_word(uint32_t at, uint32_t value)
{
	memcpy(heap_place(at), &value, sizeof value);
}

/* A small block of a call, when one is free or there is room; else 0. */
static inline uint32_t heap_take_small(struct engine *engine, uint32_t size)
{
	struct heap *heap = heap_of(engine);
	struct heap_arena *arena = &heap->arenas[HEAP_COLD];
	uint32_t class = (size + HEAP_HEADER - 1) / 16, block;
	uint64_t header = class;

	if (size > HEAP_SMALL - HEAP_HEADER || !heap->frozen)
		return 0;
	block = arena->free[class];
	if (block != 0) {
		arena->free[class] = heap_word(block);
	} else {
		if ((class + 1) * 16 > arena->end - arena->top)
			return 0;
		block = arena->top + HEAP_HEADER;
		arena->top += (class + 1) * 16;
	}
	memcpy(heap_place(block - HEAP_HEADER), &header, sizeof header);
	return block;
}

/* Any block, once the image is made; false: heap_return() has to look at it. */
static inline bool heap_return_soon(struct engine *engine, uint32_t block)
{
	struct heap *heap = heap_of(engine);
	uint32_t class = *heap_place(block - HEAP_HEADER), *list;

	if (class >= HEAP_CLASSES || !heap->frozen)
		return false;
	list = &heap->arenas[HEAP_COLD].free[class];
	heap_set_word(block, *list);
	*list = block;
	return true;
}

#endif
