/* A directory tree with one of everything, images made of it with mksquashfs, and comparison with what a reader shows. */
#ifndef TSRUN_TEST_SAMPLE_TREE_H
#define TSRUN_TEST_SAMPLE_TREE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SAMPLE_NAMES 3000 /* in one directory: more than a metadata block holds */

__attribute__((unused)) static const char *const sample_compressors[] = { "gzip", "zstd", "xz", "lz4" };

static void sample_fail(const char *what)
{
	fprintf(stderr, "the test cannot be set up: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Temporary names: a small ring of buffers is enough for one call's arguments. */
__attribute__((format(printf, 1, 2))) static const char *sample_text(const char *format, ...)
{
	static _Thread_local char texts[8][PATH_MAX];
	static _Thread_local unsigned next;
	char *text = texts[next++ % 8];
	va_list args;

	va_start(args, format);
	vsnprintf(text, PATH_MAX, format, args);
	va_end(args);
	return text;
}

__attribute__((unused, format(printf, 1, 2))) static int sample_run(const char *format, ...)
{
	char command[4 * PATH_MAX];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The byte at a place of a file: neither constant nor random, so that it compresses a little. */
static unsigned char sample_byte(unsigned seed, uint64_t at)
{
	return (unsigned char)((at * 2654435761u >> 13) % 61 + seed);
}

static void sample_file(const char *path, unsigned seed, uint64_t size, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	unsigned char block[65536];

	if (fd < 0)
		sample_fail(path);
	for (uint64_t at = 0; at < size;) {
		size_t take = size - at < sizeof block ? (size_t)(size - at) : sizeof block;

		for (size_t i = 0; i < take; i++)
			block[i] = sample_byte(seed, at + i);
		if (write(fd, block, take) != (ssize_t)take)
			sample_fail(path);
		at += take;
	}
	if (fchmod(fd, mode) < 0)
		sample_fail(path);
	close(fd);
}

static void sample_sparse(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0 || pwrite(fd, "start", 5, 0) != 5 || pwrite(fd, "middle", 6, 5 << 20) != 6 || ftruncate(fd, 12 << 20) < 0)
		sample_fail(path);
	close(fd);
}

/* With a fixed time everywhere, so that a difference is seen. */
static void sample_times(const char *path)
{
	struct timespec times[2] = { { .tv_sec = 1234567890 }, { .tv_sec = 1234567890 } };

	utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

__attribute__((unused)) static void sample_make(const char *root)
{
	static const uint64_t sizes[] = { 0, 1, 4095, 4096, 4097, 131071, 131072, 131073, 1048576, 1048583, 3000000 };

	if (mkdir(root, 0755) < 0 || mkdir(sample_text("%s/files", root), 0755) < 0 || mkdir(sample_text("%s/many", root), 0755) < 0
		|| mkdir(sample_text("%s/links", root), 0755) < 0 || mkdir(sample_text("%s/closed", root), 0700) < 0
		|| mkdir(sample_text("%s/odd", root), 0755) < 0 || mkdir(sample_text("%s/empty", root), 01777) < 0)
		sample_fail(root);
	for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		sample_file(sample_text("%s/files/%u", root, i), i, sizes[i], 0644);
	sample_file(sample_text("%s/files/program", root), 50, 100, 0755);
	sample_file(sample_text("%s/files/private", root), 51, 5000, 0600);
	sample_file(sample_text("%s/files/nobody", root), 52, 10, 0000);
	sample_sparse(sample_text("%s/files/sparse", root));
	for (unsigned i = 0; i < SAMPLE_NAMES; i++)
		sample_file(sample_text("%s/many/name-%05u-%0*u", root, i * 7919 % SAMPLE_NAMES, (int)(i % 40) + 1, i), i, i % 50, 0644);
	sample_file(sample_text("%s/closed/inside", root), 60, 10, 0644);
	sample_file(sample_text("%s/odd/latin-\xe4\xf6\xfc", root), 61, 10, 0644);
	sample_file(sample_text("%s/odd/new\nline", root), 62, 10, 0644);
	sample_file(sample_text("%s/odd/%0255d", root, 1), 63, 10, 0644);
	if (symlink("../files/1", sample_text("%s/links/relative", root)) < 0 || symlink("/files/2", sample_text("%s/links/absolute", root)) < 0
		|| symlink("../../../../files/3", sample_text("%s/links/above", root)) < 0 || symlink("loop", sample_text("%s/links/loop", root)) < 0
		|| symlink("../files", sample_text("%s/links/dir", root)) < 0 || symlink("nowhere", sample_text("%s/links/dangling", root)) < 0)
		sample_fail("symlink");
	if (link(sample_text("%s/files/5", root), sample_text("%s/links/hard", root)) < 0 || mkfifo(sample_text("%s/odd/fifo", root), 0640) < 0)
		sample_fail("link");
	if (geteuid() == 0
		&& (mknod(sample_text("%s/odd/null", root), S_IFCHR | 0666, makedev(1, 3)) < 0
			|| mknod(sample_text("%s/odd/disk", root), S_IFBLK | 0600, makedev(259, 65537)) < 0
			|| chown(sample_text("%s/files/3", root), 1234, 5678) < 0 || chmod(sample_text("%s/files/program", root), 04755) < 0))
		sample_fail("mknod");
	setxattr(sample_text("%s/files/1", root), "user.origin", "somewhere", 9, 0);
	setxattr(sample_text("%s/files/2", root), "user.origin", "somewhere", 9, 0);
	setxattr(sample_text("%s/files/2", root), "user.empty", "", 0, 0);
	sample_times(sample_text("%s/files/1", root));
	sample_times(sample_text("%s/links/relative", root));
	sample_times(sample_text("%s/closed", root));
	sample_times(root);
}

__attribute__((unused)) static void sample_image(const char *root, const char *image, const char *options)
{
	if (sample_run("mksquashfs %s %s -noappend -no-progress -quiet %s >/dev/null 2>&1", root, image, options) != 0)
		sample_fail("mksquashfs (package squashfs-tools)");
}

/* What of a tree is compared, and how the original's attributes are expected to appear. */
struct sample_view {
	bool as_served;   /* the owner may read everything */
	bool no_devices;
	bool no_times;
	bool no_set_ids;  /* of files */
	bool no_owners;
};

static uint64_t sample_hash(const char *path)
{
	static _Thread_local unsigned char block[65536];
	uint64_t hash = 14695981039346656037u;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return (uint64_t)-errno;
	while ((got = read(fd, block, sizeof block)) > 0)
		for (ssize_t i = 0; i < got; i++)
			hash = (hash ^ block[i]) * 1099511628211u;
	if (got < 0)
		hash = (uint64_t)-errno;
	close(fd);
	return hash;
}

static int sample_by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void sample_describe(FILE *out, const char *top, const char *path, const struct sample_view *view)
{
	const char *shown = path[strlen(top)] != '\0' ? path + strlen(top) : "/";
	struct dirent **list;
	struct stat st;
	int n;

	if (lstat(path, &st) < 0) {
		fprintf(out, "%s: %s\n", shown, strerror(errno));
		return;
	}
	if (view->no_devices && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)))
		return;
	if (view->as_served)
		st.st_mode |= S_ISDIR(st.st_mode) ? 0500 : 0400;
	if (view->no_set_ids && !S_ISDIR(st.st_mode))
		st.st_mode &= ~06000u;
	fprintf(out, "%s: %o", shown, st.st_mode);
	if (!view->no_owners)
		fprintf(out, " %u:%u", st.st_uid, st.st_gid);
	if (!view->no_times)
		fprintf(out, " %lld", (long long)st.st_mtim.tv_sec);
	if (!S_ISDIR(st.st_mode))
		fprintf(out, " %u links", (unsigned)st.st_nlink);
	if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
		fprintf(out, " %u:%u", major(st.st_rdev), minor(st.st_rdev));
	if (S_ISLNK(st.st_mode)) {
		char text[PATH_MAX] = "";
		ssize_t len = readlink(path, text, sizeof text - 1);

		fprintf(out, " -> %s (%zd)", text, len);
	}
	if (S_ISREG(st.st_mode))
		fprintf(out, " %lld bytes %016llx", (long long)st.st_size, (unsigned long long)sample_hash(path));
	putc('\n', out);
	if (!S_ISDIR(st.st_mode))
		return;
	n = scandir(path, &list, NULL, sample_by_bytes);
	for (int i = 0; i < n; i++) {
		char below[PATH_MAX];

		snprintf(below, sizeof below, "%s/%s", path, list[i]->d_name);
		if (strcmp(list[i]->d_name, ".") != 0 && strcmp(list[i]->d_name, "..") != 0)
			sample_describe(out, top, below, view);
		free(list[i]);
	}
	if (n < 0)
		fprintf(out, "%s: not listed: %s\n", shown, strerror(errno));
	else
		free(list);
}

/* A tree as text, a line for each name: to be compared, also between processes with different rights. The caller frees it. */
__attribute__((unused)) static char *sample_manifest(const char *root, const struct sample_view *view)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	sample_describe(out, root, root, view);
	fclose(out);
	return text;
}

/* Whether two manifests are the same; prints the first lines that are not. */
__attribute__((unused)) static bool sample_same(const char *expected, const char *found)
{
	const char *a = expected, *b = found;

	while (*a != '\0' && *b != '\0') {
		size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");

		if (n != m || memcmp(a, b, n) != 0)
			break;
		a += n + (a[n] == '\n');
		b += m + (b[m] == '\n');
	}
	if (*a == '\0' && *b == '\0')
		return true;
	fprintf(stderr, "expected %.*s\nfound    %.*s\n", (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
	return false;
}

#endif
