/**
 * Blocks that other images have, so that a block stored in one of them is copied from there instead of being compressed. A writer tells at the end
 * which blocks it has stored (`BlockList`); what a list promises is checked when it is read, so a file may have changed or be damaged since.
 * Lists are good for writers with the same options and libraries only: whoever keeps them sees to that.
 */
import { hash } from 'node:crypto';
import { readSync } from 'node:fs';
import { growF64, growU8, growU32, nextCapacity } from '../util/growing.ts';
import { CHECK_BYTES, DIGEST_BYTES, STORED_BIT } from './slab.ts';

/** Later blocks are compressed again: 128 GiB at the default block size. */
const MAX_BLOCKS = 1 << 20;

export type BlockList = {
  count: number;
  /** Where the stored bytes lie, from the start of the file. */
  position: Float64Array<ArrayBuffer>;
  /** As the format has it, with the bit for uncompressed ones. */
  size: Uint32Array<ArrayBuffer>;
  /** DIGEST_BYTES each: SHA-256 of the block. */
  digest: Uint8Array<ArrayBuffer>;
  /** CHECK_BYTES each, of the stored bytes. */
  check: Uint8Array<ArrayBuffer>;
};

/** `fd`: open for reading until the writer is done. */
export type KnownImage = { readonly fd: number; readonly blocks: BlockList };

export const createBlockList = (): BlockList => ({
  count: 0,
  position: new Float64Array(0),
  size: new Uint32Array(0),
  digest: new Uint8Array(0),
  check: new Uint8Array(0),
});

export const listBlock = (list: BlockList, position: number, size: number, digest: Uint8Array, check: Uint8Array): void => {
  const at = list.count;
  if (at === MAX_BLOCKS) return;
  if (at >= list.size.length) {
    const capacity = nextCapacity(list.size.length, at + 1);
    list.position = growF64(list.position, capacity);
    list.size = growU32(list.size, capacity);
    list.digest = growU8(list.digest, capacity * DIGEST_BYTES);
    list.check = growU8(list.check, capacity * CHECK_BYTES);
  }
  list.position[at] = position;
  list.size[at] = size;
  list.digest.set(digest, at * DIGEST_BYTES);
  list.check.set(check, at * CHECK_BYTES);
  list.count++;
};

/** The lists as the threads share them: columns, and a hash table of row + 1 in which 0 is free. */
export const knownMemory = (images: readonly KnownImage[]): SharedArrayBuffer => {
  const rows = Math.min(
    images.reduce((sum, { blocks }) => sum + blocks.count, 0),
    MAX_BLOCKS,
  );
  const slots = 2 ** Math.ceil(Math.log2(Math.max(2, rows * 2)));
  const memory = new SharedArrayBuffer(HEADER_BYTES + rows * (8 + 4 + 4 + DIGEST_BYTES + CHECK_BYTES) + slots * 4);
  new Uint32Array(memory, 0, 2).set([rows, slots]);
  const table = viewsOf(memory);
  let row = 0;
  for (const { fd, blocks } of images) {
    for (let block = 0; block < blocks.count && row < rows; block++, row++) {
      table.position[row] = blocks.position[block] as number;
      table.fd[row] = fd;
      table.size[row] = blocks.size[block] as number;
      table.digest.set(blocks.digest.subarray(block * DIGEST_BYTES, (block + 1) * DIGEST_BYTES), row * DIGEST_BYTES);
      table.check.set(blocks.check.subarray(block * CHECK_BYTES, (block + 1) * CHECK_BYTES), row * CHECK_BYTES);
      const slot = slotOf(table, table.digest.subarray(row * DIGEST_BYTES, (row + 1) * DIGEST_BYTES));
      if (table.slots[slot] === 0) table.slots[slot] = row + 1;
    }
  }
  return memory;
};

const HEADER_BYTES = 8;

type Table = {
  readonly position: Float64Array;
  readonly fd: Int32Array;
  readonly size: Uint32Array;
  readonly slots: Uint32Array;
  readonly digest: Uint8Array;
  readonly check: Uint8Array;
};

const viewsOf = (memory: SharedArrayBuffer): Table => {
  const [rows = 0, slots = 0] = new Uint32Array(memory, 0, 2);
  let at = HEADER_BYTES;
  const next = (bytes: number): number => {
    at += bytes;
    return at - bytes;
  };
  return {
    position: new Float64Array(memory, next(rows * 8), rows),
    fd: new Int32Array(memory, next(rows * 4), rows),
    size: new Uint32Array(memory, next(rows * 4), rows),
    slots: new Uint32Array(memory, next(slots * 4), slots),
    digest: new Uint8Array(memory, next(rows * DIGEST_BYTES), rows * DIGEST_BYTES),
    check: new Uint8Array(memory, next(rows * CHECK_BYTES), rows * CHECK_BYTES),
  };
};

/** Where that digest is, or would be. */
const slotOf = ({ slots, digest: digests }: Table, digest: Uint8Array): number => {
  const mask = slots.length - 1;
  let slot = ((digest[0] as number) | ((digest[1] as number) << 8) | ((digest[2] as number) << 16)) & mask;
  for (; slots[slot] !== 0; slot = (slot + 1) & mask) {
    const at = ((slots[slot] as number) - 1) * DIGEST_BYTES;
    if (Buffer.compare(digests.subarray(at, at + DIGEST_BYTES), digest) === 0) return slot;
  }
  return slot;
};

export type KnownBlocks = {
  /**
   * Puts the stored bytes of the block with that digest into `output` at `at`, their check into `check`.
   * @returns their size as the format has it; undefined when nobody has the block, or not any more
   */
  copy(digest: Uint8Array, output: Uint8Array, at: number, check: Uint8Array): number | undefined;
};

/** For one thread. */
export const createKnownBlocks = (memory: SharedArrayBuffer): KnownBlocks => {
  const table = viewsOf(memory);
  return {
    copy: (digest, output, at, check) => {
      const row = (table.slots[slotOf(table, digest)] as number) - 1;
      if (row < 0) return undefined;
      const size = table.size[row] as number;
      const length = size & ~STORED_BIT;
      if (at + length > output.length) return undefined;
      try {
        if (readSync(table.fd[row] as number, output, at, length, table.position[row] as number) !== length) return undefined;
      } catch {
        return undefined;
      }
      writeCheck(output.subarray(at, at + length), check);
      return Buffer.compare(check, table.check.subarray(row * CHECK_BYTES, (row + 1) * CHECK_BYTES)) === 0 ? size : undefined;
    },
  };
};

export const writeCheck = (stored: Uint8Array, into: Uint8Array): void => {
  Buffer.from(into.buffer, into.byteOffset, into.length).write(hash('sha256', stored, 'binary'), 0, CHECK_BYTES, 'latin1');
};
