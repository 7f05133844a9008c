/* What of a program is touched first, as its first page says (elf(5)). */
#ifndef TSRUN_ELF_PARTS_H
#define TSRUN_ELF_PARTS_H

#include <limits.h>

#include "util.h"

#define ELF_PARTS_HEAD 4096u

struct elf_parts {
	uint64_t data, data_end; /* in the file, what it writes to: the kernel itself does, at its end */
	uint64_t entry;          /* in the file, its first instruction */
	char loader[PATH_MAX];   /* empty: it has none */
};

/* Of the first `len` bytes of a file, ELF_PARTS_HEAD at most: what is not found there, or makes no sense, stays 0. */
void elf_parts_read(struct elf_parts *parts, const char *head, size_t len);

#endif
