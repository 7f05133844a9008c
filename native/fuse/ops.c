/* The requests and their answers. */
#include "internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FOR_EVER UINT64_MAX
#define COMPLAINTS_MAX 20u
#define MAX_BACKGROUND 64u  /* read-ahead requests in flight; the kernel's default of 12 is for disks */

struct request {
	struct imagefs_worker *worker;
	struct imagefs *fs;
	struct squash *sq;
	const struct fuse_in_header *in;
	const char *arg;
	size_t arg_len;
};

/* --- node ids: the inode's reference, moved past 0 (no node) and 1 (the root), so that they mean the same in every server --- */

static uint64_t node_of(const struct squash *sq, uint64_t ref)
{
	return ref == squash_root(sq) ? FUSE_ROOT_ID : ref + 2;
}

static uint64_t ref_of(const struct squash *sq, uint64_t node)
{
	return node == FUSE_ROOT_ID ? squash_root(sq) : node - 2;
}

/* --- replies --- */

static void tally(const struct request *r, enum imagefs_count what, uint64_t amount)
{
	_Atomic uint64_t *at = &r->worker->slot->counts[what];

	/* Nobody else writes it. */
	atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + amount, memory_order_relaxed);
}

static void reply_vector(const struct request *r, int error, struct iovec *parts, unsigned count, size_t len)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof out + len),
		.error = error,
		.unique = r->in->unique,
	};

	parts[0] = (struct iovec) { &out, sizeof out };
	tally(r, COUNT_BYTES, len);
	/* Fails when the asker has been killed or the mount is gone; then nobody waits for it. */
	while (writev(r->worker->device, parts, (int)count) < 0 && errno == EINTR)
		;
}

static void reply(const struct request *r, const void *data, size_t len)
{
	struct iovec parts[2] = { { 0 }, { .iov_base = (void *)(uintptr_t)data, .iov_len = len } };

	reply_vector(r, 0, parts, len > 0 ? 2 : 1, len);
}

static void reply_error(const struct request *r, int error)
{
	struct iovec parts[1];

	reply_vector(r, error, parts, 1, 0);
}

/* For failures that are not an answer to the question: says so, a few times. */
static void reply_failure(const struct request *r, int rc, const struct err *err)
{
	struct imagefs *fs = r->fs;

	tally(r, COUNT_FAILED, rc == -EIO || rc == -EUCLEAN || rc == -ENOMEM || rc == -ESTALE);
	if (err->step[0] != '\0' && (rc == -EIO || rc == -EUCLEAN || rc == -ENOMEM || rc == -ESTALE)
		&& atomic_fetch_add(&fs->complaints, 1) < COMPLAINTS_MAX) {
		char text[sizeof err->step + sizeof err->detail + 64];

		snprintf(text, sizeof text, "cannot %s: %s: %s", err->step, err->detail, strerror(-rc));
		fs->config.log(fs->config.ctx, text);
	}
	reply_error(r, rc);
}

/* --- attributes --- */

static uint32_t shown_mode(uint32_t mode)
{
	/* Everything in an image can be read by who may read the image. */
	return mode | S_IRUSR | (S_ISDIR(mode) ? S_IXUSR : 0);
}

static void fill_attr(const struct imagefs *fs, const struct squash_inode *inode, struct fuse_attr *attr)
{
	*attr = (struct fuse_attr) {
		.ino = inode->ino,
		.size = inode->size,
		.blocks = S_ISREG(inode->mode) && inode->sparse <= inode->size ? (inode->size - inode->sparse + 511) / 512 : 0,
		.atime = (uint64_t)inode->mtime,
		.mtime = (uint64_t)inode->mtime,
		.ctime = (uint64_t)inode->mtime,
		.mode = shown_mode(inode->mode),
		.nlink = inode->nlink,
		.uid = fs->config.uid,
		.gid = fs->config.gid,
		.rdev = (inode->rdev_minor & 0xff) | inode->rdev_major << 8 | (inode->rdev_minor & ~0xffu) << 12,
		.blksize = 4096, /* programs take it as the size of their buffers */
	};
}

static void fill_entry(const struct imagefs *fs, const struct squash_inode *inode, struct fuse_entry_out *entry)
{
	*entry = (struct fuse_entry_out) {
		.nodeid = node_of(fs->config.squash, inode->ref),
		.entry_valid = FOR_EVER,
		.attr_valid = FOR_EVER,
	};
	fill_attr(fs, inode, &entry->attr);
}

static int stat_node(const struct request *r, struct squash_inode *inode, struct err *err)
{
	int rc = r->in->nodeid < FUSE_ROOT_ID ? -EINVAL : squash_stat(r->sq, ref_of(r->sq, r->in->nodeid), inode, err);

	if (rc == 0)
		hot_record_touch(r->fs->config.record, HOT_INODE, inode->ino, 0, 0);
	return rc;
}

/* --- one function for each kind of request --- */

static void do_init(const struct request *r)
{
	static const uint32_t wanted = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_DO_READDIRPLUS
		| FUSE_READDIRPLUS_AUTO | FUSE_CACHE_SYMLINKS | FUSE_MAX_PAGES | FUSE_EXPLICIT_INVAL_DATA;
	const struct fuse_init_in *in = (const void *)r->arg;
	struct fuse_init_out out = { 0 };

	/* Kernels before 7.36 send less than the struct has now; up to the flags they all do. */
	if (r->arg_len < offsetof(struct fuse_init_in, flags) + sizeof in->flags || in->major != FUSE_KERNEL_VERSION || in->minor < 23) {
		reply_error(r, -EPROTO);
		return;
	}
	out.major = FUSE_KERNEL_VERSION;
	out.minor = in->minor < FUSE_KERNEL_MINOR_VERSION ? in->minor : FUSE_KERNEL_MINOR_VERSION;
	out.max_readahead = in->max_readahead;
	out.flags = in->flags & wanted; /* a flag that is not understood must not be echoed: the kernel would rely on it */
	out.max_background = MAX_BACKGROUND;
	out.congestion_threshold = MAX_BACKGROUND * 3 / 4;
	out.max_write = 4096;
	out.time_gran = 1000000000;
	out.max_pages = (uint16_t)(SQUASH_READ_MAX / (size_t)sysconf(_SC_PAGESIZE));
	atomic_store(&r->fs->config.shared->open_refusable, in->flags & FUSE_NO_OPEN_SUPPORT);
	atomic_store(&r->fs->config.shared->opendir_refusable, in->flags & FUSE_NO_OPENDIR_SUPPORT);
	reply(r, &out, sizeof out);
}

static void do_lookup(const struct request *r)
{
	struct fuse_entry_out entry = { .entry_valid = FOR_EVER };
	struct squash_inode inode;
	struct err err = { 0 };
	size_t len = strnlen(r->arg, r->arg_len);
	uint64_t ref;
	int rc = stat_node(r, &inode, &err);

	if (rc == 0)
		hot_record_touch(r->fs->config.record, HOT_NAMES, inode.ino, 0, 0);
	if (rc == 0)
		rc = squash_lookup(r->sq, &inode, r->arg, len, &ref, &err);
	if (rc == 0)
		rc = squash_stat(r->sq, ref, &inode, &err);
	if (rc == 0) {
		hot_record_touch(r->fs->config.record, HOT_INODE, inode.ino, 0, 0);
		fill_entry(r->fs, &inode, &entry);
	}
	/* Node 0 with a validity: the kernel remembers that the name is not there. */
	if (rc == 0 || rc == -ENOENT)
		reply(r, &entry, sizeof entry);
	else
		reply_failure(r, rc, &err);
}

static void do_getattr(const struct request *r)
{
	struct fuse_attr_out out = { .attr_valid = FOR_EVER };
	struct squash_inode inode;
	struct err err = { 0 };
	int rc = stat_node(r, &inode, &err);

	if (rc < 0) {
		reply_failure(r, rc, &err);
		return;
	}
	fill_attr(r->fs, &inode, &out.attr);
	reply(r, &out, sizeof out);
}

static void do_readlink(const struct request *r)
{
	char text[4096]; /* the kernel's limit of a path */
	struct squash_inode inode;
	struct err err = { 0 };
	ssize_t len = stat_node(r, &inode, &err);

	if (len == 0)
		len = squash_readlink(r->sq, &inode, text, sizeof text, &err);
	if (len < 0)
		reply_failure(r, len == -ERANGE ? -ENAMETOOLONG : (int)len, &err);
	else
		reply(r, text, (size_t)len);
}

/* No file is ever opened here, so who reads in order is told by where the last read of the node ended. */
static bool reads_in_order(const struct request *r, uint64_t offset, uint64_t end)
{
	uint64_t node = r->in->nodeid * 0x9e3779b97f4a7c15u;
	_Atomic uint64_t *reached = &r->fs->reached[node >> 56];
	uint64_t before = atomic_exchange_explicit(reached, node ^ end, memory_order_relaxed);

	return offset == 0 || before == (node ^ offset);
}

static void do_read(const struct request *r)
{
	const struct fuse_read_in *in = (const void *)r->arg;
	struct iovec parts[SQUASH_PIECES_MAX + 1]; /* the first is the reply's header */
	struct squash_pieces pieces;
	struct squash_inode inode;
	uint64_t end;
	struct err err = { 0 };
	/* The mount's max_read keeps it from asking for more; less than asked for would mean the end of the file. */
	int rc = r->arg_len < sizeof *in || in->size > SQUASH_READ_MAX ? -EINVAL : stat_node(r, &inode, &err);

	if (rc == 0)
		rc = squash_read(r->sq, &inode, in->offset, in->size, &pieces, &err);
	if (rc < 0) {
		reply_failure(r, rc, &err);
		return;
	}
	hot_record_touch(r->fs->config.record, HOT_DATA, inode.ino, in->offset, (uint32_t)pieces.bytes);
	memcpy(parts + 1, pieces.iov, pieces.count * sizeof parts[0]);
	reply_vector(r, 0, parts, pieces.count + 1, pieces.bytes);
	end = in->offset + pieces.bytes;
	squash_release(r->sq, &pieces);
	if (reads_in_order(r, in->offset, end)) {
		r->worker->ahead = inode;
		r->worker->ahead_offset = end;
	}
}

static void do_statfs(const struct request *r)
{
	struct squash_statfs st = squash_statfs(r->sq);
	struct fuse_statfs_out out = {
		.st = {
			.blocks = (st.bytes + st.block_size - 1) / st.block_size,
			.files = st.inodes,
			.bsize = st.block_size,
			.frsize = st.block_size,
			.namelen = SQUASH_NAME_MAX,
		},
	};

	reply(r, &out, sizeof out);
}

/* --- directories: positions are 0 for ".", 1 for "..", then the names in order; the kernel gives back the position after what it had --- */

struct dirents {
	char *buffer;
	size_t len, room;
	bool plus;
};

static struct squash_entry dirent_at(const struct squash_inode *dir, struct squash_dir *listing, uint64_t position)
{
	if (position < 2)
		return (struct squash_entry) {
			.ref = dir->ref,
			.ino = position == 0 ? dir->ino : dir->parent_ino,
			.type = S_IFDIR,
			.name = "..",
			.name_len = position == 0 ? 1 : 2,
		};
	return squash_dir_at(listing, (uint32_t)(position - 2));
}

/* Adds one; false when it does not fit any more. */
static bool add_dirent(const struct request *r, struct dirents *out, const struct squash_entry *entry, uint64_t position)
{
	size_t before = out->plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	size_t size = FUSE_DIRENT_ALIGN(before + entry->name_len);
	char *at = out->buffer + out->len;
	struct fuse_dirent *dirent = (struct fuse_dirent *)(void *)at;

	if (size > out->room - out->len)
		return false;
	memset(at, 0, size);
	if (out->plus) {
		struct fuse_direntplus *plus = (struct fuse_direntplus *)(void *)at;
		struct squash_inode inode;

		dirent = &plus->dirent;
		/* Without its attributes the name is listed all the same; looking at it will give the error. */
		if (position >= 2 && squash_stat(r->sq, entry->ref, &inode, NULL) == 0)
			fill_entry(r->fs, &inode, &plus->entry_out);
	}
	dirent->ino = entry->ino;
	dirent->off = position + 1;
	dirent->namelen = (uint32_t)entry->name_len;
	dirent->type = entry->type >> 12;
	memcpy(dirent->name, entry->name, entry->name_len);
	out->len += size;
	return true;
}

static void do_readdir(const struct request *r, bool plus)
{
	const struct fuse_read_in *in = (const void *)r->arg;
	struct dirents out = { .plus = plus };
	struct squash_inode dir;
	struct squash_dir *listing;
	struct err err = { 0 };
	int rc = r->arg_len < sizeof *in ? -EINVAL : stat_node(r, &dir, &err);

	if (rc == 0 && r->worker->dirents == NULL && (r->worker->dirents = malloc(IMAGEFS_DIRENTS_MAX)) == NULL)
		rc = -ENOMEM;
	if (rc == 0)
		hot_record_touch(r->fs->config.record, plus ? HOT_ENTRIES : HOT_NAMES, dir.ino, 0, 0);
	if (rc == 0)
		rc = squash_dir_open(r->sq, &dir, &listing, &err);
	if (rc < 0) {
		reply_failure(r, rc, &err);
		return;
	}
	out.buffer = r->worker->dirents;
	out.room = in->size < IMAGEFS_DIRENTS_MAX ? in->size : IMAGEFS_DIRENTS_MAX;
	for (uint64_t at = in->offset; at < (uint64_t)squash_dir_count(listing) + 2; at++) {
		struct squash_entry entry = dirent_at(&dir, listing, at);

		if (!add_dirent(r, &out, &entry, at))
			break;
	}
	reply(r, out.buffer, out.len);
	squash_dir_close(listing);
}

static void do_open(const struct request *r, bool refusable, uint32_t flags)
{
	struct fuse_open_out out = { .open_flags = flags };

	if (refusable)
		reply_error(r, -ENOSYS);
	else
		reply(r, &out, sizeof out);
}

/* --- xattrs: the user's own, and file capabilities so that tools show them; the rest is about the system the image was made on --- */

static bool is_shown_xattr(const char *name)
{
	return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0;
}

static void reply_xattr(const struct request *r, ssize_t len, uint32_t asked, const char *data, const struct err *err)
{
	struct fuse_getxattr_out size = { .size = len > 0 ? (uint32_t)len : 0 };

	if (len < 0)
		reply_failure(r, (int)len, err);
	else if (asked == 0)
		reply(r, &size, sizeof size);
	else
		reply(r, data, (size_t)len);
}

static void do_xattr(const struct request *r, bool list)
{
	const struct fuse_getxattr_in *in = (const void *)r->arg;
	const char *name = r->arg + sizeof *in;
	struct squash_inode inode;
	struct err err = { 0 };
	char *value cleanup_free = NULL;
	size_t cap;
	ssize_t len;

	if (!r->fs->has_xattrs) {
		reply_error(r, -ENOSYS);
		return;
	}
	if (r->arg_len < sizeof *in || (!list && memchr(name, 0, r->arg_len - sizeof *in) == NULL)) {
		reply_error(r, -EINVAL);
		return;
	}
	if (!list && !is_shown_xattr(name)) {
		reply_error(r, -ENODATA);
		return;
	}
	cap = in->size < 65536 ? in->size : 65536;
	len = stat_node(r, &inode, &err);
	if (len == 0 && cap > 0 && (value = malloc(cap)) == NULL)
		len = -ENOMEM;
	if (len == 0)
		len = list ? squash_listxattr(r->sq, &inode, is_shown_xattr, value, cap, &err)
				   : squash_getxattr(r->sq, &inode, name, value, cap, &err);
	reply_xattr(r, len, in->size, value, &err);
}

/* The asker of another request got a signal. It may be a deadly one: whoever watches will answer for the worker if that does not come to it. Requests that
 * are answered soon are not disturbed: programs do not expect EINTR of stat. */
static void do_interrupt(const struct request *r)
{
	const struct fuse_interrupt_in *in = (const void *)r->arg;
	struct imagefs_shared *shared = r->fs->config.shared;

	for (unsigned i = 0; r->arg_len >= sizeof *in && i < shared->workers; i++)
		if (imagefs_in_hand(shared, i) == in->unique)
			atomic_store(&shared->slots[i].interrupted, in->unique);
}

static enum imagefs_count kind_of(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
		return COUNT_LOOKUP;
	case FUSE_GETATTR:
		return COUNT_GETATTR;
	case FUSE_READ:
		return COUNT_READ;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return COUNT_READDIR;
	default:
		return COUNT_OTHER;
	}
}

static void answer_kind(const struct request *r)
{
	switch (r->in->opcode) {
	case FUSE_INIT:
		do_init(r);
		break;
	case FUSE_LOOKUP:
		do_lookup(r);
		break;
	case FUSE_GETATTR:
		do_getattr(r);
		break;
	case FUSE_READLINK:
		do_readlink(r);
		break;
	case FUSE_READ:
		do_read(r);
		break;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		do_readdir(r, r->in->opcode == FUSE_READDIRPLUS);
		break;
	case FUSE_STATFS:
		do_statfs(r);
		break;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		do_xattr(r, r->in->opcode == FUSE_LISTXATTR);
		break;
	case FUSE_OPEN:
		do_open(r, r->fs->config.shared->open_refusable, FOPEN_KEEP_CACHE);
		break;
	case FUSE_OPENDIR:
		do_open(r, r->fs->config.shared->opendir_refusable, FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR);
		break;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_DESTROY:
		reply_error(r, 0);
		break;
	case FUSE_INTERRUPT:
		do_interrupt(r); /* no answer */
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		break; /* no answer is expected, and nothing was kept */
	default:
		reply_error(r, -ENOSYS);
	}
}

static void publish_cache(const struct request *r)
{
	struct imagefs_shared *shared = r->fs->config.shared;
	struct squash_cache_use cached = squash_cache_use(r->sq);

	atomic_store_explicit(&shared->cache_bytes, cached.bytes, memory_order_relaxed);
	atomic_store_explicit(&shared->cache_hits, cached.hits, memory_order_relaxed);
	atomic_store_explicit(&shared->cache_loads, cached.loads, memory_order_relaxed);
}

void imagefs_answer(struct imagefs_worker *worker, size_t len)
{
	struct request r = {
		.worker = worker,
		.fs = worker->fs,
		.sq = worker->fs->config.squash,
		.in = (const void *)worker->slot->request,
		.arg = worker->slot->request + sizeof *r.in,
	};

	if (len < sizeof *r.in)
		return;
	r.arg_len = len - sizeof *r.in;
	tally(&r, kind_of(r.in->opcode), 1);
	answer_kind(&r);
	publish_cache(&r);
}
void imagefs_read_ahead(struct imagefs_worker *worker)
{
	if (worker->ahead.size > 0)
		squash_read_ahead(worker->fs->config.squash, &worker->ahead, worker->ahead_offset);
	worker->ahead.size = 0;
}
