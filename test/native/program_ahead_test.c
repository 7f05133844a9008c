/* A program that is decoded ahead is there, whole and with its loader and its C library, when it is asked for. */
#include "check.h"
#include "sample_tree.h"

#include "../../native/server_internal.h"

#include <dirent.h>
#include <elf.h>
#include <poll.h>

#define PROGRAM_BYTES (700u << 10)
#define LOADER_BYTES (200u << 10)
#define LIBC_BYTES (300u << 10)
#define ALL_BYTES (PROGRAM_BYTES + LOADER_BYTES + LIBC_BYTES)
#define PATIENCE_MS 30000

static char top[] = "/tmp/tsrun-program-test-XXXXXX";

/* A file that begins with `head` and goes on as samples do. */
static void write_file(const char *path, const void *head, size_t head_len, size_t len)
{
	unsigned char *bytes = malloc(len);
	FILE *file = fopen(path, "we");

	if (bytes == NULL || file == NULL)
		sample_fail(path);
	for (size_t i = 0; i < len; i++)
		bytes[i] = sample_byte(3, i);
	memcpy(bytes, head, head_len);
	if (fwrite(bytes, 1, len, file) != len || fclose(file) != 0)
		sample_fail(path);
	free(bytes);
}

static void make_image(const char *image)
{
	struct {
		Elf64_Ehdr elf;
		Elf64_Phdr parts[4];
		char loader[16];
	} head = { .elf = { .e_phoff = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 4, .e_entry = 0x400000 + (300 << 10) }, .loader = "/lib/loader" };

	memcpy(head.elf.e_ident, ELFMAG, SELFMAG);
	head.elf.e_ident[EI_CLASS] = ELFCLASS64;
	head.parts[0] = (Elf64_Phdr) { .p_type = PT_LOAD, .p_vaddr = 0x400000, .p_filesz = 500 << 10 };
	head.parts[2] = (Elf64_Phdr) { .p_type = PT_LOAD, .p_flags = PF_W, .p_vaddr = 0x600000, .p_offset = 600 << 10, .p_filesz = 40 << 10 };
	head.parts[3] = (Elf64_Phdr) { .p_type = PT_INTERP, .p_offset = UINT64_MAX, .p_filesz = 2 };
	head.parts[1] = (Elf64_Phdr) { .p_type = PT_INTERP, .p_offset = sizeof head.elf + sizeof head.parts, .p_filesz = sizeof "/lib/loader" };
	sample_run("mkdir -p %s/tree/bin %s/tree/usr/lib && ln -s usr/lib %s/tree/lib && ln -s real %s/tree/bin/program", top, top, top, top);
	write_file(sample_text("%s/tree/bin/real", top), &head, sizeof head, PROGRAM_BYTES);
	write_file(sample_text("%s/tree/usr/lib/loader", top), "", 0, LOADER_BYTES);
	write_file(sample_text("%s/tree/usr/lib/libc.so.6", top), "", 0, LIBC_BYTES);
	/* What is written in it leads nowhere. */
	memset(head.parts, 0xff, sizeof head.parts);
	for (size_t i = 0; i < ARRAY_LEN(head.parts); i++)
		head.parts[i].p_type = i % 2 == 0 ? PT_LOAD : PT_INTERP;
	write_file(sample_text("%s/tree/bin/wrong", top), &head, sizeof head, PROGRAM_BYTES);
	if (sample_run("mksquashfs %s/tree %s -noappend -quiet -no-progress -comp zstd >/dev/null", top, image) != 0)
		sample_fail("mksquashfs");
}

/* Whether all of a file can be read. */
static bool reads(struct squash *squash, const char *path, uint64_t size)
{
	struct squash_pieces pieces;
	struct squash_inode file;

	if (squash_resolve(squash, path, true, &file, NULL) < 0 || file.size != size || squash_read(squash, &file, 0, size, &pieces, NULL) < 0)
		return false;
	squash_release(squash, &pieces);
	return true;
}

static _Atomic unsigned loaded_count;
static uint64_t loaded[64];

static void note_load(void *ctx, uint64_t pos, uint32_t stored, bool is_meta)
{
	(void)ctx;
	(void)stored;
	if (is_meta || loaded_count == ARRAY_LEN(loaded))
		return;
	loaded[loaded_count] = pos;
	loaded_count++;
}

static void wait_for_bytes(const struct squash *squash, uint64_t bytes)
{
	for (int waited = 0; squash_cache_use(squash).bytes < bytes && waited < PATIENCE_MS; waited++)
		poll(NULL, 0, 1);
}

static unsigned thread_count(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned count = 0;

	if (tasks == NULL)
		sample_fail("/proc/self/task");
	while (readdir(tasks) != NULL)
		count++;
	closedir(tasks);
	return count;
}

static void wait_for_threads(unsigned count)
{
	for (int waited = 0; thread_count() > count && waited < PATIENCE_MS; waited++)
		poll(NULL, 0, 1);
}

/* In the image the blocks of a file lie one behind the other. */
static void test_order(void)
{
	unsigned between = 0;
	bool ascending = true;
	uint64_t last = 0;

	for (unsigned i = 2; i < loaded_count; i++) {
		if (loaded[i] <= loaded[0] || loaded[i] >= loaded[1])
			continue;
		ascending &= loaded[i] > last;
		last = loaded[i];
		between++;
	}
	CHECK("after the first block comes the one that exec writes to", loaded_count > 2 && loaded[1] > loaded[0] && between == 3);
	CHECK("then the others, in order", ascending);
}

int main(void)
{
	/* Never freed: the thread may be about to end. */
	static struct squash_cache *cache;
	static struct squash *squash;
	static _Atomic bool asked;
	struct err err = { 0 };
	uint64_t loads;
	unsigned threads = thread_count();
	const char *image;
	int fd;

	if (mkdtemp(top) == NULL)
		sample_fail("mkdtemp");
	cache = squash_cache_new(16 << 20);
	image = sample_text("%s/image", top);
	make_image(image);
	fd = open(image, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || cache == NULL || squash_open(&squash, cache, fd, 0, 0, &err) < 0)
		sample_fail("opening the image");

	squash_trace(squash, note_load, NULL);
	program_ahead(squash, "program", "/none::/bin", &asked);
	wait_for_bytes(squash, ALL_BYTES);
	CHECK("a program that is found by its search path is decoded with its loader and the C library beside that", squash_cache_use(squash).bytes >= ALL_BYTES);
	test_order();
	loads = squash_cache_use(squash).loads;
	CHECK("all can be read", reads(squash, "/bin/program", PROGRAM_BYTES) && reads(squash, "/lib/loader", LOADER_BYTES) && reads(squash, "/lib/libc.so.6", LIBC_BYTES));
	CHECK("without anything being loaded again", squash_cache_use(squash).loads == loads);
	program_ahead(squash, "/bin/wrong", "", &asked);
	wait_for_bytes(squash, ALL_BYTES + PROGRAM_BYTES);
	CHECK("one with a head that is wrong is decoded, too", squash_cache_use(squash).bytes >= ALL_BYTES + PROGRAM_BYTES);
	wait_for_threads(threads);
	squash_trace(squash, note_load, NULL);
	loaded_count = 0;
	asked = true;
	program_ahead(squash, "program", "/bin", &asked);
	wait_for_threads(threads);
	CHECK("when a run asks itself for what it wants, nothing is", loaded_count == 0);
	sample_run("rm -rf %s", top);
	return check_end();
}
