/**
 * Blocks that are stored, in the order they lie in the image, so that a file whose blocks are there already, as a run one behind the other,
 * can point at them. A file can only point at one run: that is all the sharing of blocks the format permits.
 */
import { growF64, growU8, growU32, nextCapacity } from '../util/growing.ts';
import { DIGEST_BYTES } from './slab.ts';

/** Later blocks are not found again: 128 GiB at the default block size, and some 60 MB of memory. */
const MAX_REMEMBERED = 1 << 20;

export type BlockRuns = {
  count: number;
  position: Float64Array<ArrayBuffer>;
  /** As stored, with the bit for uncompressed ones. */
  size: Uint32Array<ArrayBuffer>;
  fingerprints: Uint8Array<ArrayBuffer>;
  /** First block of each fingerprint: block + 1, 0 is free. */
  slots: Uint32Array<ArrayBuffer>;
  slotsUsed: number;
};

export const createBlockRuns = (): BlockRuns => ({
  count: 0,
  position: new Float64Array(0),
  size: new Uint32Array(0),
  fingerprints: new Uint8Array(0),
  slots: new Uint32Array(1 << 10),
  slotsUsed: 0,
});

export const addBlock = (runs: BlockRuns, position: number, size: number, fingerprint: Uint8Array): void => {
  if (runs.count >= runs.size.length) {
    const capacity = nextCapacity(runs.size.length, runs.count + 1);
    runs.position = growF64(runs.position, capacity);
    runs.size = growU32(runs.size, capacity);
    runs.fingerprints = growU8(runs.fingerprints, capacity * DIGEST_BYTES);
  }
  runs.position[runs.count] = position;
  runs.size[runs.count] = size;
  runs.fingerprints.set(fingerprint, runs.count * DIGEST_BYTES);
  runs.count++;
};

/** Forgets the blocks from `count` on: their place in the image is used again. */
export const forgetBlocks = (runs: BlockRuns, count: number): void => {
  runs.count = count;
};

/**
 * Where a run equal to the blocks from `first` on lies among the earlier ones, or -1 after making them findable.
 * Only the first place of the first block is tried, so the work is linear in the blocks also for hostile input.
 */
export const findRun = (runs: BlockRuns, first: number, lengthOf: (size: number) => number): number => {
  const candidate = firstLike(runs, first);
  if (candidate >= 0 && sameRun(runs, candidate, first, lengthOf)) return runs.position[candidate] as number;
  for (let block = first; block < Math.min(runs.count, MAX_REMEMBERED); block++) remember(runs, block);
  if (runs.count > MAX_REMEMBERED) forgetBlocks(runs, MAX_REMEMBERED);
  return -1;
};

const sameRun = (runs: BlockRuns, candidate: number, first: number, lengthOf: (size: number) => number): boolean => {
  const count = runs.count - first;
  if (candidate + count > first) return false;
  let position = runs.position[candidate] as number;
  for (let i = 0; i < count; i++) {
    const other = candidate + i;
    if (runs.position[other] !== position || !sameBlock(runs, other, first + i)) return false;
    position += lengthOf(runs.size[other] as number);
  }
  return true;
};

const fingerprint = (runs: BlockRuns, block: number): Uint8Array =>
  runs.fingerprints.subarray(block * DIGEST_BYTES, (block + 1) * DIGEST_BYTES);

const sameBlock = (runs: BlockRuns, a: number, b: number): boolean =>
  runs.size[a] === runs.size[b] && Buffer.compare(fingerprint(runs, a), fingerprint(runs, b)) === 0;

const slotOf = (runs: BlockRuns, block: number): number => {
  const mask = runs.slots.length - 1;
  const at = block * DIGEST_BYTES;
  const bytes = runs.fingerprints;
  let slot = ((bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16)) & mask;
  while (runs.slots[slot] !== 0 && !sameBlock(runs, (runs.slots[slot] as number) - 1, block)) slot = (slot + 1) & mask;
  return slot;
};

const firstLike = (runs: BlockRuns, block: number): number => (runs.slots[slotOf(runs, block)] as number) - 1;

const remember = (runs: BlockRuns, block: number): void => {
  if ((runs.slotsUsed + 1) * 4 > runs.slots.length * 3) rehash(runs);
  const slot = slotOf(runs, block);
  if (runs.slots[slot] !== 0) return;
  runs.slots[slot] = block + 1;
  runs.slotsUsed++;
};

const rehash = (runs: BlockRuns): void => {
  const old = runs.slots;
  runs.slots = new Uint32Array(old.length * 2);
  for (const entry of old) if (entry !== 0) runs.slots[slotOf(runs, entry - 1)] = entry;
};
