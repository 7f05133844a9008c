/* Names of environment variables. */
#ifndef TSRUN_NAMES_H
#define TSRUN_NAMES_H

#include "util.h"

/* A set of names. Each ends with its string, or at a '='; the strings have to stay. */
struct names {
	const char **slots; /* to be freed */
	size_t mask;
};

/* For up to MOST names. */
int WARN_UNUSED names_make(struct names *names, size_t most);
/* False: it is there already. */
bool names_add(struct names *names, const char *name);

/* NAME=value with a name: the kernel passes on others, too, which are no variables. */
bool is_assignment(const char *entry);

#endif
