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

static bool has_source(const struct op *op)
{
	return op->kind == OP_bind || op->kind == OP_bind_cwd;
}

bool layout_is_own(const struct op *op)
{
	return (op->kind == OP_bind && (op->bind.flags & FLAG_bind_own) != 0) || (op->kind == OP_bind_cwd && (op->bind_cwd.flags & FLAG_bind_cwd_own) != 0);
}

/* --- as bytes --- */

/* Before the base: as many sources follow as it has binds, then its ops, from unshare to pivot. */
struct head {
	struct source here;
	uint64_t binds;
};

/* Behind it, for each op that is the call's own; then the op. */
struct own {
	uint64_t index;
	struct source source;
};

static bool lies_in(const struct op *op, const struct op *other)
{
	const char *path = op_target(op), *directory = op_target(other);
	size_t len = strlen(directory);

	return path != NULL && strncmp(path, directory, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Whether what is the call's own can be mounted in a root that has all else. */
static bool own_comes_last(const struct run *run, size_t unshare)
{
	const struct op *ops = run->plan->ops;

	for (size_t i = unshare; ops[i].kind != OP_pivot; i++) {
		if (!layout_is_own(&ops[i]))
			continue;
		/* The root will lie over it then, and be seen in it. */
		if (run->sources[i].device == run->here.device && run->sources[i].inode == run->here.inode)
			return false;
		for (size_t later = i + 1; ops[later].kind != OP_pivot; later++) {
			if (!layout_is_own(&ops[later]) && lies_in(&ops[later], &ops[i]))
				return false;
		}
	}
	return true;
}

static void append(char **at, const void *bytes, size_t len)
{
	memcpy(*at, bytes, len);
	*at += len;
}

/* Each op is followed by another one: the last of a plan is exec. */
static void append_op(char **at, const struct op *op)
{
	append(at, op->text, (size_t)(op[1].text - op->text));
}

size_t layout_of(const struct run *run, void **bytes, size_t *base)
{
	const struct op *ops = run->plan->ops;
	struct head head = {.here = run->here};
	size_t unshare = 0, pivot, len = sizeof head;
	char *at;

	*bytes = NULL;
	*base = 0;
	if (!is_shareable(run))
		return 0;
	while (ops[unshare].kind != OP_unshare)
		unshare++;
	for (pivot = unshare; ops[pivot].kind != OP_pivot; pivot++) {
		bool own = layout_is_own(&ops[pivot]);

		head.binds += has_source(&ops[pivot]) && !own;
		len += own ? sizeof(struct own) : has_source(&ops[pivot]) ? sizeof(struct source) : 0;
	}
	len += (size_t)(ops[pivot + 1].text - ops[unshare].text);
	*bytes = at = len > WIRE_LAYOUT_MAX ? NULL : malloc(len);
	if (at == NULL)
		return 0;
	append(&at, &head, sizeof head);
	for (size_t i = unshare; i < pivot; i++) {
		if (has_source(&ops[i]) && !layout_is_own(&ops[i]))
			append(&at, &run->sources[i], sizeof run->sources[i]);
	}
	for (size_t i = unshare; i <= pivot; i++) {
		if (!layout_is_own(&ops[i]))
			append_op(&at, &ops[i]);
	}
	if (own_comes_last(run, unshare))
		*base = (size_t)(at - (char *)*bytes);
	for (size_t i = unshare; i < pivot; i++) {
		if (!layout_is_own(&ops[i]))
			continue;
		append(&at, &(struct own){.index = i - unshare, .source = run->sources[i]}, sizeof(struct own));
		append_op(&at, &ops[i]);
	}
	return len;
}

/* It comes from a process of the same user, which need not be a run. */
static int check_base(const struct plan *plan, uint64_t binds, struct err *err)
{
	uint64_t found = 0;
	size_t last = plan->count - 1;
	bool whole = plan->count > 1 && plan->ops[0].kind == OP_unshare && plan->ops[last].kind == OP_pivot;

	for (size_t i = 0; whole && i < last; i++) {
		found += has_source(&plan->ops[i]);
		whole = is_common(&plan->ops[i]) && plan->ops[i].kind != OP_bind_cwd;
	}
	return whole && found == binds ? 0 : fail(err, EPROTO, "read the layout", "it is none");
}

int layout_read_base(const char *bytes, size_t len, struct run *run, struct plan *plan, struct err *err)
{
	uint64_t sources_len;
	struct head head;
	int result;

	if (len < sizeof head)
		return fail(err, EPROTO, "read the layout", "it is cut off");
	memcpy(&head, bytes, sizeof head);
	bytes += sizeof head;
	len -= sizeof head;
	if (mul_overflows(head.binds, sizeof(struct source), &sources_len) || sources_len >= len)
		return fail(err, EPROTO, "read the layout", "it is cut off");
	result = plan_read_part(bytes + sources_len, len - sources_len, plan, err);
	if (result == 0)
		result = check_base(plan, head.binds, err);
	if (result < 0)
		return result;
	run->sources = calloc(plan->count, sizeof *run->sources);
	if (run->sources == NULL)
		return fail(err, ENOMEM, "read the layout", "%zu ops", plan->count);
	for (size_t i = 0; i < plan->count; i++) {
		if (!has_source(&plan->ops[i]))
			continue;
		memcpy(&run->sources[i], bytes, sizeof *run->sources);
		bytes += sizeof *run->sources;
	}
	return 0;
}

/* --- making one, and entering it --- */

void layout_begin(struct run *run)
{
	if (run->joined.finish)
		run->left.host_mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (run->joined.lend_view)
		run->left.view_mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
}

static void close_left(struct run *run)
{
	close_fd(&run->left.namespace);
	close_fd(&run->left.host_mounts);
	close_fd(&run->left.view);
	close_fd(&run->left.view_mounts);
}

void layout_unshared(struct run *run)
{
	struct server_left *left = &run->left;

	left->namespace = run->joined.server_fd < 0 ? -1 : open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (left->namespace < 0 || left->host_mounts < 0) {
		server_leave_namespace(&run->joined, left);
		close_left(run);
	} else if (run->joined.lend_view) {
		left->view = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
}

void layout_give_up(struct run *run)
{
	close_left(run);
	close_fd(&run->joined.spare_fd);
	close_fd(&run->joined.server_fd);
}

/* Whether who enters the namespace comes out at its new root; not so when the caller's root was another than the namespace's. */
static bool leads_to_root(const struct run *run)
{
	struct stat inside, root;

	return setns(run->left.namespace, CLONE_NEWNS) == 0 && stat("/", &inside) == 0 && fstat(run->root.fd, &root) == 0 && inside.st_dev == root.st_dev &&
	       inside.st_ino == root.st_ino;
}

int layout_finish(struct run *run, struct err *err)
{
	int result = 0;

	if (run->left.namespace < 0)
		return 0;
	if (!leads_to_root(run)) {
		close_fd(&run->left.host_mounts);
		result = root_enter(&run->root, false, err);
	}
	server_leave_namespace(&run->joined, &run->left);
	close_left(run);
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
