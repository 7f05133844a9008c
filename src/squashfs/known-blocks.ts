/**
 * Blocks that other images have, so that a block stored in one of them is copied from there instead of being compressed. A writer tells at the end
 * which blocks it has stored (`BlockList`); what a list promises is checked when it is read, so a file may have changed or be damaged since.
 * Lists are good for writers with the same options and libraries only: whoever keeps them sees to that.
 */
import { hash } from 'node:crypto';
import { readSync } from 'node:fs';
import { growU8 } from '../util/growing.ts';
import { addBlock, type BlockColumns, createBlockColumns, digestOf, firstSlot, MAX_BLOCKS } from './block-columns.ts';
import { CHECK_BYTES, DIGEST_BYTES, STORED_BIT } from './slab.ts';

export type BlockList = BlockColumns & {
  /** CHECK_BYTES each, of the stored bytes. */
  check: Uint8Array<ArrayBuffer>;
};

/** `fd`: open for reading until the writer is done. */
export type KnownImage = { readonly fd: number; readonly blocks: BlockList };

export const createBlockList = (): BlockList => ({ ...createBlockColumns(), check: new Uint8Array(0) });

/** Blocks behind MAX_BLOCKS are left out: they are compressed again. */
export const listBlock = (list: BlockList, position: number, size: number, digest: Uint8Array, check: Uint8Array): void => {
  const row = list.count;
  if (row === MAX_BLOCKS) return;
  addBlock(list, position, size, digest);
  const bytes = list.size.length * CHECK_BYTES;
  if (list.check.length < bytes) list.check = growU8(list.check, bytes);
  list.check.set(check, row * CHECK_BYTES);
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
      table.digest.set(digestOf(blocks, block), row * DIGEST_BYTES);
      table.check.set(checkOf(blocks, block), row * CHECK_BYTES);
      const slot = slotOf(table, digestOf(table, row));
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

const checkOf = ({ check }: Pick<Table, 'check'>, row: number): Uint8Array => check.subarray(row * CHECK_BYTES, (row + 1) * CHECK_BYTES);

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
const slotOf = (table: Table, digest: Uint8Array): number => {
  const { slots } = table;
  let slot = firstSlot(digest, slots.length);
  for (; slots[slot] !== 0; slot = (slot + 1) & (slots.length - 1))
    if (Buffer.compare(digestOf(table, (slots[slot] as number) - 1), digest) === 0) return slot;
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
      return Buffer.compare(check, checkOf(table, row)) === 0 ? size : undefined;
    },
  };
};

export const writeCheck = (stored: Uint8Array, into: Uint8Array): void => {
  Buffer.from(into.buffer, into.byteOffset, into.length).write(hash('sha256', stored, 'binary'), 0, CHECK_BYTES, 'latin1');
};
