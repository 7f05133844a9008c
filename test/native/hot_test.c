/* Hot lists and records: what is accepted of files that anybody may have written. */
#include "../../native/fetch.h"
#include "../../native/fuse/imagefs.h"
#include "../../native/image.h"
#include "../../native/squash/squash.h"
#include "check.h"
#include "sample_tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PARTITION (4u << 20)

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("hot-test", MFD_CLOEXEC);

	if (fd < 0 || write_full(fd, bytes, len) < 0)
		abort();
	return fd;
}

/* A list with one piece in a file behind 5 other bytes, read back. */
static int read_one(struct hot_piece piece, struct hot_list *list)
{
	char file[5 + HOT_LIST_HEADER + sizeof piece] = "front" HOT_LIST_MAGIC;
	const uint32_t numbers[2] = { HOT_LIST_VERSION, 1 };
	struct err err = { 0 };
	int rc, fd;

	memcpy(file + 5 + 8, numbers, sizeof numbers);
	memcpy(file + 5 + HOT_LIST_HEADER, &piece, sizeof piece);
	fd = file_of(file, sizeof file);
	rc = hot_list_read(list, fd, 5, sizeof file - 5, PARTITION, &err);
	close(fd);
	return rc;
}

static bool accepted(uint64_t position, uint32_t stored, uint32_t kind)
{
	struct hot_list list;
	int rc = read_one((struct hot_piece) { position, stored, kind }, &list);

	hot_list_free(&list);
	return rc == 0;
}

static void checks_pieces(void)
{
	struct hot_list list;

	CHECK("a list is read back", read_one((struct hot_piece) { 96, 1u << 24 | 4096, HOT_PIECE_DATA }, &list) == 0 && list.count == 1
		&& list.pieces[0].position == 96 && hot_piece_length(&list.pieces[0]) == 4096);
	hot_list_free(&list);
	CHECK("a piece may end where the partition does", accepted(PARTITION - 100, 100, HOT_PIECE_PLAIN));
	CHECK("not behind it", !accepted(PARTITION - 100, 101, HOT_PIECE_PLAIN));
	CHECK("nor far behind it", !accepted(UINT64_MAX - 50, 100, HOT_PIECE_PLAIN) && !accepted(UINT64_MAX, UINT32_MAX, HOT_PIECE_DATA));
	CHECK("a block has a length", !accepted(96, 0, HOT_PIECE_DATA) && !accepted(96, 1u << 24, HOT_PIECE_DATA));
	CHECK("and not more than SquashFS permits", accepted(96, 1u << 20, HOT_PIECE_DATA) && !accepted(96, (1u << 20) + 1, HOT_PIECE_DATA)
		&& !accepted(96, 1u << 25, HOT_PIECE_DATA) && accepted(96, 8194, HOT_PIECE_META) && !accepted(96, 8195, HOT_PIECE_META));
	CHECK("other kinds are not known", !accepted(96, 10, 3) && !accepted(96, 10, UINT32_MAX));
}

static int read_list(const char *magic, uint32_t version, uint32_t count, size_t pieces, size_t extra)
{
	size_t len = HOT_LIST_HEADER + pieces * sizeof(struct hot_piece) + extra;
	char *file = calloc(1, len);
	const uint32_t numbers[2] = { version, count };
	struct hot_list list;
	struct err err = { 0 };
	int rc, fd;

	memcpy(file, magic, 8);
	memcpy(file + 8, numbers, sizeof numbers);
	for (size_t i = 0; i < pieces; i++)
		memcpy(file + HOT_LIST_HEADER + i * sizeof(struct hot_piece), &(struct hot_piece) { i, 1, HOT_PIECE_PLAIN }, sizeof(struct hot_piece));
	fd = file_of(file, len);
	free(file);
	rc = hot_list_read(&list, fd, 0, len, PARTITION, &err);
	CHECK("what is refused is explained", rc == 0 || (err.errnum != 0 && err.detail[0] != '\0' && list.pieces == NULL));
	hot_list_free(&list);
	close(fd);
	return rc;
}

static void checks_headers(void)
{
	struct hot_list list;
	struct err err = { 0 };
	int fd = file_of("short", 5);

	CHECK("an empty list is one", read_list(HOT_LIST_MAGIC, 1, 0, 0, 0) == 0);
	CHECK("several pieces are", read_list(HOT_LIST_MAGIC, 1, 3, 3, 0) == 0);
	CHECK("as many as there may be", read_list(HOT_LIST_MAGIC, 1, HOT_PIECES_MAX, HOT_PIECES_MAX, 0) == 0);
	CHECK("one more is too many", read_list(HOT_LIST_MAGIC, 1, HOT_PIECES_MAX + 1, HOT_PIECES_MAX + 1, 0) == -EUCLEAN);
	CHECK("another magic is something else", read_list("tsruncol", 1, 0, 0, 0) == -EUCLEAN);
	CHECK("another version is not understood", read_list(HOT_LIST_MAGIC, 3, 0, 0, 0) == -EUCLEAN && read_list(HOT_LIST_MAGIC, 0, 0, 0, 0) == -EUCLEAN);
	CHECK("from version 2 on asks may follow the pieces", read_list(HOT_LIST_MAGIC, 2, 2, 2, 7) == 0 && read_list(HOT_LIST_MAGIC, 2, 4, 3, 7) == -EUCLEAN);
	CHECK("a count that is not the size's is damage",
		read_list(HOT_LIST_MAGIC, 1, 4, 3, 0) == -EUCLEAN && read_list(HOT_LIST_MAGIC, 1, UINT32_MAX, 3, 0) == -EUCLEAN && read_list(HOT_LIST_MAGIC, 1, 2, 2, 7) == -EUCLEAN);
	CHECK("a list may not be larger than any", hot_list_read(&list, fd, 0, UINT64_MAX, PARTITION, &err) == -EUCLEAN);
	CHECK("nor lie behind the end of the file", hot_list_read(&list, fd, 1u << 30, 64, PARTITION, &err) == -EUCLEAN
		&& hot_list_read(&list, fd, UINT64_MAX - 8, 64, PARTITION, &err) == -EUCLEAN);
	close(fd);
}

static void refuses_repetition(void)
{
	struct {
		char magic[8];
		uint32_t numbers[2];
		struct hot_piece pieces[5];
	} file = { HOT_LIST_MAGIC, { 1, 5 }, { { 0 } } };
	struct hot_list list;
	struct err err = { 0 };
	int fd;

	for (unsigned i = 0; i < 5; i++)
		file.pieces[i] = (struct hot_piece) { i, 1u << 20, HOT_PIECE_DATA };
	fd = file_of(&file, sizeof file);
	CHECK("more bytes than the partition has are not wanted", hot_list_read(&list, fd, 0, sizeof file, PARTITION, &err) == -EUCLEAN);
	close(fd);
}

/* --- asks, made of a directory by the process that fetches; who opens what is told by the kernel --- */

struct asks {
	char bytes[2048];
	size_t size;
};

static void add_ask(struct asks *asks, enum hot_touch_kind kind, const char *path, uint64_t offset, uint32_t length)
{
	const struct hot_ask ask = { .offset = offset, .length = length, .kind = (uint16_t)kind, .path_len = (uint16_t)strlen(path) };

	memcpy(asks->bytes + asks->size, &ask, sizeof ask);
	memcpy(asks->bytes + asks->size + sizeof ask, path, ask.path_len);
	asks->size += sizeof ask + ask.path_len;
}

static char top[] = "/tmp/tsrun-hot-test-XXXXXX";

static const char *below(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", top, name);
	return path;
}

static void make_file(const char *name)
{
	int fd = open(below(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || write_full(fd, "content", 7) < 0)
		abort();
	close(fd);
}

static pid_t start_fetcher(int *fetcher)
{
	struct imagefs_shared *shared = imagefs_shared_new(1);
	int pair[2], mount = open(below("image"), O_PATH | O_DIRECTORY | O_CLOEXEC);
	pid_t parent = getpid(), pid;

	if (shared == NULL || mount < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || (pid = fork()) < 0)
		abort();
	if (pid == 0)
		fetching_main(parent, shared, mount, pair[0]);
	close(pair[0]);
	close(mount);
	imagefs_shared_free(shared);
	*fetcher = pair[1];
	return pid;
}

static void end_fetcher(pid_t pid, int fetcher)
{
	int status = -1;

	close(fetcher);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		abort();
}

/* How often something in the directory `watched` is opened meanwhile. */
static unsigned opens(const struct asks *asks, size_t size, const char *watched, uint64_t limit, bool unused)
{
	const struct hot_list list = { .asks = asks->bytes, .asks_size = size };
	const _Atomic bool is_unused = unused;
	char events[4096];
	int notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), fetcher;
	unsigned count = 0;
	ssize_t got;
	pid_t pid = start_fetcher(&fetcher);

	if (notify < 0 || inotify_add_watch(notify, below(watched), IN_OPEN) < 0)
		abort();
	hot_list_ask(&list, fetcher, limit, &is_unused);
	end_fetcher(pid, fetcher);
	while ((got = read(notify, events, sizeof events)) > 0)
		for (ssize_t at = 0; at < got; at += (ssize_t)(sizeof(struct inotify_event) + ((struct inotify_event *)(void *)(events + at))->len))
			count++;
	close(notify);
	return count;
}

static void makes_asks(void)
{
	static const char *const made[] = { "image/in/one", "image/in/two", "image/in/link", "image/way", "image/in", "image", "outside/secret", "outside", "" };
	struct asks asks = { .size = 0 }, hostile = { .size = 0 };

	if (mkdtemp(top) == NULL || mkdir(below("image"), 0700) < 0 || mkdir(below("image/in"), 0700) < 0 || mkdir(below("outside"), 0700) < 0)
		abort();
	make_file("image/in/one");
	make_file("image/in/two");
	make_file("outside/secret");
	if (symlink("../../outside/secret", below("image/in/link")) < 0 || symlink("../outside", below("image/way")) < 0)
		abort();

	add_ask(&asks, HOT_DATA, "in/one", 0, 4096);
	add_ask(&asks, HOT_DATA, "", 4096, 4096);
	add_ask(&asks, HOT_ENTRIES, "in", 0, 0);
	add_ask(&asks, HOT_INODE, "in/two", 0, 0);
	add_ask(&asks, HOT_DATA, "in/two", 0, 4096);
	CHECK("each file that is read is opened once, and each directory that is listed", opens(&asks, asks.size, "image/in", 1u << 20, false) == 3);
	CHECK("no more is read than may be", opens(&asks, asks.size, "image/in", 4096, false) == 1);
	CHECK("nor when nobody uses the image", opens(&asks, asks.size, "image/in", 1u << 20, true) == 0);
	CHECK("what is cut off ends the list", opens(&asks, asks.size - 1, "image/in", 1u << 20, false) == 2 && opens(&asks, asks.size - 20, "image/in", 1u << 20, false) == 2
		&& opens(&asks, 15, "image/in", 1u << 20, false) == 0);

	add_ask(&hostile, HOT_DATA, "in/link", 0, 4096);
	add_ask(&hostile, HOT_DATA, "way/secret", 0, 4096);
	add_ask(&hostile, HOT_DATA, "../outside/secret", 0, 4096);
	add_ask(&hostile, HOT_DATA, below("outside/secret"), 0, 4096);
	add_ask(&hostile, HOT_ENTRIES, "way", 0, 0);
	add_ask(&hostile, HOT_INODE, "way/secret", 0, 0);
	add_ask(&hostile, HOT_DATA, "", UINT64_MAX - 5, 4096);
	add_ask(&hostile, HOT_DATA, "in/one", UINT64_MAX - 5, UINT32_MAX);
	CHECK("nothing outside is opened", opens(&hostile, hostile.size, "outside", 1u << 20, false) == 0);
	CHECK("after paths that lead there the list goes on", opens(&hostile, hostile.size, "image/in", 1u << 20, false) == 1);
	hostile.size = 0;
	add_ask(&hostile, HOT_NAMES, "in", 0, 0);
	add_ask(&hostile, HOT_DATA, "in/one", 0, 4096);
	CHECK("a kind that is not known ends it", opens(&hostile, hostile.size, "image/in", 1u << 20, false) == 0);
	for (size_t i = 0; i < ARRAY_LEN(made); i++)
		remove(below(made[i]));
}

/* --- the list of an image --- */

#define BLOCK (16u << 10)

/* What is written of whole reads of these files, each of a name with one letter, in this order; at most 8 kB. */
static size_t list_of(const char *image, const char *files, struct hot_list *list)
{
	int in = file_of("", 0), out = file_of("", 0), status = -1;
	char line[64];
	struct err err = { 0 };
	struct stat st;
	pid_t pid;

	for (; *files != '\0'; files++) {
		int len = snprintf(line, sizeof line, "%d%c/%c%c0%c%u%c", HOT_DATA, 0, *files, 0, 0, 4 * BLOCK, 0);

		if (write_full(in, line, (size_t)len) < 0)
			abort();
	}
	pid = fork();
	if (pid == 0) {
		struct squash_cache *cache = squash_cache_new(1 << 20);
		struct squash *sq;

		if (lseek(in, 0, SEEK_SET) < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || squash_open(&sq, cache, open(image, O_RDONLY | O_CLOEXEC), 0, 0, &err) < 0)
			_exit(1);
		status = image_hot(sq, &err);
		_exit(status < 0 || fflush(stdout) != 0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0 || fstat(out, &st) < 0 || hot_list_read(list, out, 0, (uint64_t)st.st_size, PARTITION, &err) < 0)
		abort();
	close(in);
	close(out);
	return list->asks_size;
}

static void keeps_the_order(void)
{
	char place[] = "/tmp/tsrun-hot-order-XXXXXX", image[128];
	const char *const orders[] = { "abc", "cab" };

	if (mkdtemp(place) == NULL)
		abort();
	for (const char *name = "abc"; *name != '\0'; name++)
		sample_file(sample_text("%s/%c", place, *name), (unsigned)*name, 4 * BLOCK, 0644);
	snprintf(image, sizeof image, "%s.image", place);
	sample_image(place, image, "-b 16K");
	for (unsigned i = 0; i < ARRAY_LEN(orders); i++) {
		struct hot_list list;
		uint64_t first[3] = { 0 };
		unsigned blocks = 0, asks = 0;

		for (size_t at = 0, size = list_of(image, orders[i], &list); at < size && asks < 3; at += sizeof(struct hot_ask) + 1, asks++)
			CHECK("what was asked for first is asked for first", list.asks[at + sizeof(struct hot_ask)] == orders[i][asks]);
		for (uint32_t k = 0; k < list.count; k++)
			if (list.pieces[k].kind == HOT_PIECE_DATA && blocks++ % 4 == 0 && blocks < 12)
				first[blocks / 4] = list.pieces[k].position;
		CHECK("all of it, once", asks == 3 && blocks == 12);
		/* mksquashfs packs them by name. */
		for (unsigned k = 0; k < 2; k++)
			CHECK("and its blocks come first", (first[k] < first[k + 1]) == (orders[i][k] < orders[i][k + 1]));
		hot_list_free(&list);
	}
	sample_run("rm -rf %s %s", place, image);
}

static void records(void)
{
	char image[HOT_SUPERBLOCK] = "hsqs of one", other[HOT_SUPERBLOCK] = "hsqs of another";
	int image_fd = file_of(image, sizeof image), other_fd = file_of(other, sizeof other), fd = file_of("", 0), junk = file_of("junk", 4);
	struct hot_record *record = NULL, *more = NULL;
	struct hot_touch touches[2];
	struct err err = { 0 };
	struct stat st;

	fcntl(fd, F_SETFL, O_APPEND);
	if (!CHECK("a record begins in an empty file", hot_record_new(&record, fd, image_fd, 0, &err) == 0))
		return;
	hot_record_touch(record, HOT_DATA, 7, 4096, 100);
	hot_record_touch(record, HOT_DATA, 7, 4096, 100);
	hot_record_touch(record, HOT_INODE, 8, 0, 0);
	hot_record_touch(NULL, HOT_INODE, 8, 0, 0);
	CHECK("touches follow its head, the same one once", fstat(fd, &st) == 0 && st.st_size == 16 + HOT_SUPERBLOCK + 2 * (off_t)sizeof(struct hot_touch));
	CHECK("they are what was told", pread(fd, touches, sizeof touches, 16 + HOT_SUPERBLOCK) == sizeof touches && touches[0].kind == HOT_DATA
		&& touches[0].inode == 7 && touches[0].offset == 4096 && touches[0].length == 100 && touches[1].kind == HOT_INODE && touches[1].inode == 8);
	CHECK("it is gone on with", hot_record_new(&more, fd, image_fd, 0, &err) == 0);
	hot_record_touch(more, HOT_NAMES, 9, 0, 0);
	CHECK("behind what is there", fstat(fd, &st) == 0 && st.st_size == 16 + HOT_SUPERBLOCK + 3 * (off_t)sizeof(struct hot_touch));
	free(more);
	free(record);
	CHECK("not with another image", hot_record_new(&record, fd, other_fd, 0, &err) == -EEXIST && strstr(err.detail, "something else") != NULL);
	CHECK("not in another file", hot_record_new(&record, junk, image_fd, 0, &err) == -EEXIST);
	CHECK("nor without an image", hot_record_new(&record, fd, junk, 0, &err) == -EIO);
	close(image_fd);
	close(other_fd);
	close(fd);
	close(junk);
}

int main(void)
{
	checks_pieces();
	checks_headers();
	refuses_repetition();
	makes_asks();
	keeps_the_order();
	records();
	return check_end();
}
