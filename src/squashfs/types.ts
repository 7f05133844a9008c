/**
 * The words of the SquashFS writer: what goes in (entry metadata, options), what comes out (content handles, the result).
 * Format: SquashFS 4.0 as read by Linux (fs/squashfs/squashfs_fs.h) and squashfs-tools.
 */

import type { BlockList, KnownImage } from './known-blocks.ts';

/** Numbers are the super block's compressor ids. */
export const COMPRESSOR_IDS = { gzip: 1, xz: 4, lz4: 5, zstd: 6 } as const;
export type Compressor = keyof typeof COMPRESSOR_IDS;

/** An extended attribute; `name` with its namespace prefix ("security.capability"), both as bytes. */
export type Xattr = { readonly name: Uint8Array; readonly value: Uint8Array };

/**
 * What every entry carries. `mode` holds permission, setuid, setgid and sticky bits (0o7777; other bits are ignored).
 * `mtime` is in whole seconds; what lies outside 0 … 2³²-1 is clamped, and `mtimeNanos` cannot be held: both are counted in the result's notes.
 * The same holds for xattrs outside user., trusted. and security. (ACLs are system.posix_acl_*).
 */
export type Meta = {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNanos?: number | undefined;
  readonly xattrs?: readonly Xattr[] | undefined;
};

export type NodeKind = 'directory' | 'file' | 'symlink' | 'block' | 'character' | 'fifo' | 'socket';

declare const contentBrand: unique symbol;
/** Handle of a file's stored bytes, given out by `Writer.endFile`; valid only with the writer it came from. */
export type FileContent = number & { readonly [contentBrand]: true };

export type WriterOptions = {
  /** Open for reading and writing, seekable. The writer moves back to overwrite duplicates and truncates behind the image. */
  readonly fd: number;
  /** Where in the file the image starts (bytes); a SIF puts its header before. Default 0. */
  readonly offset?: number | undefined;
  readonly compressor?: Compressor | undefined;
  /** zstd 1…22 (default 3), gzip 1…9 (default 6); xz and lz4 take none. */
  readonly level?: number | undefined;
  /** Power of two, 4 KiB … 1 MiB. Default 128 KiB. */
  readonly blockSize?: number | undefined;
  /** Compressing threads; the bytes written do not depend on it. Default min(cores, 3), which keeps the process below 600 MB. */
  readonly threads?: number | undefined;
  /** Seconds for the super block. Default: the newest mtime in the tree. */
  readonly mkfsTime?: number | undefined;
  /** Program and leading arguments of the block codec for xz and lz4, as ['/opt/tsrun/bin/tsrun', '@codec']. */
  readonly codecCommand?: readonly string[] | undefined;
  /**
   * Images whose blocks need not be compressed again; an empty list: there are none, but the result is to list its own blocks for a later writer.
   * The bytes written are the same. Blocks of more than 128 KiB are always compressed.
   */
  readonly known?: readonly KnownImage[] | undefined;
  /** Entry file of the compressing threads. Default: worker.ts beside this file, or squashfs-worker.js beside the bundle. */
  readonly workerUrl?: URL | undefined;
};

export type WriteResult = {
  /** Length of the image with its padding to 4096; the file ends at offset + bytes. */
  readonly bytes: number;
  /** "sha256:…": see README.md, "Tree digest". */
  readonly treeDigest: string;
  readonly inodes: number;
  readonly directories: number;
  readonly files: number;
  /** Sum of the sizes of all regular files, hard links counted once. */
  readonly contentBytes: number;
  /** Files (and runs of blocks) that share their stored bytes with an earlier one, and the content bytes not stored because of it. */
  readonly duplicates: { readonly files: number; readonly bytes: number };
  /** Of all data and fragment blocks, when `known` was given. */
  readonly blocks: BlockList | undefined;
  /** What the format could not hold, one sentence each; empty when the image is exact. */
  readonly notes: readonly string[];
};
