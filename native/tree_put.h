/* A tar stream (tar_in.h) into the current directory of a build's tree, over what is there, with its extended attributes (SCHILY.xattr.*). Names are relative,
 * without "." and "..". Symbolic links on the way to a name are followed, the name itself is replaced; a directory over a directory (or over a link to one) keeps
 * what is in it. */
#ifndef TSRUN_TREE_PUT_H
#define TSRUN_TREE_PUT_H

#include "util.h"

/* `whole`: directories, too, get the times of their entries. */
int WARN_UNUSED tree_put(int in, bool whole, struct err *err);

#endif
