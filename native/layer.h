/* `tsrun @layer …`: what the build engine does with the directories that steps have written. An internal role: its arguments and output are a contract between the
 * parts of one version, not an interface for users. All of it is done as root of a user namespace of its own: of the caller's ids alone, or, with
 *   -m NEWUIDMAP NEWGIDMAP UID_MAP GID_MAP
 * of several (fields of plan.def's userns_ranges). So modes keep nobody out, and owners are those the step saw.
 *
 *   @layer [-m …] tar DIRECTORY [TABLE]       the `upper` of a step as one layer of an OCI image (image-spec, layer.md), a PAX archive on stdout; see tree_tar().
 *         Without -m owners come from records (native/owners.h), and TABLE is the file of the `owners` op; "" or none: DIRECTORY/.tsrun-owners, where there is one. A tree without
 *         marks of an overlay (a base, an image built in place) is written whole.
 *   @layer [-m …] unpack IMAGE OFFSET SIZE DIRECTORY [TABLE]   the SquashFS at OFFSET of IMAGE (SIZE 0: to its end) into DIRECTORY, which is missing or
 *         empty: with all modes, and with its owners and devices as records, owners with -m as real ones.
 *   @layer [-m …] points DIRECTORY PATH…      makes what is missing for a mount on each PATH of the tree, a directory where it ends with "/"; says on stdout what it
 *         has made, each path followed by NUL. Links lead where they lead inside the tree; the directories keep their times.
 *   @layer [-m …] unpoint DIRECTORY PATH…     takes those paths away again, the last one first; what is not empty stays.
 *   @layer [-m …] own UID GID FILE            gives it to these ids (decimal) of the namespace, not following a link.
 *   @layer [-m …] remove DIRECTORY…           the trees, whatever their modes; what is not there is no error. Neither links nor mounts are followed.
 *   @layer [-m …] sync DIRECTORY              waits until all that has been written to its file system is on the disk.
 *   @layer [-m …] probe DIRECTORY             what steps can use there, NAME NUL VALUE NUL: overlay, xattrs, notifier; VALUE is "yes", or why not.
 *
 * Before all of it may stand -p PARENT: it does not outlive that process, which started it (without it: whoever is its parent by then). Exit status: 0;
 * 1 after a message on stderr; 2 for wrong arguments; 128 + N after signal N of INT, TERM, HUP (unpack has then removed what it made). */
#ifndef TSRUN_LAYER_H
#define TSRUN_LAYER_H

#include <signal.h>

#include "util.h"

int layer_main(int argc, char **argv); /* argv[0] is "@layer" */

/* Removes `path`. -ENOENT is no failure. Depth is bounded by the file system alone. */
int WARN_UNUSED layer_remove(const char *path, struct err *err);

/* DIRECTORY PATH… NULL */
int WARN_UNUSED layer_points(char **args, struct err *err);
int WARN_UNUSED layer_unpoint(char **args, int count, struct err *err);

/* Writes the answers to stdout. */
int WARN_UNUSED layer_probe(const char *directory, struct err *err);

#endif
