/* A directory of the host as an archive. */
#ifndef TSRUN_TREE_TAR_H
#define TSRUN_TREE_TAR_H

#include "owners.h"

/* How to read a tree that the steps of a build have written; see native/owners.h. */
struct tree_records {
	const struct owner_table *table; /* may be NULL */
	bool real_owners;                /* of records only devices are meant */
};

/* Writes directory `path` to `out` as a PAX archive: names relative ("./bin/sh"), the directory itself first, parents before children, siblings sorted by bytes; owners
 * as numbers, modes, times with nanoseconds (`mtime`), xattrs (SCHILY.xattr.NAME, value's bytes as they are), hard links, devices and fifos. Sockets
 * are left out, as is OWNER_TABLE_NAME at the top; other file systems' mount points are left empty.
 * With `records` (else NULL) owners, devices and xattrs are the recorded ones, and an overlay's marks become an OCI layer's: what is deleted `.wh.NAME`, a directory that
 * hides those below it has `.wh..wh..opq`, first. */
int WARN_UNUSED tree_tar(const char *path, int out, const struct tree_records *records, struct err *err);

#endif
