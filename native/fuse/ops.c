/* The requests, one function for each kind, and which one is for what. */
#include "internal.h"

#define MAX_BACKGROUND 64u /* read-ahead requests in flight; the kernel's default of 12 is for disks */

static void do_init(const struct request *r)
{
	static const uint32_t wanted = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT | FUSE_DO_READDIRPLUS
		| FUSE_READDIRPLUS_AUTO | FUSE_CACHE_SYMLINKS | FUSE_MAX_PAGES | FUSE_EXPLICIT_INVAL_DATA;
	const struct fuse_init_in *in = (const void *)r->arg;
	struct fuse_init_out out = { 0 };

	/* Kernels before 7.36 send less than the struct has now; up to the flags they all do. */
	if (r->arg_len < offsetof(struct fuse_init_in, flags) + sizeof in->flags || in->major != FUSE_KERNEL_VERSION || in->minor < 23) {
		answer_error(r, -EPROTO);
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
	answer_data(r, &out, sizeof out);
}

static void do_getattr(const struct request *r)
{
	struct fuse_attr_out out = { .attr_valid = FOR_EVER };
	struct squash_inode inode;
	struct err err = { 0 };
	int rc = answer_stat(r, &inode, &err);

	if (rc < 0) {
		answer_failure(r, rc, &err);
		return;
	}
	answer_fill_attr(r->fs, &inode, &out.attr);
	answer_data(r, &out, sizeof out);
}

static void do_readlink(const struct request *r)
{
	char text[4096]; /* the kernel's limit of a path */
	struct squash_inode inode;
	struct err err = { 0 };
	ssize_t len = answer_stat(r, &inode, &err);

	if (len == 0)
		len = squash_readlink(r->sq, &inode, text, sizeof text, &err);
	if (len < 0)
		answer_failure(r, len == -ERANGE ? -ENAMETOOLONG : (int)len, &err);
	else
		answer_data(r, text, (size_t)len);
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

	answer_data(r, &out, sizeof out);
}

static void do_open(const struct request *r, bool refusable, uint32_t flags)
{
	struct fuse_open_out out = { .open_flags = flags };

	if (refusable)
		answer_error(r, -ENOSYS);
	else
		answer_data(r, &out, sizeof out);
}

/* The asker of another request got a signal. It may be a deadly one: whoever watches will answer for the worker if that does not come to it. Requests that
 * are answered soon are not disturbed: programs do not expect EINTR of stat. */
static void do_interrupt(const struct request *r)
{
	if (r->arg_len >= sizeof(struct fuse_interrupt_in))
		imagefs_interrupt(r->fs->config.shared, ((const struct fuse_interrupt_in *)(const void *)r->arg)->unique);
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
		answer_error(r, 0);
		break;
	case FUSE_INTERRUPT:
		do_interrupt(r); /* no answer */
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		break; /* no answer is expected, and nothing was kept */
	default:
		answer_error(r, -ENOSYS);
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
	walk_note(r.fs, r.in);
	answer_kind(&r);
	publish_cache(&r);
}
