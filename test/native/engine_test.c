/* The planner's engine: byte strings, exceptions, limits, host calls, the start from an image. The bundle is test/native/fixtures/planner.js; run from
 * the top of the tree. */
#include "../../native/engine/engine.h"
#include "check.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define BUNDLE "test/native/fixtures/planner.js"

static struct host host;
static struct host_ops ops;
static struct err err;

static char *read_whole(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rb");
	char *text = calloc(1, 1 << 20);

	if (file == NULL || text == NULL) {
		fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
		exit(1);
	}
	*len = fread(text, 1, (1 << 20) - 1, file);
	fclose(file);
	return text;
}

static struct engine *start_text(void)
{
	struct engine *engine;
	size_t len;
	char *bundle = read_whole(BUNDLE, &len);
	int error = engine_start_text(&engine, &ops, bundle, len, "planner.js", &err);

	free(bundle);
	if (error != 0) {
		fprintf(stderr, "%s: %s\n", err.step, err.detail);
		exit(1);
	}
	return engine;
}

/* Calls `function` of the fixture with the text behind the colon; the answer is kept until the next call. */
static char *answer;
static size_t answer_len;
static int ask_bytes(struct engine *engine, const char *request, size_t len)
{
	free(answer);
	memset(&err, 0, sizeof err);
	return engine_call(engine, "tsrunStart", request, len, &answer, &answer_len, &err);
}
static int ask(struct engine *engine, const char *request)
{
	return ask_bytes(engine, request, strlen(request));
}
static bool says(struct engine *engine, const char *request, const char *expected)
{
	int error = ask(engine, request);
	bool same = error == 0 && strcmp(answer, expected) == 0 && answer_len == strlen(expected);

	if (!same)
		fprintf(stderr, "%s: %d, %s, %s\n", request, error, error == 0 ? answer : "", err.detail);
	return same;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void byte_strings(struct engine *engine)
{
	char all[5 + 256];
	int error;

	memcpy(all, "echo:", 5);
	for (int i = 0; i < 256; i++)
		all[5 + i] = (char)i;
	error = ask_bytes(engine, all, sizeof all);
	CHECK("every byte comes back as it went in, NUL too", error == 0 && answer_len == 256 && memcmp(answer, all + 5, 256) == 0);
	memcpy(all, "codes", 5);
	memcpy(all + 5, ":\x80\xff\xc3\xa9", 5);
	error = ask_bytes(engine, all, 10);
	CHECK("one char for each byte, UTF-8 not decoded", error == 0 && strcmp(answer, "128 255 195 169") == 0);
	CHECK("an empty string is one", says(engine, "echo:", ""));
	CHECK("a char above U+00FF in the answer is -EILSEQ", ask(engine, "wide:") == -EILSEQ);
	CHECK("an answer that is no string is -EILSEQ", ask(engine, "number:") == -EILSEQ);
	CHECK("lists are their texts, each with a NUL; lists in these have commas",
	      ask(engine, "lists:") == 0 && answer_len == 30 && memcmp(answer, "a\0" "7\0-1\0" "1099511627776\0x,y\0\0\xff\0z", 30) == 0);
	CHECK("a wide char in a list is -EILSEQ", ask(engine, "wideInList:") == -EILSEQ);
	CHECK("a NUL in a list is -EILSEQ", ask(engine, "nulInList:") == -EILSEQ);
	CHECK("a list with a hole is -EILSEQ", ask(engine, "holes:") == -EILSEQ);

	size_t len = (size_t)3 << 20;
	char *big = malloc(len);
	memset(big, 0xe9, len);
	memcpy(big, "length:", 7);
	error = ask_bytes(engine, big, len);
	CHECK("megabytes go in", error == 0 && strcmp(answer, "3145721") == 0);
	memcpy(big, "echo:", 5);
	error = ask_bytes(engine, big, len);
	CHECK("megabytes come out", error == 0 && answer_len == len - 5 && memcmp(answer, big + 5, len - 5) == 0);
	free(big);
}

static void exceptions(struct engine *engine)
{
	char *out;
	size_t out_len;

	CHECK("an exception is -EPROTO", ask(engine, "boom:x") == -EPROTO);
	CHECK("its message is in the error", strstr(err.detail, "TypeError: cannot read property 'property' of undefined") != NULL);
	CHECK("its stack too, innermost function first, with file and line",
	      strstr(err.detail, "at null_function (planner.js:79") != NULL && strstr(err.detail, "at boom (planner.js:14") != NULL);
	CHECK("the step names the function", strcmp(err.step, "tsrunStart") == 0);
	CHECK("a thrown string is told", ask(engine, "throwText:") == -EPROTO && strstr(err.detail, "only text") != NULL);
	CHECK("what cannot even be shown is told", ask(engine, "throwHostile:") == -EPROTO && strstr(err.detail, "cannot be shown") != NULL);
	CHECK("the engine goes on after exceptions", says(engine, "echo:still there", "still there"));
	CHECK("a function that is not there is -ENOENT", engine_call(engine, "tsrunMissing", "", 0, &out, &out_len, &err) == -ENOENT && out == NULL);
	CHECK("the second entry works", engine_call(engine, "tsrunFailure", "x", 1, &out, &out_len, &err) == 0 && strcmp(out, "failure x") == 0);
	free(out);
}

static void bad_bundles(void)
{
	static const char syntax[] = "globalThis.a = 1;\nfunction (";
	static const char throwing[] = "throw new RangeError('at load')";
	struct engine *engine;

	CHECK("a bundle with a syntax error does not start", engine_start_text(&engine, &ops, syntax, strlen(syntax), "bad.js", &err) == -EPROTO);
	CHECK("the error says where", engine == NULL && strstr(err.detail, "SyntaxError") != NULL && strstr(err.detail, "bad.js:2") != NULL);
	CHECK("a bundle that throws does not start", engine_start_text(&engine, &ops, throwing, strlen(throwing), "bad.js", &err) == -EPROTO &&
							     engine == NULL && strstr(err.detail, "RangeError: at load") != NULL);
}

static void limits(struct engine *engine)
{
	int64_t since;

	CHECK("20 MB of heap are fine", says(engine, "big:", "199"));
	engine_limit_cpu(engine, 100);
	since = now_ms();
	CHECK("an endless loop ends with -ETIME", ask(engine, "forever:") == -ETIME);
	CHECK("an expression that backtracks for ever too", ask(engine, "backtrack:") == -ETIME);
	CHECK("both in bounded time", now_ms() - since < 20000);
	CHECK("the error says how much time there was", strstr(err.detail, "more than 100 ms") != NULL);
	engine_limit_cpu(engine, ENGINE_CPU_MS);
	CHECK("a heap that grows for ever ends with -ENOMEM", ask(engine, "fill:") == -ENOMEM && strstr(err.detail, "more than 48 MiB") != NULL);
	CHECK("so does a string", ask(engine, "double:") == -ENOMEM || ask(engine, "double:") == -EPROTO);
	CHECK("recursion without end is an exception", ask(engine, "recurse:x") == -EPROTO && strstr(err.detail, "call stack size exceeded") != NULL);
	CHECK("so is JSON nested without end", ask(engine, "nested:") == -EPROTO);
	CHECK("and a regular expression", ask(engine, "nestedRegExp:") == -EPROTO);
	CHECK("after all that it still answers", says(engine, "echo:here", "here"));
	CHECK("there is no clock and no time zone", says(engine, "clock:", "0 0 undefined"));
}

static void host_calls(struct engine *engine, const char *directory)
{
	char request[4096], path[256];
	struct stat st;
	int fd, mine;

	snprintf(path, sizeof path, "%s/n\xff\xe9", directory);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
	CHECK("the test's file is there", fd >= 0 && write(fd, "a\0\xc3\xff", 4) == 4);
	close(fd);

	snprintf(request, sizeof request, "host:16\n$%s\n#0\n#100", path);
	CHECK("a file with a name and content that are not UTF-8 is read byte for byte",
	      ask(engine, request) == 0 && answer_len == 11 && memcmp(answer, "string a\0\xc3\xff", 11) == 0);
	snprintf(request, sizeof request, "host:15\n$%s\n#10", directory);
	CHECK("its name comes back from readdir",
	      ask(engine, request) == 0 && answer_len == 11 && memcmp(answer, "object fn\xff\xe9", 11) == 0);
	snprintf(request, sizeof request, "host:10\n$%s", path);
	CHECK("stat tells type and mode", ask(engine, request) == 0 && strncmp(answer, "object 33184,", 13) == 0);
	CHECK("errors are negative errno", says(engine, "host:10\n$/nowhere/at/all", "number -2"));
	CHECK("an unknown call is -ENOSYS", says(engine, "host:99", "number -38") && says(engine, "host:4000000", "number -38"));
	CHECK("a missing argument is -EINVAL", says(engine, "host:10", "number -22"));
	CHECK("a number for a string is -EINVAL", says(engine, "host:10\n#1", "number -22"));
	CHECK("a string for a number is -EINVAL", says(engine, "host:7\n$1", "number -22"));
	CHECK("a NUL in a path is -EINVAL", ask_bytes(engine, "host:10\n$/tmp\0x", 15) == 0 && strcmp(answer, "number -22") == 0);
	CHECK("a wide string is -EILSEQ", says(engine, "hostWide:", "-84"));
	CHECK("fractions, objects, no or too many arguments are -EINVAL",
	      says(engine, "hostFraction:", "-22") && says(engine, "hostObject:", "-22") && says(engine, "hostNothing:", "-22") &&
		      says(engine, "hostMany:", "-22"));
	CHECK("an exception while an argument is read goes to the caller",
	      ask(engine, "hostThrowing:") == -EPROTO && strstr(err.detail, "from valueOf") != NULL);

	snprintf(request, sizeof request, "host:20\n$%s", path);
	CHECK("a file is kept", ask(engine, request) == 0 && strncmp(answer, "number ", 7) == 0);
	mine = engine_take_fd(engine, atoi(answer + 7));
	CHECK("and handed over", mine >= 0 && fstat(mine, &st) == 0 && st.st_size == 4 && (fcntl(mine, F_GETFD) & FD_CLOEXEC) != 0);
	CHECK("only once", engine_take_fd(engine, atoi(answer + 7)) == -EBADF);
	close(mine);
	unlink(path);
}

static void image_start(void)
{
	struct engine *engine, *second;
	struct rusage before, started, called;
	struct timespec from, to, done;
	char *out;
	size_t out_len;
	int error;

	getrusage(RUSAGE_SELF, &before);
	clock_gettime(CLOCK_MONOTONIC, &from);
	error = engine_start(&engine, &ops, &err);
	clock_gettime(CLOCK_MONOTONIC, &to);
	getrusage(RUSAGE_SELF, &started);
	if (!CHECK("the engine starts from its image", error == 0)) {
		fprintf(stderr, "%s: %s\n", err.step, err.detail);
		return;
	}
	error = engine_call(engine, "tsrunStart", "echo:x", 6, &out, &out_len, &err);
	clock_gettime(CLOCK_MONOTONIC, &done);
	getrusage(RUSAGE_SELF, &called);
	CHECK("it answers", error == 0 && strcmp(out, "x") == 0);
	free(out);
	fprintf(stderr, "start from the image %ld us, %ld faults; first call %ld us, %ld faults\n",
		(to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000, started.ru_minflt - before.ru_minflt,
		(done.tv_sec - to.tv_sec) * 1000000 + (done.tv_nsec - to.tv_nsec) / 1000, called.ru_minflt - started.ru_minflt);

	CHECK("the image's state goes on from where it was made", says(engine, "count:", "1") && says(engine, "count:", "2"));
	CHECK("the image is used once in a process", engine_start(&second, &ops, &err) == -EALREADY && second == NULL);
	byte_strings(engine);
	exceptions(engine);
	limits(engine);
	engine_free(engine);
}

/* The image is the same on every build: made again, in another directory and another environment. */
static void image_is_reproducible(const char *directory)
{
	char command[1024];

	snprintf(command, sizeof command,
		 "env -i TZ=Asia/Tokyo LC_ALL=C build/mksnapshot " BUNDLE " %s && cmp build/fixture/image.bin %s/image.bin && "
		 "cmp build/fixture/image.h %s/image.h && rm %s/image.bin %s/image.h",
		 directory, directory, directory, directory, directory);
	CHECK("the same bundle gives the same image", system(command) == 0);
}

int main(int argc, char **argv)
{
	char directory[] = "/tmp/tsrun-engine-test-XXXXXX";
	struct engine *engine;
	char *const env[] = {NULL};

	host = (struct host){.argc = argc, .argv = argv, .envp = env};
	ops = host_ops_of(&host);
	if (mkdtemp(directory) == NULL)
		return 1;

	engine = start_text();
	byte_strings(engine);
	exceptions(engine);
	limits(engine);
	host_calls(engine, directory);
	engine_free(engine);
	bad_bundles();
	image_start();
	image_is_reproducible(directory);

	rmdir(directory);
	free(answer);
	host_release(&host);
	return check_end();
}
