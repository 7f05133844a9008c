/* A program that is decoded ahead is there, whole and with its loader, when it is asked for. */
#include "check.h"
#include "sample_tree.h"

#include "../../native/server_internal.h"

#include <elf.h>
#include <poll.h>

#define PROGRAM_BYTES (700u << 10)
#define LOADER_BYTES (200u << 10)
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
		Elf64_Phdr parts[2];
		char loader[16];
	} head = { .elf = { .e_phoff = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 }, .loader = "/lib/loader" };

	memcpy(head.elf.e_ident, ELFMAG, SELFMAG);
	head.elf.e_ident[EI_CLASS] = ELFCLASS64;
	head.parts[0].p_type = PT_LOAD;
	head.parts[1] = (Elf64_Phdr) { .p_type = PT_INTERP, .p_offset = sizeof head.elf + sizeof head.parts, .p_filesz = sizeof "/lib/loader" };
	sample_run("mkdir -p %s/tree/bin %s/tree/usr/lib && ln -s usr/lib %s/tree/lib && ln -s real %s/tree/bin/program", top, top, top, top);
	write_file(sample_text("%s/tree/bin/real", top), &head, sizeof head, PROGRAM_BYTES);
	write_file(sample_text("%s/tree/usr/lib/loader", top), "", 0, LOADER_BYTES);
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

int main(void)
{
	/* Never freed: the thread may be about to end. */
	static struct squash_cache *cache;
	static struct squash *squash;
	struct err err = { 0 };
	uint64_t loads;
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

	program_ahead(squash, "program", "/none::/bin");
	for (int waited = 0; squash_cache_use(squash).bytes < PROGRAM_BYTES + LOADER_BYTES && waited < PATIENCE_MS; waited++)
		poll(NULL, 0, 1);
	CHECK("a program that is found by its search path is decoded with its loader", squash_cache_use(squash).bytes >= PROGRAM_BYTES + LOADER_BYTES);
	loads = squash_cache_use(squash).loads;
	CHECK("both can be read", reads(squash, "/bin/program", PROGRAM_BYTES) && reads(squash, "/lib/loader", LOADER_BYTES));
	CHECK("without anything being loaded again", squash_cache_use(squash).loads == loads);
	sample_run("rm -rf %s", top);
	return check_end();
}
