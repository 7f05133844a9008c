/**
 * The SquashFS 4.0 writer: file contents are streamed in one after another, the tree of names comes last.
 *
 *     intake ─► data slabs ─► threads ─► placement ─► output          finish: tree ─► order ─► tables ─► super block
 */
import { createContents, hashOf } from './contents.ts';
import { createIntake } from './intake.ts';
import { createBlockList, knownMemory } from './known-blocks.ts';
import { notesOf } from './notes.ts';
import { checkOptions } from './options.ts';
import { createOutput } from './output.ts';
import { createPlacement, FRAGMENT_SLABS } from './placement.ts';
import { createPool } from './pool.ts';
import { CHUNK_BYTES } from './slab.ts';
import { compressorOptions, encodeSuperblock, SUPERBLOCK_BYTES } from './superblock.ts';
import { writeTables } from './tables.ts';
import type { Tree } from './tree.ts';
import { KIND } from './tree.ts';
import { treeDigest } from './tree-digest.ts';
import type { OrderOptions, TreeOrder } from './tree-order.ts';
import { orderTree } from './tree-order.ts';
import type { FileContent, WriteResult, WriterOptions } from './types.ts';

/**
 * Files are fed one after another, in an order the caller chooses and which decides the bytes of the image.
 * `write` and `hole` return a promise only when they have to wait: await it before the next call. All else but finish is synchronous.
 */
export type Writer = {
  /** `size`: the file's length in bytes, holes included. E_SQUASHFS_SIZE beyond 2²⁴ blocks a file or 2²⁵ in all. */
  beginFile(size: number): void;
  /** The chunk may be reused as soon as the call (or its promise) is done. */
  write(chunk: Uint8Array): void | Promise<void>;
  /** The next `length` bytes are zeros. Whole blocks of zeros are stored as holes, however they were given. */
  hole(length: number): void | Promise<void>;
  /** Throws E_SQUASHFS_CONTENT unless exactly `size` bytes were given. */
  endFile(): FileContent;
  /** Writes all tables and the super block, stops the threads, cuts the file behind the image. Nothing is synced to disk. */
  finish(tree: Tree, options?: OrderOptions): Promise<WriteResult>;
  /** Stops the threads and forgets everything; the file is left as it is. Harmless after finish. */
  abort(): Promise<void>;
};

const PADDING = 4096;

/** Starts the compressing threads. Errors: E_SQUASHFS_OPTION for options the format or this build cannot serve. */
export const createSquashfsWriter = (options: WriterOptions): Writer => {
  const { codec, threads, offset } = checkOptions(options);
  const { blockSize, compressor } = codec;
  const contents = createContents();
  const output = createOutput(options.fd, offset);
  const optionBytes = compressorOptions(compressor, codec.level);
  output.position = SUPERBLOCK_BYTES;
  output.append(optionBytes);
  // The digest of a larger block is one of digests: a block with these for content would pass for it.
  const images = blockSize > CHUNK_BYTES ? undefined : options.known;
  const known = images === undefined ? undefined : knownMemory(images);
  const blocks = images === undefined ? undefined : createBlockList();
  const pool = createPool({ threads, fragmentSlabs: FRAGMENT_SLABS, codec, known, workerUrl: options.workerUrl });
  const placement = createPlacement({ blockSize, contents, pool, output, stored: blocks });
  const intake = createIntake({
    blockSize,
    contents,
    acquire: () => {
      placement.advance();
      return pool.acquire('data');
    },
    progress: pool.progress,
    submit: (filled) => {
      placement.enqueue(filled);
      pool.submit(filled.slab);
    },
  });

  const finish = async (tree: Tree, how?: OrderOptions): Promise<WriteResult> => {
    placement.advance(); // an earlier failure is the cause of everything after it
    intake.flush();
    await placement.drain();
    await pool.endOfSlabs();
    const order = orderTree(tree, how);
    const { fragments } = placement;
    const written = writeTables({ tree, order, contents, fragments, blockSize, output, compress: pool.compressNow });
    const bytesUsed = output.position;
    const bytes = Math.ceil(bytesUsed / PADDING) * PADDING;
    const superblock = encodeSuperblock({
      ...written,
      compressor,
      blockSize,
      mkfsTime: options.mkfsTime ?? newestTime(tree, order),
      inodes: order.inodes.length,
      fragments: fragments.count,
      bytesUsed,
      hasCompressorOptions: optionBytes.length > 0,
    });
    output.writeAt(0, superblock);
    output.setLength(bytesUsed); // what lay behind must not show in the padding
    output.setLength(bytes);
    const facts = (content: number) => ({ size: contents.size[content] as number, hash: hashOf(contents, content) });
    const files = order.inodes.filter((inode) => tree.kind[inode] === KIND.file);
    return {
      bytes,
      treeDigest: treeDigest(tree, order, facts),
      inodes: order.inodes.length,
      directories: order.directories.length,
      files: files.length,
      contentBytes: files.reduce((sum, file) => sum + (contents.size[tree.payload[file] as number] as number), 0),
      duplicates: placement.duplicates,
      blocks: blocks === undefined ? undefined : { ...blocks, position: blocks.position.map((position) => position + offset) },
      notes: notesOf(tree, order),
    };
  };

  return {
    beginFile: intake.beginFile,
    write: intake.write,
    hole: intake.hole,
    endFile: intake.endFile,
    finish: async (tree, how) => {
      try {
        return await finish(tree, how);
      } finally {
        await pool.stop();
      }
    },
    abort: pool.stop,
  };
};

const newestTime = (tree: Tree, order: TreeOrder): number =>
  order.inodes.reduce((newest, inode) => Math.max(newest, tree.mtime[inode] as number), 0);
