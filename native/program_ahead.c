/* The program that the first run of an image starts: decoded while that run still makes its mounts, so that its exec and its page faults find it. What cannot
 * be found or read is told to whoever asks for it. */
#include "server_internal.h"

#include <elf.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define DECODED_MAX (4u << 20) /* of one file: nobody touches all of a large program */
#define STACK_BYTES (256u << 10)
#define HEAD_BYTES 4096u

struct wanted {
	struct squash *squash;
	const char *program, *search;
};

static bool find(const struct wanted *wanted, const char *path, struct squash_inode *file)
{
	return squash_resolve(wanted->squash, path, true, file, NULL) == 0 && S_ISREG(file->mode);
}

static bool find_program(const struct wanted *wanted, struct squash_inode *file)
{
	const char *at = wanted->search;

	if (strchr(wanted->program, '/') != NULL)
		return find(wanted, wanted->program, file);
	for (;;) {
		size_t len = strcspn(at, ":");
		char path[PATH_MAX];

		if (len > 0 && snprintf(path, sizeof path, "%.*s/%s", (int)len, at, wanted->program) < (int)sizeof path && find(wanted, path, file))
			return true;
		if (at[len] == '\0')
			return false;
		at += len + 1;
	}
}

/* From the first page, which says what it is, to the last, which is the first to be written to: then in order. */
static void decode(struct squash *squash, const struct squash_inode *file)
{
	uint64_t size = file->size < DECODED_MAX ? file->size : DECODED_MAX;

	squash_preload_at(squash, file, 0);
	squash_preload_at(squash, file, size > 0 ? size - 1 : 0);
	for (uint64_t at = 0; at < size; at += squash_statfs(squash).block_size)
		squash_preload_at(squash, file, at);
}

/* The loader that it names (elf(5)); false for what has none. */
static bool loader_of(struct squash *squash, const struct squash_inode *file, char path[PATH_MAX])
{
	struct squash_pieces pieces;
	const char *head;
	size_t len;
	bool found = false;
	Elf64_Ehdr elf;

	if (squash_read(squash, file, 0, HEAD_BYTES, &pieces, NULL) < 0)
		return false;
	head = pieces.count > 0 ? pieces.iov[0].iov_base : NULL;
	len = pieces.count > 0 ? pieces.iov[0].iov_len : 0;
	if (len >= sizeof elf)
		memcpy(&elf, head, sizeof elf);
	if (len >= sizeof elf && memcmp(elf.e_ident, ELFMAG, SELFMAG) == 0 && elf.e_ident[EI_CLASS] == ELFCLASS64 && elf.e_phentsize == sizeof(Elf64_Phdr)) {
		Elf64_Phdr part;

		for (uint64_t i = 0; !found && i < elf.e_phnum && elf.e_phoff < len && elf.e_phoff + (i + 1) * sizeof part <= len; i++) {
			memcpy(&part, head + elf.e_phoff + i * sizeof part, sizeof part);
			found = part.p_type == PT_INTERP && part.p_filesz > 0 && part.p_filesz <= PATH_MAX && part.p_offset < len && part.p_filesz <= len - part.p_offset;
		}
		if (found)
			snprintf(path, PATH_MAX, "%.*s", (int)part.p_filesz, head + part.p_offset);
	}
	squash_release(squash, &pieces);
	return found;
}

static void *decode_program(void *ctx)
{
	struct wanted *wanted = ctx;
	struct squash_inode file;
	char loader[PATH_MAX];

	if (find_program(wanted, &file)) {
		decode(wanted->squash, &file);
		if (loader_of(wanted->squash, &file, loader) && find(wanted, loader, &file))
			decode(wanted->squash, &file);
	}
	free(wanted);
	return NULL;
}

void program_ahead(struct squash *squash, const char *program, const char *search)
{
	struct wanted *wanted = program[0] == '\0' ? NULL : malloc(sizeof *wanted);
	pthread_attr_t attr;
	pthread_t thread;

	if (wanted == NULL)
		return;
	*wanted = (struct wanted) { squash, program, search };
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, decode_program, wanted) != 0)
		free(wanted);
	pthread_attr_destroy(&attr);
}
