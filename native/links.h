/* Which names hard links already have: a hash table from an inode (two numbers, such as device and inode) to the first name seen. */
#ifndef TSRUN_LINKS_H
#define TSRUN_LINKS_H

#include "util.h"

struct links {
	struct link_name *table;
	size_t count, cap;
};

/* `first` is the name the inode was first seen with, or NULL: then `name` is remembered (copied). */
int WARN_UNUSED links_find(struct links *links, uint64_t a, uint64_t b, const char *name, const char **first);
void links_free(struct links *links);

#endif
