/* The program that the first run of an image starts: decoded while that run still makes its mounts, so that its exec and its page faults find it. In the
 * order in which they come; a run has two cores at best while it waits, and what is asked for meanwhile is decoded beside. What cannot be found or read is
 * told to whoever asks for it. */
#include "elf_parts.h"
#include "libc_path.h"
#include "server_internal.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define DECODED_MAX (6u << 20) /* less than the smallest cache; and nobody touches all of a large program */
#define STACK_BYTES (256u << 10)
#define AROUND (64u << 10) /* the kernel reads as much before a page that is missing, and after it */

struct ahead {
	struct squash *squash;
	const char *name, *search;
	const _Atomic bool *asked; /* the run says itself what it wants by now */
	uint64_t left; /* bytes that may be decoded */
};

struct program {
	struct squash_inode file;
	struct elf_parts parts;
	bool done[1024]; /* the first blocks: the kernel may have taken them since, and then they are not in the cache */
};

static bool find(const struct ahead *ahead, const char *path, struct squash_inode *file)
{
	return squash_resolve(ahead->squash, path, true, file, NULL) == 0 && S_ISREG(file->mode);
}

static bool find_program(const struct ahead *ahead, struct squash_inode *file)
{
	if (strchr(ahead->name, '/') != NULL)
		return find(ahead, ahead->name, file);
	for (const char *at = ahead->search;;) {
		size_t len = strcspn(at, ":");
		char path[PATH_MAX];

		if (len > 0 && snprintf(path, sizeof path, "%.*s/%s", (int)len, at, ahead->name) < (int)sizeof path && find(ahead, path, file))
			return true;
		if (at[len] == '\0')
			return false;
		at += len + 1;
	}
}

static void decode(struct ahead *ahead, struct program *program, uint64_t from, uint64_t to)
{
	uint64_t block = squash_statfs(ahead->squash).block_size;

	for (uint64_t at = from - from % block; at < to && at < program->file.size && ahead->left >= block && !atomic_load(ahead->asked); at += block) {
		size_t index = at / block;

		if (index < ARRAY_LEN(program->done) && program->done[index])
			continue;
		squash_preload_at(ahead->squash, &program->file, at);
		if (index < ARRAY_LEN(program->done))
			program->done[index] = true;
		ahead->left -= block;
		sched_yield(); /* who has to answer waits for a block at most, also where all have one processor */
	}
}

/* The first page, which says what it is; then what exec itself writes to. */
static void begin(struct ahead *ahead, struct program *program)
{
	struct elf_parts *parts = &program->parts;
	struct squash_pieces pieces;

	if (atomic_load(ahead->asked) || squash_read(ahead->squash, &program->file, 0, ELF_PARTS_HEAD, &pieces, NULL) < 0)
		return;
	program->done[0] = true;
	if (pieces.count > 0)
		elf_parts_read(parts, pieces.iov[0].iov_base, pieces.iov[0].iov_len);
	squash_release(ahead->squash, &pieces);
	if (parts->data_end > AROUND && parts->data > parts->data_end - AROUND)
		parts->data = parts->data_end - AROUND;
	decode(ahead, program, parts->data, parts->data_end);
}

static void go_on(struct ahead *ahead, struct program *program)
{
	uint64_t entry = program->parts.entry;

	decode(ahead, program, entry > AROUND ? entry - AROUND : 0, entry + AROUND);
	decode(ahead, program, 0, program->file.size);
}

static void whole(struct ahead *ahead, const struct squash_inode *file)
{
	struct program program = { .file = *file };

	begin(ahead, &program);
	go_on(ahead, &program);
}

static bool find_libc(const struct ahead *ahead, const char *loader, struct squash_inode *file)
{
	char path[LIBC_PATH_MAX];

	return find(ahead, libc_beside(loader, path), file) || find(ahead, LIBC_USUAL, file);
}

static void *decode_program(void *ctx)
{
	struct ahead *ahead = ctx;
	struct program program = { .done = { false } };
	struct squash_inode file;

	if (find_program(ahead, &program.file)) {
		begin(ahead, &program);
		if (program.parts.loader[0] != '\0' && find(ahead, program.parts.loader, &file)) {
			whole(ahead, &file);
			if (find_libc(ahead, program.parts.loader, &file))
				whole(ahead, &file);
		}
		go_on(ahead, &program);
	}
	free(ahead);
	return NULL;
}

void program_ahead(struct squash *squash, const char *name, const char *search, const _Atomic bool *asked)
{
	struct ahead *ahead = name[0] == '\0' ? NULL : malloc(sizeof *ahead);
	pthread_attr_t attr;
	pthread_t thread;

	if (ahead == NULL)
		return;
	*ahead = (struct ahead) { .squash = squash, .name = name, .search = search, .asked = asked, .left = DECODED_MAX };
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, decode_program, ahead) != 0)
		free(ahead);
	pthread_attr_destroy(&attr);
}
