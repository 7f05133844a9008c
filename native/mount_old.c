/* Binds and their flags by mount(2) alone. A bind takes its flags in a second call, mount by mount, and the mounts below are found in
 * /proc/self/mountinfo (proc(5)). That names mount points as seen from the process's root: what lies over "/" is reached through "/..". */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "mount.h"

#define OVER_ROOT "/.."

int old_bind(int source, int target, bool recursive)
{
	char from[32], to[32];

	snprintf(from, sizeof from, "/proc/self/fd/%d", source);
	snprintf(to, sizeof to, "/proc/self/fd/%d", target);
	return mount(from, to, NULL, MS_BIND | (recursive ? MS_REC : 0u), NULL) < 0 ? -errno : 0;
}

int old_reopen(int target)
{
	char link[32], path[sizeof OVER_ROOT + PATH_MAX] = OVER_ROOT;
	ssize_t len;
	int fd;

	snprintf(link, sizeof link, "/proc/self/fd/%d", target);
	len = readlink(link, path + strlen(OVER_ROOT), PATH_MAX - 1);
	if (len < 0)
		return -errno;
	path[strlen(OVER_ROOT) + (size_t)len] = '\0';
	fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* One line of mountinfo: "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS …". */
struct mount_line {
	int id;
	int parent;
	unsigned long flags; /* those that a remount has to repeat, because they may not be taken away */
	char point[PATH_MAX];
};

/* Blanks and backslashes are written as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		unsigned code;

		if (*from == '\\' && sscanf(from + 1, "%3o", &code) == 1) {
			*to++ = (char)code;
			from += 3;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
}

static unsigned long read_options(const char *options)
{
	static const struct {
		const char *word;
		unsigned long flag;
	} words[] = {{"ro", MS_RDONLY}, {"nosuid", MS_NOSUID}, {"nodev", MS_NODEV}, {"noexec", MS_NOEXEC}};
	unsigned long flags = 0;

	while (*options != '\0') {
		size_t len = strcspn(options, ",");

		for (size_t i = 0; i < ARRAY_LEN(words); i++) {
			if (strlen(words[i].word) == len && strncmp(options, words[i].word, len) == 0)
				flags |= words[i].flag;
		}
		options += len + (options[len] == ',');
	}
	return flags;
}

static bool read_line(const char *text, struct mount_line *line)
{
	char options[1024];

	if (sscanf(text, "%d %d %*s %*s %4095s %1023s", &line->id, &line->parent, line->point, options) != 4)
		return false;
	unescape(line->point);
	line->flags = read_options(options);
	return true;
}

static int mount_id(int fd)
{
	char path[40], text[64];
	FILE *info;
	int id = -1;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "re");
	while (info != NULL && id < 0 && fgets(text, sizeof text, info) != NULL)
		(void)sscanf(text, "mnt_id: %d", &id);
	if (info != NULL)
		fclose(info);
	return id;
}

static int remount(const struct mount_line *line, const struct bind_flags *flags)
{
	unsigned long all = line->flags | (flags->set_ids ? 0 : MS_NOSUID) | (flags->devices ? 0 : MS_NODEV) | (flags->read_only ? MS_RDONLY : 0);
	char path[sizeof OVER_ROOT + PATH_MAX];

	snprintf(path, sizeof path, OVER_ROOT "%s", line->point);
	if (mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | all, NULL) == 0)
		return 0;
	/* Out of reach, below another mount: then for the payload too. */
	return errno == EACCES || errno == EINVAL || errno == ENOENT ? 0 : -errno;
}

struct id_list {
	int *ids;
	size_t count, room;
};

static int remember(struct id_list *list, int id)
{
	if (list->count == list->room) {
		size_t room = list->room == 0 ? 64 : list->room * 2;
		int *ids = realloc(list->ids, room * sizeof *ids);

		if (ids == NULL)
			return -ENOMEM;
		list->ids = ids;
		list->room = room;
	}
	list->ids[list->count++] = id;
	return 0;
}

static bool holds(const struct id_list *list, int id)
{
	for (size_t i = 0; i < list->count; i++) {
		if (list->ids[i] == id)
			return true;
	}
	return false;
}

/* Parents come before their children in the table. */
static int restrict_listed(FILE *table, int top, struct id_list *done, const struct bind_flags *flags)
{
	cleanup_free char *text = NULL;
	size_t room = 0;

	while (getline(&text, &room, table) > 0) {
		struct mount_line line;
		int result;

		if (!read_line(text, &line) || (line.id != top && !(flags->recursive && holds(done, line.parent))))
			continue;
		result = remember(done, line.id);
		if (result == 0)
			result = remount(&line, flags);
		if (result < 0)
			return result;
	}
	/* The one that was asked for must have been among them. */
	return done->count == 0 ? -EINVAL : 0;
}

int old_restrict(int fd, const struct bind_flags *flags)
{
	struct id_list done = {0};
	FILE *table = fopen("/proc/self/mountinfo", "re");
	int result = table == NULL ? -errno : restrict_listed(table, mount_id(fd), &done, flags);

	if (table != NULL)
		fclose(table);
	free(done.ids);
	return result;
}
