/* From what was touched to a hot list: the touches are made again, on the image the list is for, and the blocks that are read for them written down. */
#include "hot.h"
#include "image.h"
#include "squash/squash.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define SLOTS (4 * HOT_PIECES_MAX)

struct finding {
	struct squash *sq;
	uint32_t count;
	struct hot_piece pieces[HOT_PIECES_MAX];
	uint32_t slots[SLOTS]; /* open addressing over position: piece + 1; 0 is free */
	char asks[HOT_ASKS_MAX];
	size_t asks_size, last_ask; /* where the last one begins */
	char read[PATH_MAX];        /* the file it reads; empty: it is no such ask */
};

/* What does not fit any more would be wanted last. */
static void add(struct finding *finding, uint64_t position, uint32_t stored, enum hot_piece_kind kind)
{
	uint64_t slot = position * 0x9e3779b97f4a7c15u >> 46;

	_Static_assert(SLOTS == 1u << 18, "the hash has as many bits");
	for (; finding->slots[slot] != 0; slot = (slot + 1) % SLOTS)
		if (finding->pieces[finding->slots[slot] - 1].position == position)
			return;
	if (finding->count == HOT_PIECES_MAX)
		return;
	finding->pieces[finding->count] = (struct hot_piece) { .position = position, .stored = stored, .kind = (uint32_t)kind };
	finding->slots[slot] = ++finding->count;
}

static void loaded(void *ctx, uint64_t pos, uint32_t stored, bool is_meta)
{
	add(ctx, pos, stored, is_meta ? HOT_PIECE_META : HOT_PIECE_DATA);
}

/* --- one touch --- */

static int touch_names(struct squash *sq, const struct squash_inode *inode, bool entries, struct err *err)
{
	struct squash_dir *dir;
	struct squash_inode found;
	int rc = squash_dir_open(sq, inode, &dir, err);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; rc == 0 && entries && i < squash_dir_count(dir); i++)
		rc = squash_stat(sq, squash_dir_at(dir, i).ref, &found, err);
	squash_dir_close(dir);
	return rc;
}

static int touch_data(struct squash *sq, const struct squash_inode *file, uint64_t offset, uint64_t length, struct err *err)
{
	struct squash_pieces pieces;

	for (uint64_t done = 0; done < length; done += SQUASH_READ_MAX) {
		int rc = squash_read(sq, file, offset + done, length - done < SQUASH_READ_MAX ? (size_t)(length - done) : SQUASH_READ_MAX, &pieces, err);

		if (rc < 0)
			return rc;
		squash_release(sq, &pieces);
	}
	return 0;
}

static int touch(struct squash *sq, const char *path, uint64_t kind, uint64_t offset, uint64_t length, struct err *err)
{
	char text[SQUASH_SYMLINK_MAX + 1];
	struct squash_inode inode;
	ssize_t rc = squash_resolve(sq, path, false, &inode, err);

	if (rc < 0)
		return (int)rc;
	if (S_ISLNK(inode.mode))
		rc = squash_readlink(sq, &inode, text, sizeof text, err);
	else if (S_ISDIR(inode.mode) && (kind == HOT_NAMES || kind == HOT_ENTRIES))
		rc = touch_names(sq, &inode, kind == HOT_ENTRIES, err);
	else if (S_ISREG(inode.mode) && kind == HOT_DATA && offset < inode.size)
		rc = touch_data(sq, &inode, offset, length < inode.size - offset ? length : inode.size - offset, err);
	return rc < 0 ? (int)rc : 0;
}

/* --- the asks --- */

/* More of the same file, right behind what was asked for last. */
static bool goes_on(struct finding *finding, uint64_t offset, uint64_t length)
{
	struct hot_ask last;

	memcpy(&last, finding->asks + finding->last_ask, sizeof last);
	if (last.offset + last.length != offset || last.length + length > UINT32_MAX)
		return false;
	last.length += (uint32_t)length;
	memcpy(finding->asks + finding->last_ask, &last, sizeof last);
	return true;
}

/* What does not fit any more would be asked for last. */
static void add_ask(struct finding *finding, const char *path, uint64_t kind, uint64_t offset, uint64_t length)
{
	const char *name = path + strspn(path, "/");
	size_t name_len = strlen(name);
	bool same = kind == HOT_DATA && name_len > 0 && strcmp(name, finding->read) == 0;
	struct hot_ask ask = { .offset = offset, .length = (uint32_t)length, .kind = (uint16_t)kind, .path_len = same ? 0 : (uint16_t)name_len };

	if ((kind != HOT_INODE && kind != HOT_ENTRIES && kind != HOT_DATA) || name_len == 0 || name_len >= PATH_MAX || length > UINT32_MAX)
		return;
	if ((same && goes_on(finding, offset, length)) || sizeof ask + ask.path_len > sizeof finding->asks - finding->asks_size)
		return;
	finding->last_ask = finding->asks_size;
	memcpy(finding->asks + finding->asks_size, &ask, sizeof ask);
	memcpy(finding->asks + finding->asks_size + sizeof ask, name, ask.path_len);
	finding->asks_size += sizeof ask + ask.path_len;
	snprintf(finding->read, sizeof finding->read, "%s", kind == HOT_DATA ? name : "");
}

/* --- all of them --- */

struct fields {
	char *text[4]; /* kind, path, offset, length */
	size_t room[4];
};

static void fields_free(struct fields *fields)
{
	for (size_t i = 0; i < ARRAY_LEN(fields->text); i++)
		free(fields->text[i]);
}

static bool next_fields(struct fields *fields)
{
	for (size_t i = 0; i < ARRAY_LEN(fields->text); i++)
		if (getdelim(&fields->text[i], &fields->room[i], '\0', stdin) < 0)
			return false;
	return true;
}

static int write_list(const struct finding *finding, struct err *err)
{
	const uint32_t numbers[2] = { HOT_LIST_VERSION, finding->count };

	fwrite(HOT_LIST_MAGIC, 1, strlen(HOT_LIST_MAGIC), stdout);
	fwrite(numbers, sizeof numbers, 1, stdout);
	if (fwrite(finding->pieces, sizeof finding->pieces[0], finding->count, stdout) != finding->count
		|| fwrite(finding->asks, 1, finding->asks_size, stdout) != finding->asks_size)
		return fail(err, errno, "write the hot list", "stdout");
	return 0;
}

int image_hot(struct squash *sq, struct err *err)
{
	struct fields __attribute__((cleanup(fields_free))) fields = { .text = { NULL } };
	struct finding *finding cleanup_free = calloc(1, sizeof *finding);
	struct squash_area areas[SQUASH_START_AREAS];
	int rc = 0;

	if (finding == NULL)
		return fail(err, ENOMEM, "find the hot parts", "out of memory");
	finding->sq = sq;
	for (unsigned i = 0, count = squash_start_areas(sq, areas); i < count; i++)
		add(finding, areas[i].position, areas[i].length, HOT_PIECE_PLAIN);
	squash_trace(sq, loaded, finding);
	while (rc == 0 && next_fields(&fields)) {
		uint64_t kind = strtoull(fields.text[0], NULL, 10), offset = strtoull(fields.text[2], NULL, 10), length = strtoull(fields.text[3], NULL, 10);

		rc = touch(sq, fields.text[1], kind, offset, length, err);
		add_ask(finding, fields.text[1], kind, offset, length);
	}
	return rc < 0 ? rc : write_list(finding, err);
}
