#include "links.h"

#include <string.h>

struct link_name {
	uint64_t a, b;
	char *name; /* NULL: a free slot */
};

static struct link_name *slot_of(struct link_name *table, size_t cap, uint64_t a, uint64_t b)
{
	size_t at = (size_t)(((a ^ b << 40) * 0x9e3779b97f4a7c15u) >> 20) % cap;

	while (table[at].name != NULL && (table[at].a != a || table[at].b != b))
		at = (at + 1) % cap;
	return &table[at];
}

static int make_room(struct links *links)
{
	size_t cap = links->cap * 2 + 256;
	struct link_name *bigger;

	if (links->count * 2 < links->cap)
		return 0;
	bigger = calloc(cap, sizeof *bigger);
	if (bigger == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < links->cap; i++)
		if (links->table[i].name != NULL)
			*slot_of(bigger, cap, links->table[i].a, links->table[i].b) = links->table[i];
	free(links->table);
	links->table = bigger;
	links->cap = cap;
	return 0;
}

int links_find(struct links *links, uint64_t a, uint64_t b, const char *name, const char **first)
{
	struct link_name *slot;

	if (make_room(links) < 0)
		return -ENOMEM;
	slot = slot_of(links->table, links->cap, a, b);
	*first = slot->name;
	if (slot->name != NULL)
		return 0;
	*slot = (struct link_name) { a, b, strdup(name) };
	if (slot->name == NULL)
		return -ENOMEM;
	links->count++;
	return 0;
}

void links_free(struct links *links)
{
	for (size_t i = 0; i < links->cap; i++)
		free(links->table[i].name);
	free(links->table);
	*links = (struct links) { 0 };
}
