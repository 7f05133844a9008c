/* Directories: a listing is decoded whole, checked, and kept in the cache sorted by name. */
#include "internal.h"

#include <inttypes.h>

/* The listing of a directory of several million names; more is an attack on memory. */
#define LISTING_MAX (256u << 20)

struct record {
	uint64_t ref;
	uint32_t ino;
	uint32_t name_at;
	uint16_t name_len;
	uint8_t type;
};

struct listing {
	uint32_t count;
	uint32_t names_at; /* offset of the names, behind the records */
	struct record records[];
};

/* The listing while it grows: records and names apart, put together at the end. */
struct draft {
	struct record *records;
	char *names;
	uint32_t count;
	size_t record_cap, name_len, name_cap;
};

static void draft_free(struct draft *draft)
{
	free(draft->records);
	free(draft->names);
}

static bool grow(void **at, size_t *cap, size_t need, size_t unit)
{
	size_t wanted = *cap;
	void *bigger;

	if (need <= *cap)
		return true;
	if (wanted == 0)
		wanted = 1024 / unit;
	while (wanted < need)
		wanted *= 2;
	bigger = realloc(*at, wanted * unit);
	if (bigger == NULL)
		return false;
	*at = bigger;
	*cap = wanted;
	return true;
}

static int check_name(const char *name, size_t len, struct err *err)
{
	if (memchr(name, '/', len) != NULL || memchr(name, 0, len) != NULL)
		return squash_corrupt(err, "a directory has a name with a slash or NUL in it: '%.*s'", (int)len, name);
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return squash_corrupt(err, "a directory lists '%.*s' as a name", (int)len, name);
	return 0;
}

static int read_record(struct meta_cursor *at, uint64_t *left, uint32_t start, uint32_t base_ino, struct draft *draft, struct err *err)
{
	uint8_t raw[8];
	size_t len;
	uint32_t type;
	int rc;

	if (*left < sizeof raw)
		return squash_corrupt(err, "a directory's listing ends within an entry");
	rc = meta_read(at, raw, sizeof raw, err);
	if (rc < 0)
		return rc;
	len = (size_t)get16(raw + 6) + 1;
	type = get16(raw + 4);
	if (len > SQUASH_NAME_MAX || *left - sizeof raw < len)
		return squash_corrupt(err, "a directory has a name of %zu bytes", len);
	if (type < SQUASH_DIR || type > SQUASH_LSOCKET)
		return squash_corrupt(err, "a directory entry has the unknown type %" PRIu32, type);
	if (!grow((void **)&draft->records, &draft->record_cap, (size_t)draft->count + 1, sizeof *draft->records)
		|| !grow((void **)&draft->names, &draft->name_cap, draft->name_len + len, 1))
		return fail(err, ENOMEM, "read the image", "out of memory for a directory of %" PRIu32 " names", draft->count);
	rc = meta_read(at, draft->names + draft->name_len, len, err);
	if (rc == 0)
		rc = check_name(draft->names + draft->name_len, len, err);
	if (rc < 0)
		return rc;
	draft->records[draft->count++] = (struct record) {
		.ref = (uint64_t)start << 16 | get16(raw),
		.ino = base_ino + (uint32_t)(int16_t)get16(raw + 2),
		.name_at = (uint32_t)draft->name_len,
		.name_len = (uint16_t)len,
		.type = (uint8_t)(type > 7 ? type - 7 : type),
	};
	draft->name_len += len;
	*left -= sizeof raw + len;
	return 0;
}

static int read_listing(struct squash *sq, const struct squash_inode *dir, struct draft *draft, struct err *err)
{
	struct meta_cursor cleanup_meta at = { 0 };
	/* The stored size counts three bytes for "." and ".." that are not there. */
	uint64_t left = dir->size > 3 ? dir->size - 3 : 0;
	uint64_t pos;

	if (left > LISTING_MAX)
		return squash_corrupt(err, "a directory's listing claims %" PRIu64 " bytes", left);
	if (add_overflows(sq->directory_table, dir->start, &pos) || (left > 0 && pos >= sq->bytes))
		return squash_corrupt(err, "a directory's listing is outside of the directory table");
	meta_start(&at, sq, pos, sq->bytes, dir->tail_offset);
	while (left > 0) {
		uint8_t raw[12];
		uint32_t count;
		int rc;

		if (left < sizeof raw)
			return squash_corrupt(err, "a directory's listing ends within a header");
		rc = meta_read(&at, raw, sizeof raw, err);
		if (rc < 0)
			return rc;
		left -= sizeof raw;
		count = get32(raw);
		if (count >= 256)
			return squash_corrupt(err, "a directory has a run of %" PRIu32 " names, 256 is the most", count);
		for (uint32_t i = 0; i <= count; i++) {
			rc = read_record(&at, &left, get32(raw + 4), get32(raw + 8), draft, err);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_records(const void *a, const void *b, void *names)
{
	const struct record *x = a, *y = b;

	return compare_names((char *)names + x->name_at, x->name_len, (char *)names + y->name_at, y->name_len);
}

/* The format asks for sorted names; not every writer keeps to it. */
static int sort_listing(struct draft *draft, struct err *err)
{
	bool sorted = true;

	for (uint32_t i = 1; i < draft->count && sorted; i++)
		sorted = compare_records(&draft->records[i - 1], &draft->records[i], draft->names) < 0;
	if (sorted)
		return 0;
	qsort_r(draft->records, draft->count, sizeof *draft->records, compare_records, draft->names);
	for (uint32_t i = 1; i < draft->count; i++) {
		const struct record *r = &draft->records[i];

		if (compare_records(r - 1, r, draft->names) == 0)
			return squash_corrupt(err, "a directory lists '%.*s' twice", (int)r->name_len, draft->names + r->name_at);
	}
	return 0;
}

struct load {
	struct squash *sq;
	const struct squash_inode *dir;
};

static int load_dir(void *ctx, struct squash_block *block, struct err *err)
{
	const struct load *load = ctx;
	struct draft __attribute__((cleanup(draft_free))) draft = { 0 };
	struct listing *listing;
	size_t records;
	int rc = read_listing(load->sq, load->dir, &draft, err);

	if (rc == 0)
		rc = sort_listing(&draft, err);
	if (rc < 0)
		return rc;
	records = sizeof *listing + draft.count * sizeof *draft.records;
	block->size = records + draft.name_len;
	block->data = malloc(block->size);
	if (block->data == NULL)
		return fail(err, ENOMEM, "read the image", "out of memory for a directory of %" PRIu32 " names", draft.count);
	listing = (struct listing *)(void *)block->data;
	listing->count = draft.count;
	listing->names_at = (uint32_t)records;
	if (draft.count > 0) {
		memcpy(listing->records, draft.records, draft.count * sizeof *draft.records);
		memcpy(block->data + records, draft.names, draft.name_len);
	}
	return 0;
}

static int get_listing(struct squash *sq, const struct squash_inode *dir, struct squash_block **block, struct err *err)
{
	struct squash_key key = { .pos = dir->ref, .kind = KIND_DIR, .image = sq->id };
	struct load load = { sq, dir };

	if (!S_ISDIR(dir->mode))
		return fail(err, ENOTDIR, "read the image", "inode %" PRIu32 " is not a directory", dir->ino);
	return cache_get(sq->cache, &key, load_dir, &load, block, err);
}

static struct squash_entry entry_at(const struct listing *listing, uint32_t index)
{
	static const uint32_t types[] = { 0, S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK };
	const struct record *r = &listing->records[index];

	return (struct squash_entry) {
		.ref = r->ref,
		.ino = r->ino,
		.type = types[r->type],
		.name = (const char *)listing + listing->names_at + r->name_at,
		.name_len = r->name_len,
	};
}

struct squash_dir {
	struct squash *sq;
	struct squash_block *block;
};

int squash_dir_open(struct squash *sq, const struct squash_inode *inode, struct squash_dir **out, struct err *err)
{
	struct squash_dir *dir = malloc(sizeof *dir);
	int rc;

	if (dir == NULL)
		return fail(err, ENOMEM, "read the image", "out of memory");
	dir->sq = sq;
	rc = get_listing(sq, inode, &dir->block, err);
	if (rc < 0) {
		free(dir);
		return rc;
	}
	*out = dir;
	return 0;
}

void squash_dir_close(struct squash_dir *dir)
{
	if (dir == NULL)
		return;
	cache_put(dir->sq->cache, dir->block);
	free(dir);
}

static const struct listing *listing_of(const struct squash_dir *dir)
{
	return (const struct listing *)(const void *)dir->block->data;
}

uint32_t squash_dir_count(const struct squash_dir *dir)
{
	return listing_of(dir)->count;
}

struct squash_entry squash_dir_at(const struct squash_dir *dir, uint32_t index)
{
	return entry_at(listing_of(dir), index);
}

int squash_lookup(struct squash *sq, const struct squash_inode *dir, const char *name, size_t len, uint64_t *ref, struct err *err)
{
	struct squash_block *block;
	const struct listing *listing;
	uint32_t low = 0, high;
	int rc = get_listing(sq, dir, &block, err);

	if (rc < 0)
		return rc;
	listing = (const struct listing *)(const void *)block->data;
	rc = -ENOENT;
	for (high = listing->count; low < high && rc != 0;) {
		uint32_t middle = low + (high - low) / 2;
		struct squash_entry entry = entry_at(listing, middle);
		int order = compare_names(name, len, entry.name, entry.name_len);

		if (order == 0) {
			*ref = entry.ref;
			rc = 0;
		} else if (order < 0) {
			high = middle;
		} else {
			low = middle + 1;
		}
	}
	cache_put(sq->cache, block);
	return rc;
}
