#include "names.h"

#include <string.h>

int names_make(struct names *names, size_t most)
{
	size_t room = 8;

	/* Half of it stays free, so that looking ends soon. */
	while (room < most * 2)
		room *= 2;
	names->mask = room - 1;
	names->slots = calloc(room, sizeof *names->slots);
	return names->slots == NULL ? -ENOMEM : 0;
}

static bool ends(char c)
{
	return c == '=' || c == '\0';
}

bool names_add(struct names *names, const char *name)
{
	uint32_t hash = 2166136261; /* FNV-1a */
	size_t len = 0, at;

	for (; !ends(name[len]); len++)
		hash = (hash ^ (unsigned char)name[len]) * 16777619;
	for (at = hash & names->mask; names->slots[at] != NULL; at = (at + 1) & names->mask) {
		if (strncmp(names->slots[at], name, len) == 0 && ends(names->slots[at][len]))
			return false;
	}
	names->slots[at] = name;
	return true;
}

bool is_assignment(const char *entry)
{
	return entry[0] != '=' && strchr(entry, '=') != NULL;
}
