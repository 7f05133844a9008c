#include "tree_role.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tree_put.h"
#include "tree_tar.h"
#include "util.h"

static void put_number(uint64_t value)
{
	printf("%" PRIu64 "%c", value, 0);
}

static void put_text(const char *text)
{
	fwrite(text, 1, strlen(text) + 1, stdout);
}

static void look(const char *path)
{
	char real[PATH_MAX];
	struct stat st;

	if (realpath(path, real) == NULL || stat(real, &st) < 0) {
		put_number((uint64_t)errno);
		printf("%c%c%c%c%c", 0, 0, 0, 0, 0);
		return;
	}
	put_number(0);
	put_text(real);
	printf("%c%c%o%c", mode_letter(st.st_mode), 0, st.st_mode & 07777u, 0);
	put_number((uint64_t)st.st_size);
	printf("%lld%c", (long long)st.st_mtim.tv_sec, 0);
}

static char letter_of_entry(const struct dirent *entry)
{
	return entry->d_type == DT_UNKNOWN ? '?' : mode_letter(DTTOIF(entry->d_type));
}

static void names(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;

	put_number(dir == NULL ? (uint64_t)errno : 0);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		put_text(entry->d_name);
		printf("%c%c", letter_of_entry(entry), 0);
	}
	if (dir != NULL)
		closedir(dir);
	putchar(0);
}

/* The whole file, or a negative errno. */
static ssize_t read_whole(const char *path, size_t limit, char **content)
{
	cleanup_fd int fd = RETRY(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
	struct stat st;
	size_t length = 0;
	ssize_t got;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if ((uint64_t)st.st_size > limit)
		return -EFBIG;
	*content = malloc((size_t)st.st_size + 1);
	if (*content == NULL)
		return -ENOMEM;
	while (length < (size_t)st.st_size && (got = RETRY(read(fd, *content + length, (size_t)st.st_size - length))) != 0) {
		if (got < 0)
			return -errno;
		length += (size_t)got;
	}
	return (ssize_t)length;
}

static void read_file(const char *path, size_t limit)
{
	cleanup_free char *content = NULL;
	ssize_t length = read_whole(path, limit, &content);

	put_number(length < 0 ? (uint64_t)-length : 0);
	put_number(length < 0 ? 0 : (uint64_t)length);
	if (length > 0)
		fwrite(content, 1, (size_t)length, stdout);
}

/* The root moves to where the host's tree is shown, and becomes visible in it. */
static int on_host(char **args)
{
	const char *host = args[0], *at = args[1], *cwd = args[2];
	char place[PATH_MAX];

	if (snprintf(place, sizeof place, "%s%s", host, at) >= (int)sizeof place) {
		fputs("tsrun: cannot show the root on the host: its path is too long\n", stderr);
		return 125;
	}
	if (mount("/", place, NULL, MS_BIND, NULL) < 0 || chroot(host) < 0 || (chdir(cwd) < 0 && chdir("/") < 0)) {
		fprintf(stderr, "tsrun: cannot show the root at %s: %s\n", at, strerror(errno));
		return 125;
	}
	execvp(args[3], args + 3);
	fprintf(stderr, "tsrun: cannot run %s: %s\n", args[3], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}

/* In the end a shell gives the terminal back to the group that had it, and complains where its namespace does not have that: so it begins as one of its own. */
static int in_terminal(char **args)
{
	signal(SIGTTOU, SIG_IGN);
	(void)setpgid(0, 0);
	(void)tcsetpgrp(STDIN_FILENO, getpgrp());
	signal(SIGTTOU, SIG_DFL);
	execvp(args[0], args);
	fprintf(stderr, "tsrun: cannot run %s: %s\n", args[0], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}

static int report(int result, const struct err *err)
{
	if (result < 0)
		fprintf(stderr, "tsrun: cannot %s: %s: %s\n", err->step, err->detail, strerror(-result));
	return result < 0;
}

/* Without what is mounted below it: that is this run's, and hides what the tree has there. Bound over itself, and reached there through "/..", which also
 * leads to what lies over "/". Where the kernel keeps mounts together (/sys of the host), they are taken as they are. */
static int take(const char *path, bool real_owners)
{
	struct tree_records records = {.table = NULL, .real_owners = real_owners};
	struct err err = {0};
	char through[PATH_MAX];

	if (snprintf(through, sizeof through, "/..%s", path) < (int)sizeof through && mount(path, path, NULL, MS_BIND, NULL) == 0)
		path = through;
	return report(tree_tar(path, STDOUT_FILENO, &records, &err), &err);
}

static int cat(const char *path)
{
	static char buffer[1 << 18];
	cleanup_fd int fd = RETRY(open(path, O_RDONLY | O_CLOEXEC));
	ssize_t got = -1;

	while (fd >= 0 && (got = RETRY(read(fd, buffer, sizeof buffer))) > 0) {
		if (fwrite(buffer, 1, (size_t)got, stdout) != (size_t)got)
			return 1;
	}
	if (got < 0)
		fprintf(stderr, "tsrun: cannot read %s: %s\n", path, strerror(errno));
	return got < 0 || fflush(stdout) != 0;
}

static int put(bool whole)
{
	struct err err = {0};

	return report(tree_put(STDIN_FILENO, whole, &err), &err);
}

int tree_role_main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	char *end = NULL;
	size_t limit = 0;
	int first = 2;

	if (strcmp(verb, "put") == 0 && (argc == 2 || (argc == 3 && strcmp(argv[2], "whole") == 0)))
		return put(argc == 3);
	if (strcmp(verb, "take") == 0 && argc == 4)
		return take(argv[3], strcmp(argv[2], "real") == 0);
	if (strcmp(verb, "cat") == 0 && argc == 3)
		return cat(argv[2]);
	if (strcmp(verb, "host") == 0 && argc > 5)
		return on_host(argv + 2);
	if (strcmp(verb, "shell") == 0 && argc > 2)
		return in_terminal(argv + 2);
	if (strcmp(verb, "read") == 0 && argc > 2) {
		limit = strtoul(argv[2], &end, 10);
		first = 3;
	}
	if (argc <= first || (end != NULL && *end != '\0') || (first == 2 && strcmp(verb, "look") != 0 && strcmp(verb, "names") != 0)) {
		fputs("tsrun: @tree look|names PATH…, @tree read LIMIT PATH…, @tree put [whole], @tree take real|recorded DIRECTORY, @tree cat FILE, "
		      "@tree host HOST PLACE DIRECTORY PROGRAM…, @tree shell PROGRAM… (internal; see native/tree_role.h)\n", stderr);
		return 2;
	}
	for (int i = first; i < argc; i++) {
		if (first == 3)
			read_file(argv[i], limit);
		else if (strcmp(verb, "look") == 0)
			look(argv[i]);
		else
			names(argv[i]);
	}
	return fflush(stdout) != 0 || ferror(stdout) ? 1 : 0;
}
