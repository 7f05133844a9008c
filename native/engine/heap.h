/* The allocator under QuickJS, inside linear memory. It exists for one reason: which pages a start has to touch. A page of the image that is read costs
 * little, one that is written is copied (2 us), and QuickJS writes a reference count into everything it handles. So blocks are laid out by what a
 * typical call does to them: written ones side by side, then those that are only read, then the rest. mksnapshot learns it by watching and
 * loads the bundle again with that knowledge; the sequence of allocations is the same each time. Blocks freed before the image was made are not used
 * again: what a call allocates comes from fresh memory behind the image.
 *
 * Blocks of a size are kept for that size and never joined: the process ends after a call or two. */
#ifndef TSRUN_ENGINE_HEAP_H
#define TSRUN_ENGINE_HEAP_H

#include "runtime.h"

#define HEAP_CLASSES 128

enum heap_kind { HEAP_COLD, HEAP_READ, HEAP_WRITTEN, HEAP_KINDS };

/* Before each block of 8-aligned memory: its class in the first byte; the fourth and the last four belong to QuickJS (marks and reference count). Blocks
 * up to HEAP_SMALL bytes, header and all, are counted in steps of 16. */
#define HEAP_HEADER 8
#define HEAP_SMALL 1024

/* A stretch of linear memory that is used from `top` to `end`, and its free blocks by size. */
struct heap_arena {
	uint32_t start, top, end;
	uint32_t free[HEAP_CLASSES];
};

/* Lives in linear memory, so that it is in the image. The last arena (HEAP_COLD) grows with the memory. */
struct heap {
	uint32_t limit; /* bytes of linear memory */
	uint32_t frozen;
	struct heap_arena arenas[HEAP_KINDS];
};

/* While a bundle is loaded for an image: what is known of each allocation, by its number. NULL in every other engine. */
struct heap_plan {
	uint8_t *kinds;    /* enum heap_kind for allocation n, known from the time before */
	uint32_t *strides; /* bytes it took */
	uint32_t *owners;  /* allocation number + 1 of the block that starts at linear address 8 n, its header first */
	size_t count, next, capacity;
	size_t sizes[HEAP_KINDS]; /* bytes that the blocks of a kind need */
};

/* Makes the heap at the end of the instance's memory. An engine that starts from an image has it already. */
void heap_create(struct engine *engine);
/* How far linear memory may grow behind the place where the heap begins, what is free again but not used included. */
void heap_limit(struct engine *engine, uint32_t bytes);

/* From here on everything new comes from fresh memory on a page of its own. */
void heap_freeze(struct engine *engine);

/* What module.c puts in the place of QuickJS's own allocator: addresses in linear memory, 0 for none and when memory ends. Nearly all are small blocks
 * of a call, thousands for each start: module.c has those ways within the generated code. */
uint32_t heap_take(struct engine *engine, uint32_t size);
uint32_t heap_take_zeroed(struct engine *engine, uint32_t count, uint32_t size);
uint32_t heap_resize(struct engine *engine, uint32_t block, uint32_t size);
void heap_return(struct engine *engine, uint32_t block);
uint32_t heap_usable(uint32_t block);

#endif
