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

/* The limits of a group and of all above it. */
static uint64_t limit_of_group(const char *files, const char *hierarchy, char *group, const char *name)
{
	uint64_t least = UINT64_MAX;
	char path[2 * PATH_MAX];

	for (;;) {
		char *slash = strrchr(group, '/');
		uint64_t limit;

		snprintf(path, sizeof path, "%s" CGROUPS "%s%s/%s", files, hierarchy, group, name);
		limit = limit_in(path);
		least = limit < least ? limit : least;
		if (slash == NULL)
			return least;
		*slash = '\0';
	}
}

/* One line of /proc/self/cgroup: "0::/path" is version 2, "4:memory:/path" the memory hierarchy of version 1. */
static uint64_t limit_of_line(const char *files, char *line)
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
		return limit_of_group(files, "", group, "memory.max");
	if (strcmp(controllers + 1, "memory") == 0)
		return limit_of_group(files, "/memory", group, "memory.limit_in_bytes");
	return UINT64_MAX;
}

uint64_t memory_limit(const char *files)
{
	struct sysinfo info;
	uint64_t least = sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : UINT64_MAX;
	char line[PATH_MAX + 128];
	FILE *file;

	snprintf(line, sizeof line, "%s/proc/self/cgroup", files);
	file = fopen(line, "re");
	while (file != NULL && fgets(line, sizeof line, file) != NULL) {
		uint64_t limit = limit_of_line(files, line);

		least = limit < least ? limit : least;
	}
	if (file != NULL)
		fclose(file);
	return least;
}
