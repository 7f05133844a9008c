#include "elf_parts.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

/* One program header. */
static void take_part(struct elf_parts *parts, const Elf64_Ehdr *elf, const Elf64_Phdr *part, const char *head, size_t len)
{
	if (part->p_type == PT_LOAD && (part->p_flags & PF_W) != 0) {
		parts->data = part->p_offset;
		parts->data_end = part->p_offset + part->p_filesz;
	}
	if (part->p_type == PT_LOAD && elf->e_entry - part->p_vaddr < part->p_filesz)
		parts->entry = elf->e_entry - part->p_vaddr + part->p_offset;
	if (part->p_type == PT_INTERP && part->p_filesz <= PATH_MAX && part->p_offset < len && part->p_filesz <= len - part->p_offset)
		snprintf(parts->loader, sizeof parts->loader, "%.*s", (int)part->p_filesz, head + part->p_offset);
}

void elf_parts_read(struct elf_parts *parts, const char *head, size_t len)
{
	Elf64_Ehdr elf;
	Elf64_Phdr part;

	parts->data = parts->data_end = parts->entry = 0;
	parts->loader[0] = '\0';
	if (len < sizeof elf)
		return;
	memcpy(&elf, head, sizeof elf);
	if (memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 || elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_phentsize != sizeof part || elf.e_phoff > len)
		return;
	for (size_t i = 0; i < elf.e_phnum && (i + 1) * sizeof part <= len - elf.e_phoff; i++) {
		memcpy(&part, head + elf.e_phoff + i * sizeof part, sizeof part);
		take_part(parts, &elf, &part, head, len);
	}
}
