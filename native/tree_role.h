/* `tsrun @tree …`: questions about the files of a build's tree, asked from inside of it, where the kernel has put its layers together and every
 * path leads where it leads the step's programs. An internal role, like @image. Every field is ended by NUL.
 *
 *   @tree look PATH…          six fields for each PATH: errno in decimal (0: the rest holds), the path behind all symbolic links, type (one of
 *                             d f b c p s), permission bits in octal, size in bytes, time of change in seconds
 *   @tree names DIRECTORY…    for each: errno, then for each name in it: name, type (l for a link; ? where the file system does not say), and an
 *                             empty field at the end
 *   @tree read LIMIT PATH…    for each: errno, length in decimal; then so many bytes of content. A file longer than LIMIT is EFBIG.
 *   @tree put [whole]         the tar stream on stdin into the current directory; see tree_put.h
 *   @tree take real|recorded DIRECTORY   the directory as an archive on stdout, see tree_tar.h; owners as stat shows them, or as recorded
 *   @tree cat FILE            its bytes
 *   @tree host HOST PLACE DIRECTORY PROGRAM ARG…
 *                             with the host's tree mounted at HOST: shows the root at PLACE of the host's tree, makes that the root, and
 *                             executes PROGRAM in DIRECTORY of it
 *   @tree shell PROGRAM ARG…  in a process group of its own, which has the terminal on stdin
 *
 * Exit status: 0; 1 when the output cannot be written; 2 for wrong arguments. */
#ifndef TSRUN_TREE_ROLE_H
#define TSRUN_TREE_ROLE_H

int tree_role_main(int argc, char **argv); /* argv[0] is "@tree" */

#endif
