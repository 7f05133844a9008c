/** Blocks that are stored in an image, a row each. */
import { growF64, growU8, growU32, nextCapacity } from '../util/growing.ts';
import { DIGEST_BYTES } from './slab.ts';

/** What is remembered of one image: 128 GiB at the default block size, and some 60 MB of memory. */
export const MAX_BLOCKS = 1 << 20;

export type BlockColumns = {
  count: number;
  /** Where the stored bytes lie, from the start of the file. */
  position: Float64Array<ArrayBuffer>;
  /** As the format has it, with the bit for uncompressed ones. */
  size: Uint32Array<ArrayBuffer>;
  /** DIGEST_BYTES each: SHA-256 of the block. */
  digest: Uint8Array<ArrayBuffer>;
};

export const createBlockColumns = (): BlockColumns => ({
  count: 0,
  position: new Float64Array(0),
  size: new Uint32Array(0),
  digest: new Uint8Array(0),
});

export const addBlock = (blocks: BlockColumns, position: number, size: number, digest: Uint8Array): void => {
  const row = blocks.count++;
  if (row >= blocks.size.length) {
    const capacity = nextCapacity(blocks.size.length, row + 1);
    blocks.position = growF64(blocks.position, capacity);
    blocks.size = growU32(blocks.size, capacity);
    blocks.digest = growU8(blocks.digest, capacity * DIGEST_BYTES);
  }
  blocks.position[row] = position;
  blocks.size[row] = size;
  blocks.digest.set(digest, row * DIGEST_BYTES);
};

export const digestOf = ({ digest }: { readonly digest: Uint8Array }, row: number): Uint8Array =>
  digest.subarray(row * DIGEST_BYTES, (row + 1) * DIGEST_BYTES);

/** Where to look first in a hash table, whose slots are a power of two. */
export const firstSlot = (digest: Uint8Array, slots: number): number =>
  ((digest[0] as number) | ((digest[1] as number) << 8) | ((digest[2] as number) << 16)) & (slots - 1);
