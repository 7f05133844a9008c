#include "layout.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>

#include "server_wire.h"
#include "statx.h"

/* --- which runs share --- */

/* Whether any other run could have the same mount, and nobody would notice. */
static bool is_common(const struct op *op)
{
	switch (op->kind) {
	case OP_unshare:
		return op->unshare.flags == FLAG_unshare_mount;
	case OP_root:
		return op->root.flags == 0;
	case OP_bind:
		return (op->bind.flags & FLAG_bind_inside) == 0;
	case OP_directory:
	case OP_file:
	case OP_symlink:
	case OP_uncovered:
	case OP_bind_cwd:
	case OP_scope:
	case OP_hot:
	case OP_stage:
	case OP_image_mount:
		return true;
	default:
		return false;
	}
}

static bool is_shareable(const struct run *run)
{
	/* A payload with rights could change it. */
	if (run_keeps_rights(run) || run->here.mount == 0)
		return false;
	for (size_t i = 0; run->plan->ops[i].kind != OP_pivot; i++) {
		const struct source *source = &run->sources[i];
		enum op_kind kind = run->plan->ops[i].kind;

		if (!is_common(&run->plan->ops[i]) || ((kind == OP_bind || kind == OP_bind_cwd) && source->mount == 0 && !source->left_out))
			return false;
	}
	return true;
}

size_t layout_of(const struct run *run, void **bytes)
{
	const struct plan *plan = run->plan;
	size_t count = 0, len;
	struct source *sources;

	*bytes = NULL;
	if (!is_shareable(run))
		return 0;
	for (size_t i = 0; plan->ops[i].kind != OP_pivot; i++)
		count += plan->ops[i].kind == OP_bind || plan->ops[i].kind == OP_bind_cwd;
	len = (count + 1) * sizeof *sources + plan->mounting_len;
	sources = len > WIRE_LAYOUT_MAX ? NULL : malloc(len);
	if (sources == NULL)
		return 0;
	*bytes = sources;
	*sources++ = run->here;
	for (size_t i = 0; plan->ops[i].kind != OP_pivot; i++) {
		if (plan->ops[i].kind == OP_bind || plan->ops[i].kind == OP_bind_cwd)
			*sources++ = run->sources[i];
	}
	memcpy(sources, plan->mounting, plan->mounting_len);
	return len;
}

/* --- making one, and entering it --- */

void layout_begin(struct run *run)
{
	run->host_mounts = run->joined.finish ? open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC) : -1;
}

void layout_unshared(struct run *run)
{
	run->namespace = run->joined.server_fd < 0 ? -1 : open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (run->namespace >= 0 && run->host_mounts >= 0)
		return;
	server_leave_namespace(&run->joined, run->namespace, -1);
	close_fd(&run->namespace);
}

/* Whether who enters the namespace comes out at its new root; not so when the caller's root was another than the namespace's. */
static bool leads_to_root(const struct run *run)
{
	struct stat inside, root;

	return setns(run->namespace, CLONE_NEWNS) == 0 && stat("/", &inside) == 0 && fstat(run->root.fd, &root) == 0 && inside.st_dev == root.st_dev &&
	       inside.st_ino == root.st_ino;
}

int layout_finish(struct run *run, struct err *err)
{
	int result = 0;

	if (run->namespace < 0)
		return 0;
	if (!leads_to_root(run)) {
		close_fd(&run->host_mounts);
		result = root_enter(&run->root, false, err);
	}
	server_leave_namespace(&run->joined, run->namespace, run->host_mounts);
	close_fd(&run->namespace);
	close_fd(&run->host_mounts);
	return result;
}

int layout_enter(struct run *run)
{
	if (setns(run->joined.finished_fd, CLONE_NEWNS) < 0)
		return -errno;
	close_fd(&run->joined.finished_fd);
	close_fd(&run->joined.server_fd);
	return 0;
}
