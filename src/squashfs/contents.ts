/**
 * What is known of every file's stored bytes, as columns indexed by FileContent. Handles are given out when a file ends; the columns are
 * filled when its blocks come back from the threads. Content 0 is the empty file.
 */
import { growF64, growI32, growU8, growU32, nextCapacity } from '../util/growing.ts';
import { sha256 } from './compress-slab.ts';
import { DIGEST_BYTES } from './slab.ts';
import type { FileContent } from './types.ts';

export const NO_FRAGMENT = -1;

export type Contents = {
  count: number;
  size: Float64Array<ArrayBuffer>;
  /** Where the first stored block lies, from the start of the image. */
  start: Float64Array<ArrayBuffer>;
  /** Where in `blockSizes` the file's blocks begin. */
  blocksAt: Uint32Array<ArrayBuffer>;
  fragment: Int32Array<ArrayBuffer>;
  fragmentOffset: Uint32Array<ArrayBuffer>;
  /** Of `hashes`, DIGEST_BYTES each: SHA-256 of the content, or of the digests of its chunks when there is more than one. */
  hashes: Uint8Array<ArrayBuffer>;
  /** As the format stores them: 0 is a block of zeros. */
  blockSizes: Uint32Array<ArrayBuffer>;
  blockCount: number;
  /** Contents by hash, open addressing: content + 1, 0 is free. */
  slots: Uint32Array<ArrayBuffer>;
  slotsUsed: number;
};

export const createContents = (): Contents => {
  const contents: Contents = {
    count: 0,
    size: new Float64Array(0),
    start: new Float64Array(0),
    blocksAt: new Uint32Array(0),
    fragment: new Int32Array(0),
    fragmentOffset: new Uint32Array(0),
    hashes: new Uint8Array(0),
    blockSizes: new Uint32Array(1 << 10),
    blockCount: 0,
    slots: new Uint32Array(1 << 10),
    slotsUsed: 0,
  };
  setHash(contents, addContent(contents, 0), sha256(new Uint8Array(0)));
  return contents;
};

export const addContent = (contents: Contents, size: number): FileContent => {
  const content = contents.count;
  if (content >= contents.size.length) growColumns(contents, nextCapacity(contents.size.length, content + 1));
  contents.count = content + 1;
  contents.size[content] = size;
  contents.fragment[content] = NO_FRAGMENT;
  return content as FileContent;
};

export const addBlockSize = (contents: Contents, size: number): void => {
  if (contents.blockCount >= contents.blockSizes.length) {
    contents.blockSizes = growU32(contents.blockSizes, nextCapacity(contents.blockSizes.length, contents.blockCount + 1));
  }
  contents.blockSizes[contents.blockCount++] = size;
};

export const hashOf = (contents: Contents, content: number): Uint8Array =>
  contents.hashes.subarray(content * DIGEST_BYTES, (content + 1) * DIGEST_BYTES);

export const setHash = (contents: Contents, content: number, hash: Uint8Array): void => contents.hashes.set(hash, content * DIGEST_BYTES);

/** The first content registered with the same size and hash as `content`, or -1 after registering this one. */
export const findTwin = (contents: Contents, content: number): number => {
  if ((contents.slotsUsed + 1) * 4 > contents.slots.length * 3) rehash(contents);
  const mask = contents.slots.length - 1;
  for (let slot = hashWord(contents, content) & mask; ; slot = (slot + 1) & mask) {
    const found = (contents.slots[slot] as number) - 1;
    if (found < 0) {
      contents.slots[slot] = content + 1;
      contents.slotsUsed++;
      return -1;
    }
    if (contents.size[found] === contents.size[content] && Buffer.compare(hashOf(contents, found), hashOf(contents, content)) === 0)
      return found;
  }
};

const growColumns = (contents: Contents, capacity: number): void => {
  contents.size = growF64(contents.size, capacity);
  contents.start = growF64(contents.start, capacity);
  contents.blocksAt = growU32(contents.blocksAt, capacity);
  contents.fragment = growI32(contents.fragment, capacity);
  contents.fragmentOffset = growU32(contents.fragmentOffset, capacity);
  contents.hashes = growU8(contents.hashes, capacity * DIGEST_BYTES);
};

/** The hash is uniform: any four bytes of it will do. */
const hashWord = (contents: Contents, content: number): number => {
  const at = content * DIGEST_BYTES;
  const bytes = contents.hashes;
  return (
    ((bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24)) >>> 0
  );
};

const rehash = (contents: Contents): void => {
  const old = contents.slots;
  const mask = old.length * 2 - 1;
  contents.slots = new Uint32Array(old.length * 2);
  for (const entry of old) {
    if (entry === 0) continue;
    let slot = hashWord(contents, entry - 1) & mask;
    while (contents.slots[slot] !== 0) slot = (slot + 1) & mask;
    contents.slots[slot] = entry;
  }
};
