/* malloc for a process that soon becomes another program: blocks lie side by side in a few pages that are touched anyway, and are never used
 * again, but for the last one, which grows and shrinks in place. What is large gets pages of its own, and gives them back. */
#include "start.h"

#include <string.h>
#include <sys/mman.h>

#define ALIGN 16
#define POOL ((size_t)256 << 10)
#define LARGE ((size_t)64 << 10) /* from here on: pages of its own */

struct block {
	size_t size; /* bytes behind this header */
	size_t mapped; /* of the mapping that begins with this header; 0: it lies in the pool */
};

static _Alignas(ALIGN) char first[64 << 10]; /* a usual start needs no other */
static char *at = first, *end = first + sizeof first;

static size_t rounded(size_t size)
{
	return (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static struct block *map(size_t size)
{
	struct block *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return block == MAP_FAILED ? NULL : block;
}

static struct block *header(void *memory)
{
	return (struct block *)memory - 1;
}

static bool is_last(const struct block *block)
{
	return block->mapped == 0 && (const char *)(block + 1) + block->size == at;
}

void *malloc(size_t size)
{
	size_t need = rounded(size == 0 ? 1 : size);
	struct block *block;

	if (size > PTRDIFF_MAX - POOL) {
		errno = ENOMEM;
		return NULL;
	}
	if (need >= LARGE) {
		block = map(need + sizeof *block);
		if (block != NULL)
			*block = (struct block){need, need + sizeof *block};
		return block == NULL ? NULL : block + 1;
	}
	if (need + sizeof *block > (size_t)(end - at)) {
		char *pool = (char *)map(POOL);

		if (pool == NULL)
			return NULL;
		at = pool;
		end = pool + POOL;
	}
	block = (struct block *)(void *)at;
	*block = (struct block){need, 0};
	at += need + sizeof *block;
	return block + 1;
}

void free(void *memory)
{
	struct block *block;

	if (memory == NULL)
		return;
	block = header(memory);
	if (block->mapped != 0)
		munmap(block, block->mapped);
	else if (is_last(block))
		at = (char *)block;
}

void *calloc(size_t count, size_t size)
{
	size_t bytes;
	void *memory;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	memory = malloc(bytes);
	/* Pages of its own are zeros. */
	return memory == NULL || header(memory)->mapped != 0 ? memory : memset(memory, 0, bytes);
}

void *realloc(void *memory, size_t size)
{
	struct block *block = memory == NULL ? NULL : header(memory);
	size_t need = rounded(size == 0 ? 1 : size);
	void *moved;

	if (block != NULL && size <= PTRDIFF_MAX - POOL && is_last(block) && need < LARGE && need <= (size_t)(end - (char *)memory)) {
		block->size = need;
		at = (char *)memory + need;
		return memory;
	}
	if (block != NULL && size <= block->size)
		return memory;
	moved = malloc(size);
	if (moved != NULL && memory != NULL) {
		memcpy(moved, memory, block->size);
		free(memory);
	}
	return moved;
}

/* Nothing here asks for more than the usual alignment. */
void *aligned_alloc(size_t alignment, size_t size)
{
	if (alignment > ALIGN) {
		errno = EINVAL;
		return NULL;
	}
	return malloc(size);
}
