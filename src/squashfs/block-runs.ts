/**
 * Blocks that are stored, in the order they lie in the image, so that a file whose blocks are there already, as a run one behind the other,
 * can point at them. A file can only point at one run: that is all the sharing of blocks the format permits.
 */
import { type BlockColumns, createBlockColumns, digestOf, firstSlot, MAX_BLOCKS } from './block-columns.ts';

export type BlockRuns = BlockColumns & {
  /** First block of each digest: block + 1, 0 is free. */
  slots: Uint32Array<ArrayBuffer>;
  slotsUsed: number;
};

export const createBlockRuns = (): BlockRuns => ({ ...createBlockColumns(), slots: new Uint32Array(1 << 10), slotsUsed: 0 });

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
  for (let block = first; block < Math.min(runs.count, MAX_BLOCKS); block++) remember(runs, block);
  if (runs.count > MAX_BLOCKS) forgetBlocks(runs, MAX_BLOCKS);
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

const sameBlock = (runs: BlockRuns, a: number, b: number): boolean =>
  runs.size[a] === runs.size[b] && Buffer.compare(digestOf(runs, a), digestOf(runs, b)) === 0;

const slotOf = (runs: BlockRuns, block: number): number => {
  const { slots } = runs;
  let slot = firstSlot(digestOf(runs, block), slots.length);
  while (slots[slot] !== 0 && !sameBlock(runs, (slots[slot] as number) - 1, block)) slot = (slot + 1) & (slots.length - 1);
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
