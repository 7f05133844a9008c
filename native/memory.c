#include "memory.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#define CGROUPS "/sys/fs/cgroup"

/* A limit file holds a number, or "max". */
static uint64_t limit_in(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned long long value;
	int found;

	if (file == NULL)
		return UINT64_MAX;
	found = fscanf(file, "%llu", &value);
	fclose(file);
	return found == 1 ? value : UINT64_MAX;
}

/* The number behind `word` in a file of lines "word number"; 0 where there is none. */
static uint64_t number_in(const char *path, const char *word)
{
	FILE *file = fopen(path, "re");
	char line[256];
	unsigned long long value = 0;
	size_t len = strlen(word);

	while (file != NULL && fgets(line, sizeof line, file) != NULL)
		if (strncmp(line, word, len) == 0 && (line[len] == ' ' || line[len] == ':') && sscanf(line + len + 1, "%llu", &value) == 1)
			break;
	if (file != NULL)
		fclose(file);
	return value;
}

/* What is asked of each group: its limit, or what is free within it. */
enum question { LIMIT, AVAILABLE };
struct names {
	const char *limit, *usage, *dropped[2]; /* the last of memory.stat: page cache of files, which gives way */
};
static const struct names names_2 = { "memory.max", "memory.current", { "inactive_file", "active_file" } };
static const struct names names_1 = { "memory.limit_in_bytes", "memory.usage_in_bytes", { "total_inactive_file", "total_active_file" } };

static uint64_t answer_of(const char *directory, const struct names *names, enum question question)
{
	char path[2 * PATH_MAX + 64];
	uint64_t limit, used, dropped;

	snprintf(path, sizeof path, "%s/%s", directory, names->limit);
	limit = limit_in(path);
	if (question == LIMIT || limit == UINT64_MAX)
		return limit;
	snprintf(path, sizeof path, "%s/%s", directory, names->usage);
	used = limit_in(path);
	snprintf(path, sizeof path, "%s/memory.stat", directory);
	dropped = number_in(path, names->dropped[0]) + number_in(path, names->dropped[1]);
	if (used == UINT64_MAX)
		return limit;
	used = dropped < used ? used - dropped : 0;
	return used < limit ? limit - used : 0;
}

/* The least of a group and of all above it. */
static uint64_t least_of_group(const char *files, const char *hierarchy, char *group, const struct names *names, enum question question)
{
	uint64_t least = UINT64_MAX;
	char path[2 * PATH_MAX];

	for (;;) {
		char *slash = strrchr(group, '/');
		uint64_t limit;

		snprintf(path, sizeof path, "%s" CGROUPS "%s%s", files, hierarchy, group);
		limit = answer_of(path, names, question);
		least = limit < least ? limit : least;
		if (slash == NULL)
			return least;
		*slash = '\0';
	}
}

/* One line of /proc/self/cgroup: "0::/path" is version 2, "4:memory:/path" the memory hierarchy of version 1. */
static uint64_t least_of_line(const char *files, char *line, enum question question)
{
	char *controllers = strchr(line, ':');
	char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');

	if (group == NULL)
		return UINT64_MAX;
	*group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	if (group[0] == '/' && group[1] == '\0')
		*group = '\0';
	if (controllers[1] == '\0')
		return least_of_group(files, "", group, &names_2, question);
	if (strcmp(controllers + 1, "memory") == 0)
		return least_of_group(files, "/memory", group, &names_1, question);
	return UINT64_MAX;
}

/* Of all control groups that this process is in. */
static uint64_t least_of_groups(const char *files, enum question question)
{
	uint64_t least = UINT64_MAX;
	char line[PATH_MAX + 128];
	FILE *file;

	snprintf(line, sizeof line, "%s/proc/self/cgroup", files);
	file = fopen(line, "re");
	while (file != NULL && fgets(line, sizeof line, file) != NULL) {
		uint64_t one = least_of_line(files, line, question);

		least = one < least ? one : least;
	}
	if (file != NULL)
		fclose(file);
	return least;
}

uint64_t memory_limit(const char *files)
{
	struct sysinfo info;
	uint64_t all = sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : UINT64_MAX;
	uint64_t least = least_of_groups(files, LIMIT);

	return least < all ? least : all;
}

uint64_t memory_available(const char *files)
{
	uint64_t least = least_of_groups(files, AVAILABLE);
	char path[PATH_MAX];
	uint64_t all;

	snprintf(path, sizeof path, "%s/proc/meminfo", files);
	all = number_in(path, "MemAvailable") * 1024;
	return all > 0 && all < least ? all : least;
}
