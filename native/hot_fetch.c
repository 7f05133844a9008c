/* The hot list's asks, made again ahead of the run that they were recorded of: what the kernel has then, that run need not ask for. */
#include "hot.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

#define READ_MAX (128u << 10) /* the kernel reads no more ahead at a time, whatever it is told */

struct fetching {
	int mount;
	int file; /* the last one that something was asked of, or -1 */
	uint64_t left; /* bytes that may still be asked for */
};

/* Never another file system, nor what a link of a hostile image leads to. */
static int open_beneath(int mount, const char *path, uint64_t flags)
{
	const struct open_how how = { .flags = flags | O_CLOEXEC | O_NOFOLLOW, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV };

	return (int)syscall(SYS_openat2, mount, path, &how, sizeof how);
}

static void list_names(int directory)
{
	char names[32u << 10];

	while (syscall(SYS_getdents64, directory, names, sizeof names) > 0)
		;
}

static void ask_data(struct fetching *fetching, uint64_t offset, uint32_t length)
{
	for (uint64_t end = offset + length; offset < end && fetching->left > 0; offset += READ_MAX) {
		uint64_t part = end - offset < READ_MAX ? end - offset : READ_MAX;

		posix_fadvise(fetching->file, (off_t)offset, (off_t)part, POSIX_FADV_WILLNEED);
		fetching->left -= part < fetching->left ? part : fetching->left;
	}
}

static void make_ask(struct fetching *fetching, const struct hot_ask *ask, const char *path)
{
	static const uint64_t flags[] = { [HOT_INODE] = O_PATH, [HOT_ENTRIES] = O_RDONLY | O_DIRECTORY, [HOT_DATA] = O_RDONLY | O_NONBLOCK | O_NOCTTY };

	if (path[0] != '\0') {
		close_fd(&fetching->file);
		fetching->file = open_beneath(fetching->mount, path, flags[ask->kind]);
	}
	if (fetching->file < 0)
		return;
	if (ask->kind == HOT_ENTRIES)
		list_names(fetching->file);
	else if (ask->kind == HOT_DATA && ask->offset <= (uint64_t)INT64_MAX - ask->length)
		ask_data(fetching, ask->offset, ask->length);
}

static bool known(uint32_t kind)
{
	return kind == HOT_INODE || kind == HOT_ENTRIES || kind == HOT_DATA;
}

void hot_list_fetch(const struct hot_list *list, int mount, uint64_t limit, const _Atomic bool *unused)
{
	struct fetching fetching = { .mount = mount, .file = -1, .left = limit };
	const char *at = list->asks, *end = at + list->asks_size;
	char path[PATH_MAX];
	struct hot_ask ask;

	while (fetching.left > 0 && (size_t)(end - at) >= sizeof ask && !atomic_load(unused)) {
		memcpy(&ask, at, sizeof ask);
		at += sizeof ask;
		if (!known(ask.kind) || ask.path_len > (size_t)(end - at) || ask.path_len >= sizeof path)
			break;
		memcpy(path, at, ask.path_len);
		path[ask.path_len] = '\0';
		at += ask.path_len;
		make_ask(&fetching, &ask, path);
	}
	close_fd(&fetching.file);
}
