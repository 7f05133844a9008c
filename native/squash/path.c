/* Paths inside an image: following one as a process rooted there would, and walking a whole tree. */
#include "internal.h"

#include <inttypes.h>
#include <limits.h>

#define LINKS_MAX 40 /* as Linux */
#define PATH_LEN_MAX (2 * SQUASH_SYMLINK_MAX)

/* --- resolve --- */

struct way {
	struct squash *sq;
	struct squash_inode above[SQUASH_DEPTH_MAX]; /* the directories on the way, the root first */
	unsigned depth;
	unsigned links;
	char rest[PATH_LEN_MAX + 2]; /* what is still to go, NUL-terminated */
};

/* `rest` is empty or begins with a slash. */
static int put_before(struct way *way, const char *text, size_t len, const char *rest, struct err *err)
{
	size_t rest_len = strlen(rest);

	if (len + rest_len >= sizeof way->rest)
		return fail(err, ENAMETOOLONG, "follow a path in the image", "the path becomes longer than %d bytes", PATH_LEN_MAX);
	memmove(way->rest + len, rest, rest_len + 1);
	memcpy(way->rest, text, len);
	return 0;
}

static int follow_link(struct way *way, const struct squash_inode *link, const char *rest, struct err *err)
{
	char *text cleanup_free = malloc(SQUASH_SYMLINK_MAX + 1);
	ssize_t len;

	if (text == NULL)
		return fail(err, ENOMEM, "follow a path in the image", "out of memory");
	if (++way->links > LINKS_MAX)
		return fail(err, ELOOP, "follow a path in the image", "more than %d symbolic links", LINKS_MAX);
	len = squash_readlink(way->sq, link, text, SQUASH_SYMLINK_MAX + 1, err);
	if (len < 0)
		return (int)len;
	if (text[0] == '/')
		way->depth = 0;
	return put_before(way, text, (size_t)len, rest, err);
}

/* Goes one name on. Sets `done` when the inode of the whole path is in `inode`. */
static int take_step(struct way *way, bool follow, struct squash_inode *inode, bool *done, struct err *err)
{
	const struct squash_inode *here = &way->above[way->depth];
	size_t slashes = strspn(way->rest, "/");
	const char *name = way->rest + slashes;
	size_t len = strcspn(name, "/");
	const char *rest = name + len;
	bool last = rest[strspn(rest, "/")] == '\0';
	uint64_t ref;
	int rc;

	if (len == 0) {
		*inode = *here;
		*done = true;
		return 0;
	}
	if (len <= 2 && strncmp(name, "..", len) == 0) {
		if (len == 2 && way->depth > 0)
			way->depth--;
		memmove(way->rest, rest, strlen(rest) + 1);
		return 0;
	}
	rc = squash_lookup(way->sq, here, name, len, &ref, err);
	if (rc == 0)
		rc = squash_stat(way->sq, ref, inode, err);
	if (rc < 0)
		return rc;
	/* A slash behind the last name asks for a directory, so it follows too. */
	if (S_ISLNK(inode->mode) && (follow || !last || *rest == '/'))
		return follow_link(way, inode, rest, err);
	if (S_ISDIR(inode->mode)) {
		if (way->depth + 1 >= SQUASH_DEPTH_MAX)
			return fail(err, ENAMETOOLONG, "follow a path in the image", "more than %d directories deep", SQUASH_DEPTH_MAX);
		way->above[++way->depth] = *inode;
		memmove(way->rest, rest, strlen(rest) + 1);
		return 0;
	}
	if (*rest == '/')
		return fail(err, ENOTDIR, "follow a path in the image", "'%.*s' is not a directory", (int)len, name);
	*done = true;
	return 0;
}

int squash_resolve(struct squash *sq, const char *path, bool follow, struct squash_inode *inode, struct err *err)
{
	struct way *way cleanup_free = malloc(sizeof *way);
	bool done = false;
	int rc;

	if (way == NULL)
		return fail(err, ENOMEM, "follow a path in the image", "out of memory");
	if (strlen(path) > PATH_LEN_MAX)
		return fail(err, ENAMETOOLONG, "follow a path in the image", "the path is longer than %d bytes", PATH_LEN_MAX);
	way->sq = sq;
	way->depth = 0;
	way->links = 0;
	memcpy(way->rest, path, strlen(path) + 1);
	rc = squash_stat(sq, sq->root, &way->above[0], err);
	while (rc == 0 && !done)
		rc = take_step(way, follow, inode, &done, err);
	if (rc == -ENOENT)
		return fail(err, ENOENT, "follow a path in the image", "there is no '/%.300s'", path + strspn(path, "/"));
	return rc;
}

/* --- the other way --- */

/* Puts the name that `parent` has for a directory before `*at`, which begins no earlier than `begin`. */
static int put_name(struct squash *sq, const struct squash_inode *parent, uint64_t ref, const char *begin, char **at, struct err *err)
{
	struct squash_entry entry = { .name = NULL };
	struct squash_dir *listing;
	int rc = squash_dir_open(sq, parent, &listing, err);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; entry.name == NULL && i < squash_dir_count(listing); i++)
		if (squash_dir_at(listing, i).ref == ref)
			entry = squash_dir_at(listing, i);
	if (entry.name == NULL) {
		rc = squash_corrupt(err, "inode %" PRIu32 " has a directory below it that it does not list", parent->ino);
	} else if ((size_t)(*at - begin) <= entry.name_len) {
		rc = fail(err, ERANGE, "find the path of a directory", "it is too long");
	} else {
		*--*at = '/';
		*at -= entry.name_len;
		memcpy(*at, entry.name, entry.name_len);
	}
	squash_dir_close(listing);
	return rc;
}

ssize_t squash_path(struct squash *sq, const struct squash_inode *dir, char *buf, size_t cap, struct err *err)
{
	struct squash_inode here = *dir;
	char *at = buf + cap - 1;

	*at = '\0';
	for (unsigned depth = 0; here.ref != squash_root(sq); depth++) {
		uint64_t below = here.ref, ref;
		int rc = depth < SQUASH_DEPTH_MAX ? squash_export(sq, here.parent_ino, &ref, err) : squash_corrupt(err, "inode %" PRIu32 " has no way to the root", dir->ino);

		if (rc == 0)
			rc = squash_stat(sq, ref, &here, err);
		if (rc == 0)
			rc = put_name(sq, &here, below, buf, &at, err);
		if (rc < 0)
			return rc;
	}
	memmove(buf, at, (size_t)(buf + cap - at));
	return buf + cap - 1 - at;
}

/* --- walk --- */

struct walker {
	struct squash *sq;
	const struct squash_walk *walk;
	uint64_t entries;
	unsigned level; /* of the directory being walked; the start has 0 */
	char *path;
	size_t path_len, path_cap;
	/* References of the directories seen: a hash set with open addressing. 0 marks a free slot, so ref+1 is kept. */
	uint64_t *seen;
	size_t seen_count, seen_cap;
};

static bool seen_add(uint64_t *table, size_t cap, uint64_t value)
{
	size_t at = (size_t)((value * 0x9e3779b97f4a7c15u) >> 20) % cap;

	while (table[at] != 0 && table[at] != value)
		at = (at + 1) % cap;
	if (table[at] == value)
		return false;
	table[at] = value;
	return true;
}

/* A directory has one name. One that has two is a loop, or a tree that grows without end. */
static int mark_seen(struct walker *w, const struct squash_inode *dir, struct err *err)
{
	if (w->seen_count * 2 >= w->seen_cap) {
		size_t cap = w->seen_cap > 0 ? w->seen_cap * 2 : 256;
		uint64_t *bigger = calloc(cap, sizeof *bigger);

		if (bigger == NULL)
			return fail(err, ENOMEM, "read the image", "out of memory");
		for (size_t i = 0; i < w->seen_cap; i++)
			if (w->seen[i] != 0)
				seen_add(bigger, cap, w->seen[i]);
		free(w->seen);
		w->seen = bigger;
		w->seen_cap = cap;
	}
	if (w->seen_count > w->sq->inodes)
		return squash_corrupt(err, "it has more directories than inodes");
	w->seen_count++;
	if (!seen_add(w->seen, w->seen_cap, dir->ref + 1))
		return squash_corrupt(err, "the directory '%.300s' is linked at two places", w->path);
	return 0;
}

static int push_name(struct walker *w, const char *name, size_t len, struct err *err)
{
	size_t need = w->path_len + len + 2;

	if (need > w->path_cap) {
		size_t cap = need * 2;
		char *bigger = realloc(w->path, cap);

		if (bigger == NULL)
			return fail(err, ENOMEM, "read the image", "out of memory");
		w->path = bigger;
		w->path_cap = cap;
	}
	if (w->path_len > 0)
		w->path[w->path_len++] = '/';
	memcpy(w->path + w->path_len, name, len);
	w->path_len += len;
	w->path[w->path_len] = '\0';
	return 0;
}

static int walk_dir(struct walker *w, const struct squash_inode *dir, struct err *err);

static int walk_entry(struct walker *w, const struct squash_entry *entry, struct err *err)
{
	struct squash_inode inode;
	size_t before = w->path_len;
	int rc;

	if (++w->entries > (w->walk->entries != 0 ? w->walk->entries : UINT64_C(1) << 32))
		return fail(err, E2BIG, "read the image", "it has more than %" PRIu64 " names", w->entries - 1);
	rc = push_name(w, entry->name, entry->name_len, err);
	if (rc == 0)
		rc = squash_stat(w->sq, entry->ref, &inode, err);
	if (rc == 0)
		rc = w->walk->visit(w->walk->ctx, w->path, w->path + w->path_len - entry->name_len, &inode, err);
	if (rc == 0 && S_ISDIR(inode.mode) && w->level + 1 < w->walk->depth) {
		w->level++;
		rc = walk_dir(w, &inode, err);
		w->level--;
	}
	w->path_len = before;
	w->path[before] = '\0';
	return rc;
}

static int walk_dir(struct walker *w, const struct squash_inode *dir, struct err *err)
{
	struct squash_dir *listing;
	int rc = mark_seen(w, dir, err);

	if (rc == 0 && w->level >= SQUASH_DEPTH_MAX)
		rc = fail(err, ENAMETOOLONG, "read the image", "more than %d directories deep", SQUASH_DEPTH_MAX);
	if (rc == 0)
		rc = squash_dir_open(w->sq, dir, &listing, err);
	if (rc != 0)
		return rc;
	for (uint32_t i = 0; rc == 0 && i < squash_dir_count(listing); i++) {
		struct squash_entry entry = squash_dir_at(listing, i);

		rc = walk_entry(w, &entry, err);
	}
	squash_dir_close(listing);
	if (rc == 0 && w->walk->leave != NULL)
		rc = w->walk->leave(w->walk->ctx, w->path, dir, err);
	return rc;
}

int squash_walk(struct squash *sq, const struct squash_inode *start, const struct squash_walk *walk, struct err *err)
{
	struct walker w = { .sq = sq, .walk = walk };
	int rc = push_name(&w, "", 0, err);

	if (rc == 0)
		rc = walk->visit(walk->ctx, w.path, w.path, start, err);
	if (rc == 0 && S_ISDIR(start->mode) && walk->depth > 0)
		rc = walk_dir(&w, start, err);
	free(w.path);
	free(w.seen);
	return rc;
}
