/* `tsrun @codec unxz FILE`: the content of an xz file, to stdout; with at most 256 MiB of memory.
 *
 * `tsrun @codec xz|lz4 BLOCKSIZE`: compresses SquashFS blocks for the TypeScript writer, which has no encoder for these. An internal role.
 *
 * Reads blocks from stdin and answers each on stdout, in order: a u32 (little-endian) length and that many bytes, both ways. A block has 1 to
 * BLOCKSIZE bytes, or up to 8192 when that is more (metadata). An answer of length 0 means that the block would not get shorter. Ends at the end
 * of stdin.
 *
 * Exit status: 0; 1 after a message on stderr; 2 for wrong arguments. */
#ifndef TSRUN_CODEC_H
#define TSRUN_CODEC_H

/* argv[0] is the role's name. */
int codec_main(int argc, char **argv);

#endif
