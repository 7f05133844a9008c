/**
 * Empties data slabs in their order and decides where everything lies in the image: blocks of large files one behind the other, small files
 * packed into fragment blocks, what is there already not again. All decisions are made here, in order, from data alone.
 *
 * A fragment block can only be compressed after the slabs its files came in are back, so it is written a fixed number of data slabs later,
 * at the first place between two files: a rule about the data, never about who was ready first.
 */
import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';
import { growF64, growU32, nextCapacity } from '../util/growing.ts';
import { addBlock } from './block-columns.ts';
import { type BlockRuns, createBlockRuns, findRun, forgetBlocks } from './block-runs.ts';
import { sha256 } from './compress-slab.ts';
import type { Contents } from './contents.ts';
import { addBlockSize, findTwin, setHash } from './contents.ts';
import type { FilledSlab } from './intake.ts';
import { type BlockList, listBlock } from './known-blocks.ts';
import type { Output } from './output.ts';
import type { Pool } from './pool.ts';
import type { Slab } from './slab.ts';
import { CHECK_BYTES, CHUNK_BYTES, DIGEST_BYTES, SEGMENT, STORED_BIT, segmentCount, setSegmentCount } from './slab.ts';

/** Data slabs between the last file of a fragment slab and its place in the image. */
const FRAGMENT_LAG = 12;
/** Two consecutive fragment blocks hold more than one block's bytes, so a data slab fills two fragment slabs at most; and the open ones. */
export const FRAGMENT_SLABS = 2 * FRAGMENT_LAG + 4;
const NO_CONTENT = 0;

export type Fragments = { count: number; start: Float64Array<ArrayBuffer>; size: Uint32Array<ArrayBuffer> };

export type Placement = {
  readonly fragments: Fragments;
  readonly duplicates: { files: number; bytes: number };
  enqueue(filled: FilledSlab): void;
  /** Empties what is done; stops at the first slab that is not. */
  advance(): void;
  /** Empties everything and writes the last fragment blocks. */
  drain(): Promise<void>;
};

export type PlacementOptions = {
  readonly blockSize: number;
  readonly contents: Contents;
  readonly pool: Pool;
  readonly output: Output;
  /** Told of every block that is stored. */
  readonly stored: BlockList | undefined;
};

export const createPlacement = ({ blockSize, contents, pool, output, stored }: PlacementOptions): Placement => {
  const runs = createBlockRuns();
  const packer = createFragmentPacker(blockSize, pool, output, stored);
  const duplicates = { files: 0, bytes: 0 };
  const waiting: FilledSlab[] = [];
  const large = createLargeFile(contents, runs, stored);
  /** How far the first waiting slab is emptied. */
  const cursor = { segment: 0, block: 0, output: 0, digest: 0 };
  /** Bytes of the slab's output from here to cursor.output are placed but not written: neighbours are written in one call. */
  let unwritten = 0;

  const writePlaced = (slab: Slab): void => {
    if (cursor.output > unwritten) output.append(slab.output.subarray(unwritten, cursor.output));
    unwritten = cursor.output;
  };
  const nextDigests = (slab: Slab, count: number): Uint8Array => {
    const at = cursor.digest;
    cursor.digest += count * DIGEST_BYTES;
    return slab.digests.subarray(at, cursor.digest);
  };
  const countDuplicate = (content: number): void => {
    duplicates.files++;
    duplicates.bytes += contents.size[content] as number;
  };

  const placeSmall = (slab: Slab, content: number, from: number, length: number): void => {
    const chunks = nextDigests(slab, Math.ceil(length / CHUNK_BYTES));
    setHash(contents, content, chunks.length === DIGEST_BYTES ? chunks : sha256(chunks));
    const twin = findTwin(contents, content);
    if (twin >= 0) {
      contents.fragment[content] = contents.fragment[twin] as number;
      contents.fragmentOffset[content] = contents.fragmentOffset[twin] as number;
      countDuplicate(content);
      return;
    }
    const place = packer.pack(slab.input.subarray(from, from + length), (waiting[0] as FilledSlab).ordinal);
    contents.fragment[content] = place.fragment;
    contents.fragmentOffset[content] = place.offset;
  };

  const placeBlocks = (slab: Slab, bytes: number): void => {
    const chunks = nextDigests(slab, Math.ceil(bytes / CHUNK_BYTES));
    const blocks = Math.ceil(bytes / blockSize);
    const fingerprints = blockSize === CHUNK_BYTES ? chunks : nextDigests(slab, blocks);
    large.hash(chunks);
    for (let i = 0; i < blocks; i++) {
      const check = checkOf(slab, cursor.block);
      const size = slab.sizes[cursor.block++] as number;
      addBlockSize(contents, size);
      if (size === 0) continue;
      const position = output.position + cursor.output - unwritten;
      const fingerprint = fingerprints.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      addBlock(runs, position, size, fingerprint);
      if (stored !== undefined) listBlock(stored, position, size, fingerprint, check);
      cursor.output += storedLength(size);
    }
  };

  const placeHole = (bytes: number): void => {
    const zeros = new Uint8Array(CHUNK_BYTES);
    const wholeChunk = sha256(zeros);
    for (let left = bytes; left > 0; left -= blockSize) addBlockSize(contents, 0);
    for (let left = bytes; left > 0; left -= CHUNK_BYTES) large.hash(left < CHUNK_BYTES ? sha256(zeros.subarray(0, left)) : wholeChunk);
  };

  const endLarge = (slab: Slab): void => {
    const content = large.content;
    writePlaced(slab);
    if (large.end()) {
      countDuplicate(content);
      output.position = large.start;
    }
  };

  /** False when it has to wait for fragment blocks; called again it goes on where it stopped. */
  const empty = ({ slab, ordinal, content: contentOf, bytes: bytesOf }: FilledSlab): boolean => {
    if (cursor.segment === 0 && large.content === NO_CONTENT && !packer.settle(ordinal)) return false;
    for (; cursor.segment < segmentCount(slab); cursor.segment++) {
      const segment = cursor.segment;
      const content = contentOf[segment] as number;
      const bytes = bytesOf[segment] as number;
      if (slab.kind[segment] === SEGMENT.small) {
        placeSmall(slab, content, slab.offset[segment] as number, bytes);
        continue;
      }
      if (large.content === NO_CONTENT) {
        writePlaced(slab);
        if (!packer.settle(ordinal)) return false;
        large.begin(content, output.position);
      }
      if (slab.kind[segment] === SEGMENT.hole) placeHole(bytes);
      else placeBlocks(slab, bytes);
      large.bytes += bytes;
      if (large.bytes === contents.size[content]) endLarge(slab);
    }
    writePlaced(slab);
    Object.assign(cursor, { segment: 0, block: 0, output: 0, digest: 0 });
    unwritten = 0;
    return true;
  };

  const advance = (): void => {
    for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
      if (!pool.isDone(first.slab) || !empty(first)) return;
      waiting.shift();
      pool.release(first.slab);
    }
  };

  return {
    fragments: packer.fragments,
    duplicates,
    enqueue: (filled) => {
      waiting.push(filled);
    },
    advance,
    drain: async () => {
      for (advance(); waiting.length > 0; advance()) await pool.progress();
      packer.closeSlab(0);
      while (!packer.settle(Number.POSITIVE_INFINITY)) await pool.progress();
    },
  };
};

type LargeFile = {
  /** NO_CONTENT between files. */
  content: number;
  /** How much of it is placed. */
  bytes: number;
  /** Where its first block lies, or would lie. */
  start: number;
  begin(content: number, position: number): void;
  hash(chunkDigests: Uint8Array): void;
  /** Settles the content's columns; true when all its blocks are stored already and its place is free again. */
  end(): boolean;
};

const createLargeFile = (contents: Contents, runs: BlockRuns, stored: BlockList | undefined): LargeFile => {
  let sha: Hash | undefined;
  let firstBlock = 0;
  let firstStored = 0;
  const forget = (): void => {
    forgetBlocks(runs, firstBlock);
    if (stored !== undefined) stored.count = firstStored;
  };
  const file: LargeFile = {
    content: NO_CONTENT,
    bytes: 0,
    start: 0,
    begin: (content, position) => {
      Object.assign(file, { content, bytes: 0, start: position });
      firstBlock = runs.count;
      firstStored = stored?.count ?? 0;
      contents.blocksAt[content] = contents.blockCount;
      sha = (contents.size[content] as number) > CHUNK_BYTES ? createHash('sha256') : undefined;
    },
    hash: (chunkDigests) => {
      if (sha === undefined) setHash(contents, file.content, chunkDigests);
      else sha.update(chunkDigests);
    },
    end: () => {
      const content = file.content;
      file.content = NO_CONTENT;
      if (sha !== undefined) setHash(contents, content, sha.digest());
      const twin = findTwin(contents, content);
      if (twin >= 0) {
        contents.blockCount = contents.blocksAt[content] as number;
        contents.blocksAt[content] = contents.blocksAt[twin] as number;
        contents.start[content] = contents.start[twin] as number;
        forget();
        return true;
      }
      const hasBlocks = runs.count > firstBlock;
      const found = hasBlocks ? findRun(runs, firstBlock, storedLength) : -1;
      if (found >= 0) forget();
      contents.start[content] = found >= 0 ? found : hasBlocks ? file.start : 0;
      return found >= 0;
    },
  };
  return file;
};

type FragmentPacker = {
  readonly fragments: Fragments;
  /** `ordinal`: of the data slab the file came in. */
  pack(file: Uint8Array, ordinal: number): { readonly fragment: number; readonly offset: number };
  /** Writes what is due at this data slab; false when it is not compressed yet. */
  settle(ordinal: number): boolean;
  closeSlab(ordinal: number): void;
};

const createFragmentPacker = (blockSize: number, pool: Pool, output: Output, stored: BlockList | undefined): FragmentPacker => {
  const fragments: Fragments = { count: 0, start: new Float64Array(0), size: new Uint32Array(0) };
  const waiting: { readonly slab: Slab; readonly ordinal: number }[] = [];
  let slab: Slab | undefined;
  let begun = 0;
  let used = 0;

  const closeBlock = (): void => {
    if (slab === undefined || used === 0) return;
    const segment = segmentCount(slab);
    slab.kind[segment] = SEGMENT.plain;
    slab.offset[segment] = segment * blockSize;
    slab.length[segment] = used;
    setSegmentCount(slab, segment + 1);
    used = 0;
    begun++;
  };
  const closeSlab = (ordinal: number): void => {
    closeBlock();
    if (slab === undefined) return;
    waiting.push({ slab, ordinal });
    pool.submit(slab);
    slab = undefined;
  };
  const writeSlab = (full: Slab): void => {
    let at = 0;
    for (let block = 0; block < segmentCount(full); block++) {
      const size = full.sizes[block] as number;
      addFragment(fragments, output.position + at, size);
      const digest = full.digests.subarray(block * DIGEST_BYTES, (block + 1) * DIGEST_BYTES);
      if (stored !== undefined) listBlock(stored, output.position + at, size, digest, checkOf(full, block));
      at += storedLength(size);
    }
    output.append(full.output.subarray(0, at));
  };

  return {
    fragments,
    pack: (file, ordinal) => {
      if (used + file.length > blockSize) closeBlock();
      if (slab !== undefined && segmentCount(slab) === slab.input.length / blockSize) closeSlab(ordinal);
      slab ??= pool.acquire('fragment');
      if (slab === undefined) throw new Error('more fragment slabs are under way than the lag allows');
      const offset = used;
      slab.input.set(file, segmentCount(slab) * blockSize + offset);
      used += file.length;
      return { fragment: begun, offset };
    },
    settle: (ordinal) => {
      for (let first = waiting[0]; first !== undefined && ordinal - first.ordinal >= FRAGMENT_LAG; first = waiting[0]) {
        if (!pool.isDone(first.slab)) return false;
        writeSlab(first.slab);
        waiting.shift();
        pool.release(first.slab);
      }
      return true;
    },
    closeSlab,
  };
};

const addFragment = (fragments: Fragments, start: number, size: number): void => {
  if (fragments.count >= fragments.size.length) {
    const capacity = nextCapacity(fragments.size.length, fragments.count + 1);
    fragments.start = growF64(fragments.start, capacity);
    fragments.size = growU32(fragments.size, capacity);
  }
  fragments.start[fragments.count] = start;
  fragments.size[fragments.count] = size;
  fragments.count++;
};

const storedLength = (size: number): number => size & ~STORED_BIT;
const checkOf = (slab: Slab, block: number): Uint8Array => slab.checks.subarray(block * CHECK_BYTES, (block + 1) * CHECK_BYTES);
