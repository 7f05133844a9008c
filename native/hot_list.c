/* Hot lists: reading them, and having what they name ready before it is asked for. */
#include "fetch.h"
#include "squash/squash.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define READING "read the hot list"
#define BLOCK_MAX (1u << 20)     /* of data in SquashFS */
#define DATA_RAW (1u << 24)
#define META_MAX (2u + 8192u)
#define GAP_MAX (128u << 10)     /* reading over it costs less than another request */
#define ADVICE_MAX (4u << 20)    /* in one call */
#define THREADS_MAX 4u
#define STACK_BYTES (256u << 10)

uint32_t hot_piece_length(const struct hot_piece *piece)
{
	return piece->kind == HOT_PIECE_DATA ? piece->stored & (DATA_RAW - 1) : piece->stored;
}

/* --- reading --- */

static bool piece_ok(const struct hot_piece *piece, uint64_t partition)
{
	uint32_t length = hot_piece_length(piece);
	uint64_t end;

	if (piece->kind > HOT_PIECE_DATA || (piece->kind == HOT_PIECE_DATA && piece->stored >= DATA_RAW << 1))
		return false;
	if (length == 0 || length > (piece->kind == HOT_PIECE_META ? META_MAX : BLOCK_MAX))
		return false;
	return !add_overflows(piece->position, length, &end) && end <= partition;
}

static int read_bytes(int fd, void *to, size_t len, uint64_t offset)
{
	for (char *at = to; len > 0;) {
		ssize_t got = RETRY(pread(fd, at, len, (off_t)offset));

		if (got <= 0)
			return got < 0 ? -errno : -EUCLEAN;
		at += got;
		offset += (uint64_t)got;
		len -= (size_t)got;
	}
	return 0;
}

static int check(const struct hot_list *list, uint64_t partition, struct err *err)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < list->count; i++) {
		if (!piece_ok(&list->pieces[i], partition))
			return fail(err, EUCLEAN, READING, "piece %" PRIu32 " is not one of the image", i);
		sum += hot_piece_length(&list->pieces[i]);
	}
	/* Nobody wants the same thing twice. */
	return sum > partition ? fail(err, EUCLEAN, READING, "its pieces are larger than the image") : 0;
}

int hot_list_read(struct hot_list *list, int fd, uint64_t offset, uint64_t size, uint64_t partition, struct err *err)
{
	struct {
		char magic[8];
		uint32_t version, count;
	} header;
	uint64_t end, pieces;
	int rc;

	*list = (struct hot_list) { .pieces = NULL };
	if (size < HOT_LIST_HEADER || size > HOT_LIST_MAX || add_overflows(offset, size, &end) || end > INT64_MAX)
		return fail(err, EUCLEAN, READING, "it cannot have %" PRIu64 " bytes", size);
	rc = read_bytes(fd, &header, sizeof header, offset);
	if (rc < 0)
		return fail(err, -rc, READING, "reading %zu bytes at %" PRIu64, sizeof header, offset);
	pieces = header.count * sizeof(struct hot_piece);
	if (memcmp(header.magic, HOT_LIST_MAGIC, sizeof header.magic) != 0 || header.version == 0 || header.version > HOT_LIST_VERSION
		|| header.count > HOT_PIECES_MAX || size < HOT_LIST_HEADER + pieces || (header.version == 1 && size != HOT_LIST_HEADER + pieces))
		return fail(err, EUCLEAN, READING, "its header is not that of a list of version 1 to %u", HOT_LIST_VERSION);
	list->pieces = malloc(size);
	if (list->pieces == NULL)
		return fail(err, ENOMEM, READING, "out of memory");
	list->count = header.count;
	list->asks = (const char *)list->pieces + pieces;
	list->asks_size = (size_t)(size - HOT_LIST_HEADER - pieces);
	rc = read_bytes(fd, list->pieces, (size_t)size - HOT_LIST_HEADER, offset + HOT_LIST_HEADER);
	rc = rc < 0 ? fail(err, -rc, READING, "reading its pieces") : check(list, partition, err);
	if (rc < 0)
		hot_list_free(list);
	return rc;
}

void hot_list_free(struct hot_list *list)
{
	free(list->pieces);
	*list = (struct hot_list) { .pieces = NULL };
}

/* --- the storage --- */

/* Whoever opens the image and looks for the first file needs metadata before any data. */
static int compare_pieces(const void *a, const void *b)
{
	const struct hot_piece *one = a, *other = b;
	bool data = one->kind == HOT_PIECE_DATA, other_data = other->kind == HOT_PIECE_DATA;

	if (data != other_data)
		return data - other_data;
	return (one->position > other->position) - (one->position < other->position);
}

/* Returns how many bytes that is. */
static uint64_t advise(int fd, uint64_t from, uint64_t to)
{
	for (uint64_t at = from; at < to; at += ADVICE_MAX)
		posix_fadvise(fd, (off_t)at, (off_t)(to - at < ADVICE_MAX ? to - at : ADVICE_MAX), POSIX_FADV_WILLNEED);
	return to - from;
}

void hot_list_advise(const struct hot_list *list, int fd, uint64_t offset, uint64_t limit)
{
	struct hot_piece *sorted cleanup_free = malloc(list->count * sizeof *sorted + 1);
	uint64_t from = 0, to = 0, sum = 0;

	if (sorted == NULL)
		return;
	memcpy(sorted, list->pieces, list->count * sizeof *sorted);
	qsort(sorted, list->count, sizeof *sorted, compare_pieces);
	for (uint32_t i = 0; i < list->count && sum < limit; i++) {
		uint64_t at = sorted[i].position, end = at + hot_piece_length(&sorted[i]);

		if (to > from && at >= from && at <= to + GAP_MAX) {
			to = end > to ? end : to;
			continue;
		}
		sum += advise(fd, offset + from, offset + to);
		from = at;
		to = end;
	}
	if (sum < limit)
		advise(fd, offset + from, offset + to);
}

/* --- the kernel --- */

static bool can_be_asked(uint32_t kind)
{
	return kind == HOT_INODE || kind == HOT_ENTRIES || kind == HOT_DATA;
}

void hot_list_ask(const struct hot_list *list, int fetcher, uint64_t limit, const _Atomic bool *unused)
{
	const char *at = list->asks, *end = at + list->asks_size;
	char path[PATH_MAX] = "";
	struct hot_ask ask;

	while (limit > 0 && (size_t)(end - at) >= sizeof ask && !atomic_load(unused)) {
		uint64_t length;

		memcpy(&ask, at, sizeof ask);
		at += sizeof ask;
		if (!can_be_asked(ask.kind) || ask.path_len > (size_t)(end - at) || ask.path_len >= sizeof path)
			return;
		if (ask.path_len > 0)
			snprintf(path, sizeof path, "%.*s", ask.path_len, at);
		at += ask.path_len;
		length = ask.kind != HOT_DATA ? 0 : ask.length < limit ? ask.length : limit;
		if (!fetch_ask(fetcher, 0, ask.kind, path, ask.offset, length))
			return;
		limit -= length;
	}
}

/* --- the cache --- */

struct loading {
	struct hot_list list;
	struct squash *squash;
	int fetcher;
	uint64_t limit; /* of what it is asked for */
	const _Atomic bool *unused;
	_Atomic uint32_t next;
	_Atomic uint32_t threads; /* that are still at it, this one too */
};

/* Beyond this, what is loaded now would push out what was loaded before it was used. */
static bool is_full(const struct loading *loading)
{
	struct squash_cache_use use = squash_cache_use(loading->squash);

	return use.bytes > use.limit / 4 * 3;
}

static void leave(struct loading *loading)
{
	if (atomic_fetch_sub(&loading->threads, 1) > 1)
		return;
	hot_list_free(&loading->list);
	free(loading);
}

static void *load(void *ctx)
{
	struct loading *loading = ctx;

	for (;;) {
		uint32_t index = atomic_fetch_add(&loading->next, 1);
		const struct hot_piece *piece = &loading->list.pieces[index];

		if (index >= loading->list.count || atomic_load(loading->unused) || is_full(loading))
			break;
		if (piece->kind != HOT_PIECE_PLAIN)
			squash_preload(loading->squash, piece->position, piece->stored, piece->kind == HOT_PIECE_META);
	}
	leave(loading);
	return NULL;
}

static void *ask(void *ctx)
{
	struct loading *loading = ctx;

	hot_list_ask(&loading->list, loading->fetcher, loading->limit, loading->unused);
	leave(loading);
	return NULL;
}

static void start(struct loading *loading, void *(*what)(void *))
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	atomic_fetch_add(&loading->threads, 1);
	if (pthread_create(&thread, &attr, what, loading) != 0)
		leave(loading);
	pthread_attr_destroy(&attr);
}

static unsigned thread_count(void)
{
	cpu_set_t cpus;
	unsigned count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;

	return count > THREADS_MAX ? THREADS_MAX : count;
}

void hot_list_load(struct hot_list *list, struct squash *squash, int fetcher, uint64_t limit, const _Atomic bool *unused)
{
	struct loading *loading = calloc(1, sizeof *loading);

	if (loading == NULL) {
		hot_list_free(list);
		return;
	}
	*loading = (struct loading) { .list = *list, .squash = squash, .fetcher = fetcher, .limit = limit, .unused = unused, .threads = 1 };
	*list = (struct hot_list) { .pieces = NULL };
	for (unsigned i = 0, threads = thread_count(); i < threads; i++)
		start(loading, load);
	if (fetcher >= 0)
		start(loading, ask);
	leave(loading);
}
