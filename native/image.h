/* `tsrun @image …`: what the TypeScript side and the launcher do with the files in an image without mounting it. An internal role: its
 * arguments and output are a contract between the parts of one version, not an interface for users.
 *
 * IMAGE OFFSET SIZE name a SquashFS: a file, the byte where it begins, its length (0: to the end of the file). Numbers are decimal.
 * Paths in an image are followed as a process rooted in it would: symbolic links included, never outside.
 *
 *   @image ls [-d DEPTH] IMAGE OFFSET SIZE [PATH…]     for people: one line for each name: mode, owner, size, date, path, link text
 *   @image tree [-x] [-d DEPTH] IMAGE OFFSET SIZE [PATH…]   for programs: 10 fields for each name, each ended by NUL (a name may hold any byte but NUL):
 *         path       absolute, "/" for the root
 *         type       one of d f l b c p s
 *         mode       permission bits, octal
 *         uid, gid   decimal, as in the image
 *         size       bytes; 0 for what is not a file or link
 *         mtime      seconds since 1970
 *         inode      number, the same for hard links
 *         device     MAJOR:MINOR of b and c, else empty
 *         target     a symbolic link's text, else empty
 *         xattrs     only with -x: NAME=VALUE, for each attribute, both in hexadecimal
 *     PATHs default to "/"; each is listed with what is below it, DEPTH levels deep (default: all of it; 0: only the PATH itself). The last
 *     component of a PATH is not followed. Parents come before children, siblings sorted by bytes.
 *   @image read [-l LIMIT] IMAGE OFFSET SIZE PATH…     several small files at once: for each PATH three fields ended by NUL: PATH, errno in decimal
 *         (0: it was read), length in decimal; then that many bytes of content. A file longer than LIMIT (default 4 MiB) is errno 27 (EFBIG).
 *   @image cat IMAGE OFFSET SIZE PATH…                 the files' bytes
 *   @image pour IMAGE OFFSET SIZE                      the bytes of the files whose paths are on stdin, each ended by NUL; links are not followed
 *   @image xattrs IMAGE OFFSET SIZE                    for each extended attribute of each name: path, attribute's name, length, each ended by NUL; then
 *         that many bytes of value. In the order of `tree`.
 *   @image hot IMAGE OFFSET SIZE                       the image's hot list (hot.h) for the touches on stdin, in their order: for each, ended by NUL: kind (of
 *         enum hot_touch_kind), path (the last link is not followed), offset, length
 *   @image extract IMAGE OFFSET SIZE DEST              DEST must not exist, or be an empty directory; see image_extract
 *   @image info IMAGE OFFSET SIZE                      NAME NUL VALUE NUL: compressor, blockSize, inodes, bytes
 *   @image tar DIRECTORY                               a directory of the host as a PAX archive on stdout; see tree_tar
 *
 * Exit status: 0; 1 after a message on stderr; 2 for wrong arguments. */
#ifndef TSRUN_IMAGE_H
#define TSRUN_IMAGE_H

#include "util.h"

#include <signal.h>

struct image_owners;
int image_main(int argc, char **argv); /* argv[0] is "@image" */

/* Writes all files of the SquashFS at `offset` of `fd` below `dest`, as the calling user: owners are not kept, nor are setuid and setgid
 * bits of files (they would then be somebody else's); modes and times are exact, hard links and holes are kept, user.* xattrs where the file
 * system takes them, devices are skipped. Nothing is written outside of `dest`. When it fails or is interrupted (INT, TERM, HUP), what it has
 * made is removed; when interrupted, the signal is then delivered to the caller. The work is done in a child process, so the caller stays
 * single-threaded and a hostile image cannot reach its memory. `skipped` (may be NULL): number of device nodes left out.
 * With `owners` (else NULL) everything is kept: owners, devices, set-id bits and all xattrs (image_owners.h). */
int WARN_UNUSED image_extract(int fd, uint64_t offset, uint64_t size, const char *dest, struct image_owners *owners, uint64_t *skipped, struct err *err);

/* The work of it, in this process with threads: into the empty directory `dest`. -EINTR once `*interrupted` is not zero. What it has made stays when it fails. */
int WARN_UNUSED image_unpack(int fd, uint64_t offset, uint64_t size, int dest, struct image_owners *owners, const _Atomic int *interrupted, uint64_t *skipped, struct err *err);

/* The child process of image_extract: unpacks, cleans up after itself when that fails, and writes a struct image_outcome to `report`. `mask`: its signals. */
struct image_outcome {
	int rc;
	uint64_t skipped;
	struct err err;
};
NORETURN void image_unpacking(int image, uint64_t offset, uint64_t size, int dest, struct image_owners *owners, int report, const sigset_t *mask);
int image_unpacking_main(int argc, char **argv); /* "@unpack OFFSET SIZE", with the image, DEST and report as descriptors 3, 4 and 5 */

/* Empties a directory; best effort, for what this program has made itself. */
void image_empty(int dir);

/* For the files of this role: an opened image. */
struct squash;
struct squash_cache;
struct image_source {
	int fd;
	struct squash_cache *cache;
	struct squash *squash;
};
int WARN_UNUSED image_open(struct image_source *source, const char *path, const char *offset, const char *size, struct err *err);
void image_close(struct image_source *source);

int image_ls(struct squash *sq, unsigned depth, char **paths, struct err *err);
int image_tree(struct squash *sq, unsigned depth, bool xattrs, char **paths, struct err *err);
int image_read(struct squash *sq, uint64_t limit, char **paths, struct err *err);
int image_pour(struct squash *sq, struct err *err);
int image_xattrs(struct squash *sq, struct err *err);
int image_hot(struct squash *sq, struct err *err);
int image_cat(struct squash *sq, char **paths, struct err *err);

#endif
