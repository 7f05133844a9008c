/* `@image`: listing, reading, extracting images, and archiving directories. */
#include "check.h"
#include "sample_tree.h"

#include "../../native/image.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>

#define USER 54321

static char top[] = "/tmp/tsrun-image-test-XXXXXX";
static char root[PATH_MAX], image[PATH_MAX], dest[PATH_MAX];

/* A path in the test's directory that lasts longer than sample_text's. */
#define PLACE(variable, name)     \
	char variable[PATH_MAX];      \
	snprintf(variable, sizeof variable, "%s/%s", top, name)

/* Runs the role with its output in a file; returns its exit status. */
static int role(const char *out, ...)
{
	char *argv[32] = { (char *)(uintptr_t)"@image" };
	va_list args;
	int argc = 1, status;
	pid_t pid;

	va_start(args, out);
	while ((argv[argc] = va_arg(args, char *)) != NULL)
		argc++;
	va_end(args);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (freopen(out, "w", stdout) == NULL || freopen(sample_text("%s/stderr", top), "w", stderr) == NULL)
			_exit(99);
		exit(image_main(argc, argv));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *content(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *bytes;

	if (fd < 0 || fstat(fd, &st) < 0)
		sample_fail(path);
	*len = (size_t)st.st_size;
	bytes = calloc(1, *len + 1);
	if (read(fd, bytes, *len) != (ssize_t)*len)
		sample_fail(path);
	close(fd);
	return bytes;
}

static bool said(const char *word)
{
	size_t len;
	char *text = content(sample_text("%s/stderr", top), &len);
	bool there = strstr(text, word) != NULL;

	if (!there)
		fprintf(stderr, "it said: %s\n", text);
	free(text);
	return there;
}

static const char *out_file(void)
{
	return sample_text("%s/out", top);
}

static bool printed(const char *bytes, size_t len)
{
	size_t got;
	char *text = content(out_file(), &got);
	bool same = got == len && memcmp(text, bytes, len) == 0;

	if (!same)
		fprintf(stderr, "%zu bytes: %.*s\n", got, (int)got, text);
	free(text);
	return same;
}

/* --- listing and reading --- */

/* The record of `path` in the tree output: its ten fields. */
static bool record(const char *path, const char *fields[10])
{
	static char *text;
	size_t len;

	free(text);
	text = content(out_file(), &len);
	for (char *at = text; at < text + len;) {
		for (int i = 0; i < 10; i++, at += strlen(at) + 1)
			fields[i] = at;
		if (strcmp(fields[0], path) == 0)
			return true;
	}
	return false;
}

static bool is(const char *const fields[10], int field, const char *value)
{
	if (strcmp(fields[field], value) == 0)
		return true;
	fprintf(stderr, "field %d is '%s', not '%s'\n", field, fields[field], value);
	return false;
}

static void test_listing(void)
{
	const char *fields[10], *again[10];
	char inode[32];

	CHECK("a tree is listed", role(out_file(), "tree", image, "0", "0", NULL) == 0);
	CHECK("the root comes as /", record("/", fields) && is(fields, 1, "d") && is(fields, 2, "755"));
	CHECK("a file has all its fields", record("/files/3", fields) && is(fields, 1, "f") && is(fields, 2, "644") && is(fields, 3, "1234")
			&& is(fields, 4, "5678") && is(fields, 5, "4096") && is(fields, 8, "") && is(fields, 9, ""));
	CHECK("its size is its size", record("/files/5", fields) && is(fields, 5, "131071"));
	snprintf(inode, sizeof inode, "%s", fields[7]);
	CHECK("hard links have one inode number", record("/links/hard", again) && is(again, 7, inode));
	CHECK("times are seconds", record("/files/1", fields) && is(fields, 6, "1234567890"));
	CHECK("a link has its text", record("/links/absolute", fields) && is(fields, 1, "l") && is(fields, 9, "/files/2"));
	CHECK("a device has its numbers", record("/odd/disk", fields) && is(fields, 1, "b") && is(fields, 8, "259:65537"));
	CHECK("names are bytes", record("/odd/latin-\xe4\xf6\xfc", fields) && record("/odd/new\nline", fields));
	CHECK("setuid is shown", record("/files/program", fields) && is(fields, 2, "4755"));
	CHECK("depth limits", role(out_file(), "tree", "-d", "1", image, "0", "0", NULL) == 0 && record("/files", fields) && !record("/files/1", fields));
	CHECK("depth 0 is the path itself", role(out_file(), "tree", "-d", "0", image, "0", "0", "files/", NULL) == 0 && record("/files", fields)
			&& !record("/", fields) && !record("/files/1", fields));
	CHECK("a path below is listed with its whole name", role(out_file(), "tree", image, "0", "0", "/links", NULL) == 0
			&& record("/links", fields) && record("/links/loop", fields));
	CHECK("a path that is not there is named", role(out_file(), "tree", image, "0", "0", "/nowhere", NULL) == 1 && said("/nowhere"));
	CHECK("people see control characters escaped", role(out_file(), "ls", image, "0", "0", "/odd", NULL) == 0
			&& sample_run("grep -q 'new.x0aline' %s && grep -q '^crw-r--r-- .* 1,3 .*/odd/null$' %s", out_file(), out_file()) == 0);
	CHECK("wrong arguments are 2", role(out_file(), "ls", image, NULL) == 2 && role(out_file(), "what", NULL) == 2);
	CHECK("a number that is none is named", role(out_file(), "ls", image, "x", "0", NULL) == 1 && said("'x'"));
	CHECK("info tells compressor and block size", role(out_file(), "info", image, "0", "0", NULL) == 0
			&& sample_run("tr '\\0' ' ' < %s | grep -q '^compressor zstd blockSize 131072 inodes'", out_file()) == 0);
}

static void test_reading(void)
{
	char expected[256];
	size_t len = 0;

	CHECK("a file's bytes are written, through links", role(out_file(), "cat", image, "0", "0", "/links/above", "links/dir/5", NULL) == 0
			&& sample_run("cat %s/files/3 %s/files/5 | cmp -s - %s", root, root, out_file()) == 0);
	CHECK("a directory is not a file", role(out_file(), "cat", image, "0", "0", "/files", NULL) == 1 && said("Is a directory"));
	CHECK("many are read at once", role(out_file(), "read", "-l", "5000", image, "0", "0", "/files/1", "/nowhere", "/files", "/files/10", NULL) == 0);
	len += (size_t)sprintf(expected + len, "/files/1%c%d%c%d%c", 0, 0, 0, 1, 0);
	expected[len++] = (char)sample_byte(1, 0);
	len += (size_t)sprintf(expected + len, "/nowhere%c%d%c%d%c", 0, ENOENT, 0, 0, 0);
	len += (size_t)sprintf(expected + len, "/files%c%d%c%d%c", 0, EISDIR, 0, 0, 0);
	len += (size_t)sprintf(expected + len, "/files/10%c%d%c%d%c", 0, EFBIG, 0, 0, 0);
	CHECK("each with its error and length", printed(expected, len));
}

/* --- extraction --- */

static bool same_tree(const struct sample_view *view, const char *copy)
{
	char *a = sample_manifest(root, view), *b = sample_manifest(copy, view);
	bool same = sample_same(a, b);

	free(a);
	free(b);
	return same;
}

static bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void test_extraction(void)
{
	struct sample_view view = { .no_devices = true, .no_owners = true, .no_set_ids = true };
	struct stat st;
	char value[16];

	CHECK("an image is extracted", role(out_file(), "extract", image, "0", "0", dest, NULL) == 0 && said("2 device nodes"));
	CHECK("all is there, as it was", same_tree(&view, dest));
	CHECK("holes are kept", stat(sample_text("%s/files/sparse", dest), &st) == 0 && st.st_blocks * 512 < 1 << 20);
	if (getxattr(sample_text("%s/files/1", root), "user.origin", value, sizeof value) == 9)
		CHECK("user xattrs are kept", getxattr(sample_text("%s/files/1", dest), "user.origin", value, sizeof value) == 9);
	else
		SKIP("xattrs: the temporary directory's file system has none");
	CHECK("a directory that is not empty is refused, and left alone", role(out_file(), "extract", image, "0", "0", dest, NULL) == 1
			&& said("not empty") && is_there(sample_text("%s/files/1", dest)));
	sample_run("rm -rf %s", dest);
}

static void test_extraction_as_user(void)
{
	struct sample_view view = { .no_devices = true, .no_owners = true, .no_set_ids = true };
	PLACE(place, "user/tree");
	struct stat st;
	pid_t pid;
	int status;

	if (mkdir(sample_text("%s/user", top), 0755) < 0 || chown(sample_text("%s/user", top), USER, USER) < 0)
		sample_fail("mkdir");
	pid = fork();
	if (pid == 0) {
		struct err err = { 0 };
		int fd = open(image, O_RDONLY | O_CLOEXEC);

		if (setgroups(0, NULL) < 0 || setresgid(USER, USER, USER) < 0 || setresuid(USER, USER, USER) < 0)
			_exit(99);
		umask(077);
		_exit(image_extract(fd, 0, 0, place, NULL, NULL, &err) < 0);
	}
	waitpid(pid, &status, 0);
	CHECK("an ordinary user extracts everything, closed directories too", status == 0 && same_tree(&view, place));
	CHECK("it is the user's", stat(sample_text("%s/files/3", place), &st) == 0 && st.st_uid == USER);
	CHECK("setuid bits do not become the user's", stat(sample_text("%s/files/program", place), &st) == 0 && (st.st_mode & 07777) == 0755);
}

static void test_directory_without_access(void)
{
	struct sample_view view = { .no_owners = true };
	PLACE(odd, "modes");
	PLACE(odd_image, "modes.image");
	char *a, *b;

	/* Hard links to a file in a directory that nobody may enter. */
	if (sample_run("mkdir -p %s/a %s/z && echo x > %s/a/x && ln %s/a/x %s/z/x && chmod 0 %s/a && chmod 500 %s/z", odd, odd, odd, odd, odd, odd, odd) != 0)
		sample_fail(odd);
	sample_image(odd, odd_image, "");
	CHECK("closed directories do not stop hard links", role(out_file(), "extract", odd_image, "0", "0", dest, NULL) == 0);
	a = sample_manifest(odd, &view);
	b = sample_manifest(dest, &view);
	CHECK("and are closed in the end", sample_same(a, b));
	free(a);
	free(b);
	sample_run("rm -rf %s", dest);
}

/* Changes a name in the image, which is stored uncompressed. */
static void rename_inside(const char *path, const char *from, const char *to)
{
	size_t len;
	char *bytes = content(path, &len);
	char *at = memmem(bytes, len, from, strlen(from));
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (at == NULL || pwrite(fd, to, strlen(to), at - bytes) != (ssize_t)strlen(to))
		sample_fail("renaming inside an image");
	close(fd);
	free(bytes);
}

static void test_hostile(void)
{
	PLACE(tree, "hostile");
	PLACE(bad, "hostile.image");
	size_t len;
	char *bytes;
	int fd;

	if (sample_run("mkdir -p %s/dir && echo x > %s/dir/QQ && echo x > %s/dir/AA_BBBB", tree, tree, tree) != 0)
		sample_fail(tree);
	for (int i = 0; i < 2; i++) {
		static const char *const names[][2] = { { "AA_BBBB", "../../x" }, { "QQ", ".." } };

		sample_image(tree, bad, "-noI");
		rename_inside(bad, names[i][0], names[i][1]);
		CHECK("a name that leads outside is refused", role(out_file(), "extract", bad, "0", "0", dest, NULL) == 1 && said("directory"));
		CHECK("and nothing is left", !is_there(dest) && !is_there(sample_text("%s/x", top)));
	}
	sample_image(root, bad, "-comp gzip");
	bytes = content(bad, &len);
	fd = open(bad, O_WRONLY | O_CLOEXEC);
	if (pwrite(fd, "garbage in the data", 19, (off_t)(len / 2)) != 19)
		sample_fail(bad);
	close(fd);
	free(bytes);
	CHECK("a damaged block is an error", role(out_file(), "extract", bad, "0", "0", dest, NULL) == 1 && said("does not decompress"));
	CHECK("what was extracted before is removed", !is_there(dest));
	if (mkdir(dest, 0755) < 0)
		sample_fail(dest);
	CHECK("a directory that was there stays, empty", role(out_file(), "extract", bad, "0", "0", dest, NULL) == 1 && rmdir(dest) == 0);
	CHECK("a file that is no image is named", role(out_file(), "extract", "/etc/passwd", "0", "0", dest, NULL) == 1 && said("no SquashFS"));
	CHECK("an image that is not there is named", role(out_file(), "ls", "/nowhere.sif", "0", "0", NULL) == 1 && said("/nowhere.sif"));
}

static void test_interrupt(void)
{
	PLACE(big, "big");
	PLACE(big_image, "big.image");
	int status = 0;
	pid_t pid;

	if (sample_run("mkdir %s && head -c 100M /dev/urandom > %s/a", big, big) != 0)
		sample_fail(big);
	sample_image(big, big_image, "-comp gzip -noD");
	pid = fork();
	if (pid == 0) {
		char *argv[] = { (char *)(uintptr_t)"@image", (char *)(uintptr_t)"extract", (char *)(uintptr_t)big_image, (char *)(uintptr_t)"0",
			(char *)(uintptr_t)"0", dest, NULL };

		exit(image_main(6, argv));
	}
	while (!is_there(sample_text("%s/a", dest)) && waitpid(pid, &status, WNOHANG) == 0)
		sched_yield();
	kill(pid, SIGTERM);
	waitpid(pid, &status, 0);
	CHECK("an interrupted extraction ends by the signal", WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	/* Who sends the signal may have to wait for a processor until all is there. */
	CHECK("and leaves nothing, if it had not ended yet", !is_there(dest) || sample_run("cmp -s %s/a %s/a && rm -r %s", big, dest, dest) == 0);
}

/* --- archives --- */

static void test_archive(void)
{
	struct sample_view view = { 0 };
	PLACE(other, "other");

	CHECK("a directory is archived", role(out_file(), "tar", root, NULL) == 0);
	if (mkdir(other, 0755) < 0
		|| sample_run("tar -xpf %s -C %s --xattrs --xattrs-include='*' --same-owner --numeric-owner --warning=no-timestamp", out_file(), other) != 0)
		sample_fail("tar");
	CHECK("tar reads back the same tree", same_tree(&view, other));
	CHECK("nanoseconds are there", sample_run("a=$(stat -c %%.9Y %s/many); b=$(stat -c %%.9Y %s/many); test \"$a\" = \"$b\"", root, other) == 0);
	CHECK("xattrs are there", sample_run("a=$(getfattr -d %s/files/2 2>/dev/null | tail -n +2); b=$(getfattr -d %s/files/2 2>/dev/null | tail -n +2); "
										 "test \"$a\" = \"$b\"", root, other) == 0);
	CHECK("names come sorted by bytes", sample_run("tar -tf %s --quoting-style=escape | sed 's,/$,,' | LC_ALL=C sort -c 2>/dev/null || "
												   "tar -tf %s | grep '^./many/.' | LC_ALL=C sort -c", out_file(), out_file()) == 0);
	CHECK("the same directory gives the same bytes", role(sample_text("%s/out2", top), "tar", root, NULL) == 0
			&& sample_run("cmp -s %s %s/out2", out_file(), top) == 0);
	CHECK("a directory that is not there is named", role(out_file(), "tar", "/nowhere", NULL) == 1 && said("/nowhere"));
}

static void test_archive_of_numbers(void)
{
	PLACE(tree, "numbers");
	char self[PATH_MAX] = "";

	/* What does not fit into the plain header: big ids, times before 1970, long link texts, a file of 9 GB. */
	if (sample_run("mkdir %s && cd %s && echo x > big && chown 3000000000:2999999999 big && touch -d '1969-12-31T23:59:58.25Z' old && "
				   "ln -s $(printf %%0200d 7) long && truncate -s 9G huge", tree, tree) != 0)
		sample_fail(tree);
	if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
		sample_fail("/proc/self/exe");
	CHECK("a size beyond 8 GiB is written", sample_run("%s @image tar %s 2>/dev/null | head -c 8192 | grep -aq ' size=9663676416'", self, tree) == 0);
	unlink(sample_text("%s/huge", tree));
	CHECK("they are archived", role(out_file(), "tar", tree, NULL) == 0);
	CHECK("tar reads them back", sample_run("mkdir %s/back && tar -xpf %s -C %s/back --same-owner --numeric-owner 2>/dev/null; cd %s/back && "
											"test $(stat -c %%u:%%g big) = 3000000000:2999999999 && test $(stat -c %%.2Y old) = -1.75 && "
											"test $(readlink long) = $(printf %%0200d 7)", top, out_file(), top, top) == 0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "@image") == 0)
		return image_main(argc - 1, argv + 1);
	umask(022);
	if (geteuid() != 0) {
		SKIP("devices and owners: this test wants to run as root");
		return check_end();
	}
	if (mkdtemp(top) == NULL || chmod(top, 0755) < 0)
		sample_fail("mkdtemp");
	snprintf(root, sizeof root, "%s/root", top);
	snprintf(image, sizeof image, "%s/image", top);
	snprintf(dest, sizeof dest, "%s/dest", top);
	sample_make(root);
	sample_image(root, image, "-comp zstd");
	chmod(image, 0644);

	test_listing();
	test_reading();
	test_extraction();
	test_extraction_as_user();
	test_directory_without_access();
	test_hostile();
	test_interrupt();
	test_archive();
	test_archive_of_numbers();

	sample_run("chmod -R u+rwx %s; rm -rf %s", top, top);
	return check_end();
}
