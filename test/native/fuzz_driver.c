/* fuzz_NAME SECONDS CORPUS…: runs LLVMFuzzerTestOneInput on every file of the corpus (files and directories), then on mutations of them until the time
 * is over, keeping inputs that reach new code (gcc's trace-pc tells). The seed is fixed. An input that crashes, leaks, takes more than 10 seconds or
 * more than 1 GiB is kept as build/fuzz/NAME.bad and is a failure. */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)1 << 20)
#define CORPUS_MAX 4096
#define INPUT_SECONDS 10
#define RSS_MAX_KB (1024L * 1024)
#define EXIT_SLOW 99
#define EXIT_BIG 98

int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
const char *__asan_default_options(void);
void __sanitizer_cov_trace_pc(void);

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1:max_allocation_size_mb=512:detect_leaks=1";
}

/* --- coverage: each pair of neighbouring places, counted in powers of two --- */

#define EDGES (1u << 16)
static uint8_t hits[EDGES] __attribute__((aligned(8))), seen[EDGES];
static uintptr_t previous;

void __sanitizer_cov_trace_pc(void)
{
	uintptr_t here = (uintptr_t)__builtin_return_address(0);
	uint8_t *count = &hits[(here ^ here >> 16 ^ previous << 1) % EDGES];

	*count += *count < 255;
	previous = here;
}

static bool found_something_new(void)
{
	bool new = false;

	for (size_t i = 0; i < EDGES; i++) {
		uint64_t eight;
		uint8_t level;
		if (i % 8 == 0 && (memcpy(&eight, hits + i, 8), eight == 0))
			i += 7;
		if (hits[i] == 0)
			continue;
		level = (uint8_t)(1u << (31 - __builtin_clz(hits[i])));
		new = new || (seen[i] & level) == 0;
		seen[i] |= level;
		hits[i] = 0;
	}
	return new;
}

/* --- inputs --- */

struct input {
	uint8_t *data;
	size_t size;
};
static struct input corpus[CORPUS_MAX];
static size_t corpus_count;

/* The input under test lies in memory shared with the parent, which still has it after a crash. */
static struct {
	size_t size;
	uint64_t runs;
	uint8_t data[INPUT_MAX];
} *current;

static uint64_t random_state = 0x2545f4914f6cdd1d;
static size_t below(size_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return limit == 0 ? 0 : (size_t)(random_state >> 11) % limit;
}

static void keep(const uint8_t *data, size_t size)
{
	struct input *input = &corpus[corpus_count < CORPUS_MAX ? corpus_count++ : below(CORPUS_MAX)];

	free(input->data);
	input->data = malloc(size + 1);
	if (input->data == NULL)
		abort();
	memcpy(input->data, data, size);
	input->size = size;
}

static void load(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) != 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if (S_ISDIR(st.st_mode)) {
		DIR *directory = fdopendir(fd);
		for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
			char below_path[4096];
			if (entry->d_name[0] == '.')
				continue;
			snprintf(below_path, sizeof below_path, "%s/%s", path, entry->d_name);
			load(below_path);
		}
		closedir(directory);
		return;
	}
	if (S_ISREG(st.st_mode) && corpus_count < CORPUS_MAX) {
		ssize_t got = read(fd, current->data, INPUT_MAX);
		if (got >= 0)
			keep(current->data, (size_t)got);
	}
	close(fd);
}

/* --- mutation --- */

static void put_number(uint8_t *data, size_t size)
{
	static const uint64_t numbers[] = {0,		1,	     2,		     0x7f,	  0x80,	      0xff,	     0x100,
					   0x7fff,	0x8000,	     0xffff,	     0x10000,	  0x7fffffff, 0x80000000,    0xffffffff,
					   0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff};
	size_t width = (size_t)1 << below(4), at;
	uint64_t number;

	if (size < width)
		return;
	at = below(size - width + 1);
	memcpy(&number, data + at, width);
	number = below(3) == 0 ? number + below(64) - 32 : numbers[below(sizeof numbers / sizeof numbers[0])];
	memcpy(data + at, &number, width);
}

static size_t mutate(uint8_t *data, size_t size)
{
	size_t at = below(size), len = 1 + below(below(2) ? 16 : 512);
	const struct input *other = &corpus[below(corpus_count)];

	switch (below(8)) {
	case 0:
		if (size > 0)
			data[at] ^= (uint8_t)(1u << below(8));
		return size;
	case 1:
		if (size > 0)
			data[at] = (uint8_t)below(256);
		return size;
	case 2:
	case 3:
		put_number(data, size);
		return size;
	case 4: /* take a piece out */
		if (len > size - at)
			len = size - at;
		memmove(data + at, data + at + len, size - at - len);
		return size - len;
	case 5: /* repeat a piece, or put a new one in */
		if (size > 0 && len > size - at)
			len = size - at;
		if (size + len > INPUT_MAX)
			return size;
		memmove(data + at + len, data + at, size - at);
		if (size == 0 || below(2) == 0)
			for (size_t i = 0; i < len; i++)
				data[at + i] = (uint8_t)below(256);
		return size + len;
	case 6: /* a piece of another input over this one */
		if (other->size == 0 || size == 0)
			return size;
		if (len > size - at)
			len = size - at;
		if (len > other->size)
			len = other->size;
		memcpy(data + at, other->data + below(other->size - len + 1), len);
		return size;
	default:
		return below(4) == 0 ? at : size;
	}
}

/* --- running --- */

static void too_slow(int signal_number)
{
	(void)signal_number;
	_exit(EXIT_SLOW);
}

static void run_current(void)
{
	/* A copy of exactly this size, so that reading past its end is seen. */
	uint8_t *data = malloc(current->size);

	if (data == NULL)
		abort();
	memcpy(data, current->data, current->size);
	previous = 0;
	alarm(INPUT_SECONDS);
	LLVMFuzzerTestOneInput(data, current->size);
	alarm(0);
	free(data);
	current->runs++;
}

static void fuzz(unsigned int seconds)
{
	struct timespec start, now;
	struct rusage usage;
	size_t given = corpus_count;

	signal(SIGALRM, too_slow);
	for (size_t i = 0; i < given; i++) {
		current->size = corpus[i].size;
		memcpy(current->data, corpus[i].data, corpus[i].size);
		run_current();
		found_something_new();
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		for (int i = 0; i < 64; i++) {
			const struct input *base = &corpus[below(corpus_count)];
			size_t size = base->size;
			memcpy(current->data, base->data, size);
			for (size_t n = 1 + below(6); n > 0; n--)
				size = mutate(current->data, size);
			current->size = size;
			run_current();
			if (found_something_new())
				keep(current->data, size);
		}
		getrusage(RUSAGE_SELF, &usage);
		if (usage.ru_maxrss > RSS_MAX_KB)
			_exit(EXIT_BIG);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < (time_t)seconds);
	for (size_t i = 0; i < corpus_count; i++)
		free(corpus[i].data);
}

static void keep_bad(const char *name, int status)
{
	char path[4096];
	const char *why = WIFSIGNALED(status) ? "crash" : WEXITSTATUS(status) == EXIT_SLOW ? "slow" : WEXITSTATUS(status) == EXIT_BIG ? "big" : "error";
	int fd;

	mkdir("build/fuzz", 0777);
	snprintf(path, sizeof path, "build/fuzz/%s.bad", name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, current->data, current->size) != (ssize_t)current->size)
		fprintf(stderr, "cannot write %s: %s\n", path, strerror(errno));
	printf("%s: %s after %llu runs; the input is kept as %s\n", name, why, (unsigned long long)current->runs, path);
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
	int status = 0;
	pid_t pid;

	if (argc < 2) {
		fprintf(stderr, "usage: %s SECONDS [CORPUS…]\n", argv[0]);
		return 1;
	}
	current = mmap(NULL, sizeof *current, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (current == MAP_FAILED)
		return 1;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (LLVMFuzzerInitialize != NULL)
			LLVMFuzzerInitialize(&argc, &argv);
		for (int i = 2; i < argc; i++)
			load(argv[i]);
		if (corpus_count == 0)
			keep((const uint8_t *)"", 0);
		fuzz((unsigned int)atoi(argv[1]));
		exit(0); /* the leak checker runs now */
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	if (status != 0)
		keep_bad(name, status);
	else
		printf("%s: %llu runs\n", name, (unsigned long long)current->runs);
	printf("%d passed, %d failed, 0 skipped\n", status == 0, status != 0);
	return status != 0;
}
