/* The rest of a block that was decoded for a small read. FUSE gives the kernel no page but those it asks for, and where a program reads here and there it asks for few.
 * So an ordinary reader of the mount, in a process of its own, asks for the others: then the kernel keeps them, as it does of a SquashFS that it reads itself, and the
 * block is decoded once. That process has neither devices nor the image; what it waits for it waits for as any program does, and it can be killed. */
#include "internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define SMALL 4u               /* a read of less than this part of a block; the others are not worth two more requests */
#define ASKED_MAX (128u << 10) /* the kernel reads no more ahead at a time, whatever it is told */
#define BLOCK_MAX (1u << 20)   /* of data in SquashFS */
#define FILES 8u               /* kept open */

/* A file is opened by its node, under a name in the root that is there for the fetcher alone. */
#define NAME_BEGINS ".tsrun-node-"
#define NAME_BEGINS_LEN (sizeof NAME_BEGINS - 1)

struct rest {
	uint64_t node, offset, end;
};

bool rests_is_fetcher(const struct imagefs *fs, const struct fuse_in_header *in)
{
	return in->pid != 0 && in->pid == atomic_load_explicit(&fs->config.shared->fetcher, memory_order_relaxed);
}

/* --- in the process that serves --- */

void rests_want(const struct request *r, const struct squash_inode *file, uint64_t offset, size_t read)
{
	struct imagefs_shared *shared = r->fs->config.shared;
	uint64_t block = squash_statfs(r->sq).block_size;
	uint64_t start = offset - offset % block, left = file->size - start;
	struct rest rest = { .node = r->in->nodeid, .offset = start, .end = start + (left < block ? left : block) };

	if (rest.end - start < SMALL * read)
		return;
	if (!atomic_load(&shared->fetching) && !atomic_exchange(&shared->fetching, true))
		r->fs->config.fetch(r->fs->config.ctx);
	/* A fetcher that does not keep up goes without. */
	(void)!send(r->fs->config.rests, &rest, sizeof rest, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool rests_lookup(const struct request *r)
{
	struct fuse_entry_out entry;
	struct squash_inode inode;
	uint64_t node;

	if (!rests_is_fetcher(r->fs, r->in) || memchr(r->arg, 0, r->arg_len) == NULL || strncmp(r->arg, NAME_BEGINS, NAME_BEGINS_LEN) != 0)
		return false;
	node = strtoull(r->arg + NAME_BEGINS_LEN, NULL, 16);
	/* A directory that gets another name loses the one it had. */
	if (node <= FUSE_ROOT_ID || squash_stat(r->sq, ref_of(r->sq, node), &inode, NULL) < 0 || !S_ISREG(inode.mode)) {
		answer_error(r, -ENOENT);
		return true;
	}
	answer_fill_entry(r->fs, &inode, &entry);
	entry.entry_valid = 0; /* the next to look up the name is asked for */
	answer_data(r, &entry, sizeof entry);
	return true;
}

/* --- in the one that fetches --- */

struct open_file {
	uint64_t node; /* 0: none */
	int fd;
};

static int open_node(struct open_file *file, int mount, uint64_t node)
{
	char name[sizeof NAME_BEGINS + 16];

	if (file->node == node)
		return file->fd;
	if (file->node != 0)
		close(file->fd);
	snprintf(name, sizeof name, NAME_BEGINS "%" PRIx64, node);
	file->fd = openat(mount, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	file->node = file->fd < 0 ? 0 : node;
	return file->fd;
}

void imagefs_fetch_rests(int mount, int rests)
{
	struct open_file files[FILES] = { 0 };
	struct rest rest;

	while (RETRY(recv(rests, &rest, sizeof rest, 0)) == sizeof rest) {
		int fd = open_node(&files[rest.node * 0x9e3779b97f4a7c15u >> 61], mount, rest.node);

		_Static_assert(FILES == 1u << 3, "the hash has as many bits");
		if (fd < 0 || rest.end > INT64_MAX || rest.end - rest.offset > BLOCK_MAX)
			continue;
		for (uint64_t at = rest.offset; at < rest.end; at += ASKED_MAX)
			posix_fadvise(fd, (off_t)at, (off_t)(rest.end - at < ASKED_MAX ? rest.end - at : ASKED_MAX), POSIX_FADV_WILLNEED);
	}
}
