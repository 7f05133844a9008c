/* Extended attributes: the user's own, and file capabilities so that tools show them; the rest is about the system the image was made on. */
#include "internal.h"

#include <string.h>

static bool is_shown_xattr(const char *name)
{
	return strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0;
}

static void reply_xattr(const struct request *r, ssize_t len, uint32_t asked, const char *data, const struct err *err)
{
	struct fuse_getxattr_out size = { .size = len > 0 ? (uint32_t)len : 0 };

	if (len < 0)
		answer_failure(r, (int)len, err);
	else if (asked == 0)
		answer_data(r, &size, sizeof size);
	else
		answer_data(r, data, (size_t)len);
}

void do_xattr(const struct request *r, bool list)
{
	const struct fuse_getxattr_in *in = (const void *)r->arg;
	const char *name = r->arg + sizeof *in;
	struct squash_inode inode;
	struct err err = { 0 };
	char *value cleanup_free = NULL;
	size_t cap;
	ssize_t len;

	if (!r->fs->has_xattrs) {
		answer_error(r, -ENOSYS);
		return;
	}
	if (r->arg_len < sizeof *in || (!list && memchr(name, 0, r->arg_len - sizeof *in) == NULL)) {
		answer_error(r, -EINVAL);
		return;
	}
	if (!list && !is_shown_xattr(name)) {
		answer_error(r, -ENODATA);
		return;
	}
	cap = in->size < 65536 ? in->size : 65536;
	len = answer_stat(r, &inode, &err);
	if (len == 0 && cap > 0 && (value = malloc(cap)) == NULL)
		len = -ENOMEM;
	if (len == 0)
		len = list ? squash_listxattr(r->sq, &inode, is_shown_xattr, value, cap, &err)
				   : squash_getxattr(r->sq, &inode, name, value, cap, &err);
	reply_xattr(r, len, in->size, value, &err);
}
