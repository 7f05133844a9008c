/* The role's arguments. */
#include "image.h"
#include "squash/squash.h"
#include "tree_tar.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define CACHE_BYTES (32u << 20)
#define READ_LIMIT (4u << 20)

static int parse_number(const char *text, uint64_t *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno != 0 || *end != '\0' ? -EINVAL : 0;
}

int image_open(struct image_source *source, const char *path, const char *offset, const char *size, struct err *err)
{
	uint64_t from, length;
	int rc;

	*source = (struct image_source) { .fd = -1 };
	if (parse_number(offset, &from) < 0 || parse_number(size, &length) < 0)
		return fail(err, EINVAL, "open the image", "OFFSET and SIZE are decimal numbers, not '%.40s' and '%.40s'", offset, size);
	source->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (source->fd < 0)
		return fail(err, errno, "open the image", "%.300s", path);
	source->cache = squash_cache_new(CACHE_BYTES);
	if (source->cache == NULL)
		return fail(err, ENOMEM, "open the image", "out of memory");
	rc = squash_open(&source->squash, source->cache, source->fd, from, length, err);
	return rc;
}

void image_close(struct image_source *source)
{
	squash_close(source->squash);
	squash_cache_free(source->cache);
	close_fd(&source->fd);
}

static int info(struct squash *sq)
{
	struct squash_statfs st = squash_statfs(sq);

	printf("compressor%c%s%cblockSize%c%u%cinodes%c%u%cbytes%c%llu%c", 0, st.compressor, 0, 0, st.block_size, 0, 0, st.inodes, 0, 0,
		(unsigned long long)st.bytes, 0);
	return 0;
}

static int usage(void)
{
	fputs("tsrun: @image ls|tree|read|cat|pour|xattrs|hot|extract|info IMAGE OFFSET SIZE …, @image tar DIRECTORY (internal; see native/image.h)\n", stderr);
	return 2;
}

static int report(int rc, const struct err *err)
{
	if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
		fprintf(stderr, "tsrun: cannot write the output: %s\n", strerror(errno));
		return 1;
	}
	if (rc == 0)
		return 0;
	if (err->step[0] == '\0')
		fprintf(stderr, "tsrun: %s\n", strerror(-rc));
	else
		fprintf(stderr, "tsrun: cannot %s: %s: %s\n", err->step, err->detail, strerror(-rc));
	return 1;
}

/* One option before the positional arguments, -d or -l with a number; absent: `value` stays. */
static int take_option(char ***args, const char *option, uint64_t *value)
{
	if (**args == NULL || strcmp(**args, option) != 0)
		return 0;
	if ((*args)[1] == NULL || parse_number((*args)[1], value) < 0)
		return -EINVAL;
	*args += 2;
	return 0;
}

static int run_verb(const char *verb, struct squash *sq, uint64_t option, bool xattrs, char **paths, struct err *err)
{
	static char root[] = "/";
	char *whole[] = { root, NULL };
	unsigned depth = option > UINT_MAX ? UINT_MAX : (unsigned)option;

	if (strcmp(verb, "info") == 0)
		return info(sq);
	if (strcmp(verb, "read") == 0)
		return image_read(sq, option, paths, err);
	if (strcmp(verb, "cat") == 0)
		return image_cat(sq, paths, err);
	if (strcmp(verb, "pour") == 0)
		return image_pour(sq, err);
	if (strcmp(verb, "xattrs") == 0)
		return image_xattrs(sq, err);
	if (strcmp(verb, "hot") == 0)
		return image_hot(sq, err);
	if (*paths == NULL)
		paths = whole;
	return strcmp(verb, "ls") == 0 ? image_ls(sq, depth, paths, err) : image_tree(sq, depth, xattrs, paths, err);
}

static int extract(char **args, struct err *err)
{
	struct image_source source;
	uint64_t skipped = 0, from, length;
	int rc;

	/* Opened here only to say early and cheaply what is wrong with it. */
	rc = image_open(&source, args[0], args[1], args[2], err);
	if (rc == 0 && parse_number(args[1], &from) == 0 && parse_number(args[2], &length) == 0)
		rc = image_extract(source.fd, from, length, args[3], NULL, &skipped, err);
	image_close(&source);
	if (rc == 0 && skipped > 0)
		fprintf(stderr, "tsrun: %llu device nodes were not extracted\n", (unsigned long long)skipped);
	return rc;
}

int image_main(int argc, char **argv)
{
	static const char *const verbs[] = { "ls", "tree", "read", "cat", "pour", "xattrs", "hot", "info", NULL };
	struct image_source source;
	struct err err = { 0 };
	char **args = argv + 2; /* behind the role and the verb */
	const char *verb = argc >= 2 ? argv[1] : "";
	uint64_t option = strcmp(verb, "read") == 0 ? READ_LIMIT : UINT_MAX;
	bool xattrs;
	int left, rc;

	if (strcmp(verb, "tar") == 0 && argc == 3)
		return report(tree_tar(args[0], STDOUT_FILENO, NULL, &err), &err);
	if (strcmp(verb, "extract") == 0 && argc == 6)
		return report(extract(args, &err), &err);
	for (size_t i = 0; verbs[i] == NULL || strcmp(verb, verbs[i]) != 0; i++)
		if (verbs[i] == NULL)
			return usage();
	xattrs = strcmp(verb, "tree") == 0 && *args != NULL && strcmp(*args, "-x") == 0;
	args += xattrs ? 1 : 0;
	if (take_option(&args, strcmp(verb, "read") == 0 ? "-l" : "-d", &option) < 0)
		return usage();
	left = argc - (int)(args - argv);
	if (left < 3)
		return usage();
	rc = image_open(&source, args[0], args[1], args[2], &err);
	if (rc == 0)
		rc = run_verb(verb, source.squash, option, xattrs, args + 3, &err);
	image_close(&source);
	return report(rc, &err);
}
