/* The SquashFS reader against trees that mksquashfs packed, and against damaged images. */
#include "check.h"
#include "sample_tree.h"

#include <stdatomic.h>

#include "../../native/squash/squash.h"

#include <inttypes.h>
#include <pthread.h>

static char top[] = "/tmp/tsrun-squash-test-XXXXXX";
static char root[PATH_MAX], image[PATH_MAX];

struct opened {
	int fd;
	struct squash_cache *cache;
	struct squash *sq;
};

static int open_at(struct opened *opened, const char *path, uint64_t offset, uint64_t size, uint64_t cache, struct err *err)
{
	opened->fd = open(path, O_RDONLY | O_CLOEXEC);
	opened->cache = squash_cache_new(cache);
	opened->sq = NULL;
	return squash_open(&opened->sq, opened->cache, opened->fd, offset, size, err);
}

static void close_image(struct opened *opened)
{
	squash_close(opened->sq);
	squash_cache_free(opened->cache);
	close(opened->fd);
}

/* --- a tree is what it was --- */

struct seen {
	struct opened *opened;
	unsigned names, wrong;
};

static bool same_content(struct opened *opened, const struct squash_inode *inode, const char *original)
{
	int fd = open(original, O_RDONLY | O_CLOEXEC);
	static struct squash_pieces pieces;
	static char block[SQUASH_READ_MAX];
	bool same = fd >= 0;

	for (uint64_t at = 0; same && at < inode->size; at += sizeof block) {
		ssize_t got = pread(fd, block, sizeof block, (off_t)at), compared = 0;

		same = squash_read(opened->sq, inode, at, sizeof block, &pieces, NULL) == 0 && got == (ssize_t)pieces.bytes;
		for (unsigned i = 0; same && i < pieces.count; i++) {
			same = memcmp(block + compared, pieces.iov[i].iov_base, pieces.iov[i].iov_len) == 0;
			compared += (ssize_t)pieces.iov[i].iov_len;
		}
		squash_release(opened->sq, &pieces);
	}
	close(fd);
	return same;
}

static int compare_name(void *ctx, const char *path, const char *name, const struct squash_inode *inode, struct err *err)
{
	struct seen *seen = ctx;
	const char *original = sample_text("%s/%s", root, path);
	char text[SQUASH_SYMLINK_MAX + 1], link[PATH_MAX] = "";
	struct squash_inode found;
	struct stat st;
	bool same;

	(void)name;
	seen->names++;
	if (lstat(original, &st) < 0)
		return -errno;
	same = inode->mode == st.st_mode && inode->uid == st.st_uid && inode->gid == st.st_gid && inode->mtime == st.st_mtim.tv_sec
		&& (S_ISDIR(st.st_mode) || inode->nlink == st.st_nlink);
	if (S_ISREG(st.st_mode))
		same = same && inode->size == (uint64_t)st.st_size && same_content(seen->opened, inode, original);
	if (S_ISLNK(st.st_mode))
		same = same && readlink(original, link, sizeof link - 1) == squash_readlink(seen->opened->sq, inode, text, sizeof text, err)
			&& strcmp(link, text) == 0;
	if (S_ISDIR(st.st_mode)) {
		ssize_t len = squash_path(seen->opened->sq, inode, text, sizeof text, err);

		same = same && (len == -ENOTSUP || (len == (ssize_t)strlen(text) && strcmp(text, path[0] != '\0' ? sample_text("%s/", path) : "") == 0));
	}
	if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
		same = same && inode->rdev_major == major(st.st_rdev) && inode->rdev_minor == minor(st.st_rdev);
	same = same && squash_resolve(seen->opened->sq, path, false, &found, err) == 0 && found.ref == inode->ref;
	if (!same)
		fprintf(stderr, "%s differs\n", original);
	seen->wrong += !same;
	return 0;
}

static unsigned count_names(const char *path)
{
	struct dirent **list;
	int n = scandir(path, &list, NULL, NULL);
	unsigned count = 1;

	for (int i = 0; i < n; i++) {
		if (strcmp(list[i]->d_name, ".") != 0 && strcmp(list[i]->d_name, "..") != 0)
			count += list[i]->d_type == DT_DIR ? count_names(sample_text("%s/%s", path, list[i]->d_name)) : 1;
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return count;
}

static void test_tree(const char *options, uint64_t cache)
{
	struct opened opened;
	struct squash_inode start;
	struct seen seen = { &opened, 0, 0 };
	struct squash_walk walk = { .ctx = &seen, .visit = compare_name, .depth = UINT_MAX };
	struct err err = { 0 };

	sample_image(root, image, options);
	if (!CHECK("an image opens", open_at(&opened, image, 0, 0, cache, &err) == 0)) {
		fprintf(stderr, "%s: %s\n", options, err.detail);
		close_image(&opened);
		return;
	}
	CHECK("every name, attribute and byte is the original's", squash_stat(opened.sq, squash_root(opened.sq), &start, &err) == 0
			&& squash_walk(opened.sq, &start, &walk, &err) == 0 && seen.wrong == 0);
	CHECK("no name is missing", seen.names == count_names(root));
	CHECK("the cache keeps to its limit when nothing is held", squash_cache_bytes(opened.cache) <= cache);
	close_image(&opened);
	unlink(image);
}

/* --- lookups, paths, xattrs, export --- */

static int resolve(struct opened *opened, const char *path, bool follow, uint32_t *ino)
{
	struct squash_inode inode;
	int rc = squash_resolve(opened->sq, path, follow, &inode, NULL);

	*ino = rc == 0 ? inode.ino : 0;
	return rc;
}

static bool leads_to(struct opened *opened, const char *path, const char *same_as)
{
	uint32_t a, b;

	return resolve(opened, path, true, &a) == 0 && resolve(opened, same_as, false, &b) == 0 && a == b;
}

static void test_paths(struct opened *opened)
{
	struct squash_inode dir, inode, by_number;
	struct squash_dir *listing;
	uint64_t ref;
	uint32_t ino;
	char few[4];

	CHECK("a relative link is followed", leads_to(opened, "/links/relative", "/files/1"));
	CHECK("an absolute link stays inside", leads_to(opened, "links/absolute", "files/2"));
	CHECK("a link above the root stays inside", leads_to(opened, "/links/above", "/files/3"));
	CHECK("a link to a directory is followed on the way", leads_to(opened, "/links/dir/4", "/files/4"));
	CHECK(".. of the root is the root", leads_to(opened, "/../../links/../files/./1", "/files/1"));
	CHECK("hard links are one inode", leads_to(opened, "/links/hard", "/files/5"));
	CHECK("a loop of links is ELOOP", resolve(opened, "/links/loop", true, &ino) == -ELOOP);
	CHECK("the last link is not followed unless asked for", resolve(opened, "/links/loop", false, &ino) == 0);
	CHECK("a dangling link is ENOENT", resolve(opened, "/links/dangling", true, &ino) == -ENOENT);
	CHECK("a file is not a directory", resolve(opened, "/files/1/", true, &ino) == -ENOTDIR && resolve(opened, "/files/1/x", true, &ino) == -ENOTDIR);

	CHECK("the big directory opens", squash_resolve(opened->sq, "/many", true, &dir, NULL) == 0 && squash_dir_open(opened->sq, &dir, &listing, NULL) == 0);
	CHECK("it has all names", squash_dir_count(listing) == SAMPLE_NAMES);
	for (uint32_t i = 0, wrong = 0; i <= squash_dir_count(listing); i++) {
		if (i == squash_dir_count(listing)) {
			CHECK("every name listed is found, and they are in order", wrong == 0);
			break;
		}
		struct squash_entry entry = squash_dir_at(listing, i), last = squash_dir_at(listing, i > 0 ? i - 1 : 0);

		wrong += squash_lookup(opened->sq, &dir, entry.name, entry.name_len, &ref, NULL) != 0 || ref != entry.ref;
		wrong += i > 0 && strncmp(last.name, entry.name, entry.name_len < last.name_len ? entry.name_len : last.name_len) > 0;
	}
	squash_dir_close(listing);
	CHECK("a name that is not there is ENOENT", squash_lookup(opened->sq, &dir, "name-", 5, &ref, NULL) == -ENOENT);
	CHECK("the export table leads back", squash_export(opened->sq, dir.ino, &ref, NULL) == 0 && squash_stat(opened->sq, ref, &by_number, NULL) == 0
			&& by_number.ref == dir.ref);
	CHECK("there is no inode 0", squash_export(opened->sq, 0, &ref, NULL) < 0);
	CHECK("a link's text that does not fit is ERANGE", squash_resolve(opened->sq, "/links/relative", false, &inode, NULL) == 0
			&& squash_readlink(opened->sq, &inode, few, sizeof few, NULL) == -ERANGE);
}

static bool not_empty_name(const char *name)
{
	return strcmp(name, "user.empty") != 0;
}

static void test_xattrs(struct opened *opened)
{
	struct squash_inode inode;
	char value[16], list[64];

	if (!squash_statfs(opened->sq).has_xattrs) {
		SKIP("xattrs: the temporary directory's file system has none");
		return;
	}
	CHECK("a value is read", squash_resolve(opened->sq, "/files/2", false, &inode, NULL) == 0
			&& squash_getxattr(opened->sq, &inode, "user.origin", value, sizeof value, NULL) == 9 && memcmp(value, "somewhere", 9) == 0);
	CHECK("an empty value is read", squash_getxattr(opened->sq, &inode, "user.empty", value, sizeof value, NULL) == 0);
	CHECK("no such attribute is ENODATA", squash_getxattr(opened->sq, &inode, "user.other", value, sizeof value, NULL) == -ENODATA);
	CHECK("a value that does not fit is ERANGE", squash_getxattr(opened->sq, &inode, "user.origin", value, 8, NULL) == -ERANGE);
	CHECK("lengths are told", squash_getxattr(opened->sq, &inode, "user.origin", NULL, 0, NULL) == 9
			&& squash_listxattr(opened->sq, &inode, NULL, NULL, 0, NULL) == sizeof "user.origin" + sizeof "user.empty");
	CHECK("the list is filtered", squash_listxattr(opened->sq, &inode, not_empty_name, list, sizeof list, NULL) == sizeof "user.origin"
			&& strcmp(list, "user.origin") == 0);
}

/* --- many threads on few blocks --- */

static void *read_randomly(void *ctx)
{
	struct opened *opened = ctx;
	struct squash_inode file;
	struct squash_pieces *pieces = malloc(sizeof *pieces);
	unsigned seed = (unsigned)(uintptr_t)pieces;
	uintptr_t wrong = squash_resolve(opened->sq, "/files/10", true, &file, NULL) != 0;

	for (int i = 0; i < 300 && wrong == 0; i++) {
		uint64_t at = (seed = seed * 1103515245 + 12345) % 3000000;

		wrong += squash_read(opened->sq, &file, at, 200000, pieces, NULL) != 0;
		for (unsigned k = 0; wrong == 0 && k < pieces->count; k++) {
			const unsigned char *bytes = pieces->iov[k].iov_base;

			wrong += bytes[0] != sample_byte(10, at) || bytes[pieces->iov[k].iov_len - 1] != sample_byte(10, at + pieces->iov[k].iov_len - 1);
			at += pieces->iov[k].iov_len;
		}
		squash_release(opened->sq, pieces);
		wrong += squash_resolve(opened->sq, sample_text("/many/../links/../files/%d", i % 11), true, &(struct squash_inode) { 0 }, NULL) != 0;
	}
	free(pieces);
	return (void *)wrong;
}

static void test_threads(uint64_t cache)
{
	struct opened opened;
	pthread_t threads[8];
	uintptr_t wrong = 0;

	if (open_at(&opened, image, 0, 0, cache, NULL) < 0)
		sample_fail(image);
	for (unsigned i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, read_randomly, &opened);
	for (unsigned i = 0; i < 8; i++) {
		void *result;

		pthread_join(threads[i], &result);
		wrong += (uintptr_t)result;
	}
	CHECK("eight threads read right at once", wrong == 0);
	CHECK("and nothing stays held", squash_cache_bytes(opened.cache) <= cache);
	close_image(&opened);
}

/* --- damaged images --- */

static int touch_all(void *ctx, const char *path, const char *name, const struct squash_inode *inode, struct err *err)
{
	struct opened *opened = ctx;
	static struct squash_pieces pieces;
	static char text[SQUASH_SYMLINK_MAX + 1];
	int rc = 0;

	(void)path;
	(void)name;
	for (uint64_t at = 0; rc == 0 && S_ISREG(inode->mode) && at < inode->size && at < 64u << 20; at += SQUASH_READ_MAX) {
		rc = squash_read(opened->sq, inode, at, SQUASH_READ_MAX, &pieces, err);
		squash_release(opened->sq, &pieces);
	}
	if (S_ISLNK(inode->mode))
		rc = (int)squash_readlink(opened->sq, inode, text, sizeof text, err);
	if (rc >= 0)
		rc = (int)squash_listxattr(opened->sq, inode, NULL, text, sizeof text, err);
	return rc < 0 ? rc : 0;
}

static int read_everything(const char *path, uint64_t offset, struct err *err)
{
	struct opened opened;
	struct squash_inode start;
	struct squash_walk walk = { .ctx = &opened, .visit = touch_all, .depth = UINT_MAX, .entries = 100000 };
	int rc = open_at(&opened, path, offset, 0, 1 << 20, err);

	if (rc == 0)
		rc = squash_stat(opened.sq, squash_root(opened.sq), &start, err);
	if (rc == 0)
		rc = squash_walk(opened.sq, &start, &walk, err);
	close_image(&opened);
	return rc;
}

static unsigned char *load(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	unsigned char *bytes;

	if (fd < 0 || fstat(fd, &st) < 0)
		sample_fail(path);
	*len = (size_t)st.st_size;
	bytes = malloc(*len);
	if (read(fd, bytes, *len) != (ssize_t)*len)
		sample_fail(path);
	close(fd);
	return bytes;
}

static void store(const char *path, const unsigned char *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		sample_fail(path);
	close(fd);
}

/* An image whose superblock has `value` at `at`: the error and a word of its text. */
static bool refused(const unsigned char *good, size_t len, unsigned at, uint64_t value, unsigned size, int rc, const char *word)
{
	unsigned char *bad = malloc(len);
	struct err err = { 0 };
	int got;

	memcpy(bad, good, len);
	for (unsigned i = 0; i < size; i++)
		bad[at + i] = (unsigned char)(value >> 8 * i);
	store(sample_text("%s/bad", top), bad, len);
	got = read_everything(sample_text("%s/bad", top), 0, &err);
	free(bad);
	if (got == rc && strstr(err.detail, word) != NULL)
		return true;
	fprintf(stderr, "byte %u: %d (%s)\n", at, got, err.detail);
	return false;
}

static void test_superblock(void)
{
	struct err err = { 0 };
	size_t len;
	unsigned char *good;

	sample_image(sample_text("%s/links", root), image, "-comp zstd -nopad");
	good = load(image, &len);
	CHECK("the undamaged one is read", read_everything(image, 0, &err) == 0);
	CHECK("wrong magic is named", refused(good, len, 0, 0x12345678, 4, -EUCLEAN, "no SquashFS"));
	CHECK("big endian is named", refused(good, len, 0, 0x68737173, 4, -ENOTSUP, "big-endian"));
	CHECK("another version is named", refused(good, len, 28, 3, 2, -ENOTSUP, "version 3.0"));
	CHECK("lzo is named", refused(good, len, 20, 3, 2, -ENOTSUP, "lzo"));
	CHECK("lzma is named", refused(good, len, 20, 2, 2, -ENOTSUP, "lzma"));
	CHECK("an unknown compressor is named", refused(good, len, 20, 77, 2, -ENOTSUP, "compressor 77"));
	CHECK("a block size beyond 1 MiB is refused", refused(good, len, 12, 2 << 20, 4, -EUCLEAN, "block size"));
	CHECK("a block size that is no power of two is refused", refused(good, len, 12, 100000, 4, -EUCLEAN, "block size"));
	CHECK("more bytes than the file has are named", refused(good, len, 40, 1 << 30, 8, -EUCLEAN, "truncated"));
	CHECK("an id table beyond the end is refused", refused(good, len, 48, 1 << 29, 8, -EUCLEAN, "ends at"));
	CHECK("no ids are refused", refused(good, len, 26, 0, 2, -EUCLEAN, "id table"));
	CHECK("too many fragments are refused", refused(good, len, 16, 0xffffffff, 4, -EUCLEAN, "fragments"));
	CHECK("a directory table before the inodes is refused", refused(good, len, 72, 97, 8, -EUCLEAN, "out of place"));
	CHECK("a root outside of the inode table is refused", refused(good, len, 32, UINT64_C(1) << 40, 8, -EUCLEAN, "outside"));
	store(sample_text("%s/bad", top), good, len / 2);
	CHECK("half an image is named", read_everything(sample_text("%s/bad", top), 0, &err) == -EUCLEAN && strstr(err.detail, "truncated") != NULL);
	store(sample_text("%s/bad", top), good, 0);
	CHECK("an empty file is named", read_everything(sample_text("%s/bad", top), 0, &err) == -EUCLEAN && strstr(err.detail, "too short") != NULL);
	CHECK("an offset beyond the end is named", read_everything(image, 1 << 30, &err) == -EUCLEAN && strstr(err.detail, "too short") != NULL);
	free(good);
}

/* Every byte of a small image, changed: an error or other content, never a crash or a hang. */
static void test_flipped(const char *compressor)
{
	size_t len, errors = 0;
	unsigned char *bytes;
	int fd;

	sample_image(sample_text("%s/links", root), image, sample_text("-comp %s -nopad", compressor));
	bytes = load(image, &len);
	fd = open(image, O_WRONLY | O_CLOEXEC);
	for (size_t at = 0; at < len; at += at < 2000 || len - at < 2000 ? 1 : 97) {
		unsigned char other = bytes[at] ^ (unsigned char)(1 + at % 255);
		struct err err = { 0 };

		if (pwrite(fd, &other, 1, (off_t)at) != 1)
			sample_fail(image);
		errors += read_everything(image, 0, &err) < 0;
		if (pwrite(fd, &bytes[at], 1, (off_t)at) != 1)
			sample_fail(image);
	}
	close(fd);
	CHECK("damage is survived, and mostly noticed", errors > 500);
	free(bytes);
}

static void test_in_use(void)
{
	struct opened opened;
	struct squash_inode file;
	static struct squash_pieces pieces;
	struct err err = { 0 };

	sample_image(root, image, "-comp gzip");
	if (open_at(&opened, image, 0, 0, 1 << 20, &err) < 0 || squash_resolve(opened.sq, "/files/10", true, &file, &err) < 0)
		sample_fail(image);
	if (link(image, sample_text("%s/second-name", top)) < 0 || unlink(image) < 0)
		sample_fail(image);
	CHECK("an image that was renamed and linked is read on", squash_read(opened.sq, &file, 0, 1000, &pieces, &err) == 0);
	squash_release(opened.sq, &pieces);
	if (truncate(sample_text("%s/second-name", top), 200000) < 0)
		sample_fail(image);
	CHECK("one that was truncated is EIO", squash_read(opened.sq, &file, 2000000, 1000, &pieces, &err) == -EIO && strstr(err.detail, "while in use") != NULL);
	close_image(&opened);
}

static void test_ahead(void)
{
	struct opened opened;
	struct squash_inode file;
	static struct squash_pieces pieces;
	_Atomic uint32_t reading = 0;
	uint64_t before;

	sample_image(root, image, "-comp zstd -b 128K");
	if (open_at(&opened, image, 0, 0, 8 << 20, NULL) < 0 || squash_resolve(opened.sq, "/files/10", true, &file, NULL) < 0)
		sample_fail(image);
	squash_count_reads(opened.sq, &reading);
	CHECK("the first block is read", squash_read(opened.sq, &file, 0, 1000, &pieces, NULL) == 0);
	squash_release(opened.sq, &pieces);
	before = squash_cached(opened.sq);
	squash_read_ahead(opened.sq, &file, 128 << 10);
	CHECK("reading ahead decodes the next block", squash_cached(opened.sq) >= before + (128 << 10));
	before = squash_cached(opened.sq);
	squash_read_ahead(opened.sq, &file, (128 << 10) + 4096);
	CHECK("and it once only", squash_cached(opened.sq) == before);
	CHECK("it is then there without the file", truncate(image, 0) == 0 && squash_read(opened.sq, &file, 128 << 10, 128 << 10, &pieces, NULL) == 0);
	squash_release(opened.sq, &pieces);
	squash_read_ahead(opened.sq, &file, file.size);
	squash_read_ahead(opened.sq, &file, UINT64_MAX);
	CHECK("behind the end there is nothing to read ahead", reading == 0);
	close_image(&opened);
}

/* Who keeps what it was given does not need it kept here. */
static void test_given(void)
{
	struct opened opened;
	struct squash_inode file;
	static struct squash_pieces pieces;
	const size_t block = 128 << 10;
	uint64_t before;

	sample_image(root, image, "-comp zstd -b 128K");
	if (open_at(&opened, image, 0, 0, 8 << 20, NULL) < 0 || squash_resolve(opened.sq, "/files/10", true, &file, NULL) < 0)
		sample_fail(image);
	CHECK("the list of the blocks is read", squash_read(opened.sq, &file, 2 * block, 1, &pieces, NULL) == 0);
	squash_release(opened.sq, &pieces);
	before = squash_cached(opened.sq);
	CHECK("a part of a block is read", squash_read(opened.sq, &file, 0, 1000, &pieces, NULL) == 0);
	squash_give(opened.sq, &pieces);
	CHECK("the block is kept", squash_cached(opened.sq) >= before + block);
	CHECK("and the rest of it", squash_read(opened.sq, &file, 1000, block - 1000, &pieces, NULL) == 0);
	squash_give(opened.sq, &pieces);
	CHECK("when all of it was given it goes", squash_cached(opened.sq) == before);
	CHECK("two are read, held twice", squash_read(opened.sq, &file, 0, 2 * block, &pieces, NULL) == 0);
	before = squash_cached(opened.sq);
	{
		static struct squash_pieces second;

		CHECK("by two", squash_read(opened.sq, &file, 0, 2 * block, &second, NULL) == 0);
		squash_give(opened.sq, &second);
	}
	CHECK("what is held by another stays", squash_cached(opened.sq) == before && ((const unsigned char *)pieces.iov[0].iov_base)[7] == sample_byte(10, 7));
	squash_release(opened.sq, &pieces);
	CHECK("and who releases it leaves it", squash_cached(opened.sq) == before);
	CHECK("what has gone is read again", squash_read(opened.sq, &file, 3 * block, block, &pieces, NULL) == 0 && pieces.bytes == block);
	squash_give(opened.sq, &pieces);
	CHECK("and once more", squash_read(opened.sq, &file, 3 * block, block, &pieces, NULL) == 0
		&& ((const unsigned char *)pieces.iov[0].iov_base)[9] == sample_byte(10, 3 * block + 9));
	squash_release(opened.sq, &pieces);
	close_image(&opened);
}

static void test_offset(void)
{
	struct err err = { 0 };

	sample_image(sample_text("%s/files", root), image, "-comp lz4");
	if (sample_run("{ head -c 12345 /dev/zero; cat %s; echo behind; } > %s/inside", image, top) != 0)
		sample_fail("inside");
	CHECK("an image is read from within a file", read_everything(sample_text("%s/inside", top), 12345, &err) == 0);
}

int main(void)
{
	struct opened opened;

	umask(022);
	if (mkdtemp(top) == NULL)
		sample_fail("mkdtemp");
	snprintf(root, sizeof root, "%s/root", top);
	snprintf(image, sizeof image, "%s/image", top);
	sample_make(root);

	test_tree("-comp gzip", 8 << 20);
	test_tree("-comp zstd -b 1M", 8 << 20);
	test_tree("-comp xz -b 4K", 8 << 20);
	test_tree("-comp lz4 -no-fragments", 8 << 20);
	test_tree("-comp zstd -always-use-fragments", 1 << 20);
	test_tree("-noI -noD -noF -noX", 8 << 20);
	test_tree("-comp gzip -no-exports -no-xattrs -no-duplicates", 100000);

	sample_image(root, image, "-comp zstd");
	if (open_at(&opened, image, 0, 0, 1 << 20, NULL) < 0)
		sample_fail(image);
	test_paths(&opened);
	test_xattrs(&opened);
	close_image(&opened);
	test_threads(8 << 20);
	test_threads(0);
	test_superblock();
	test_flipped("gzip");
	test_flipped("zstd");
	test_flipped("xz");
	test_flipped("lz4");
	test_in_use();
	test_ahead();
	test_given();
	test_offset();

	sample_run("rm -rf %s", top);
	return check_end();
}
