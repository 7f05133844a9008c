/** Records of what a run touched of an image (native/hot.h), read back: they come from files that anybody may have written. */
import { closeSync, openSync, readSync } from 'node:fs';
import { errnoText } from '../util/errno.ts';
import { TsrunError } from '../util/errors.ts';
import { fileChunks } from '../util/read-file.ts';
import type { SquashFile } from './squash-file.ts';

/** The kinds of `enum hot_touch_kind`. */
export const TOUCH = { inode: 1, names: 2, entries: 3, data: 4 } as const;

/** `offset` and `length` are 0 but for data. */
export type Touch = { readonly kind: number; readonly inode: number; readonly offset: number; readonly length: number };

const MAGIC = Buffer.from('tsrun touches 1\n');
const SUPERBLOCK = 96;
const TOUCH_BYTES = 24;
/** Some 2.7 million touches. */
const MAX_BYTES = 64 * 1024 * 1024;

/** Each touch once, in order of the first time. @throws TsrunError E_RECORD */
export const readTouches = async (paths: readonly string[], image: SquashFile): Promise<readonly Touch[]> => {
  const superblock = superblockOf(image);
  const touches: Touch[] = [];
  const seen = new Set<string>();
  for (const path of paths) {
    const bytes = await readRecord(path);
    for (const touch of parse(path, bytes, superblock)) {
      const key = `${touch.kind} ${touch.inode} ${touch.offset} ${touch.length}`;
      if (seen.has(key)) continue;
      seen.add(key);
      touches.push(touch);
    }
  }
  return touches;
};

const readRecord = async (path: string): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of fileChunks(path, 0, MAX_BYTES + 1)) chunks.push(chunk);
  } catch (error) {
    const { errno, message } = error as NodeJS.ErrnoException;
    throw refusal(path, errno === undefined ? message : errnoText(errno));
  }
  const bytes = Buffer.concat(chunks);
  if (bytes.length > MAX_BYTES) throw refusal(path, `it has more than ${MAX_BYTES} bytes`);
  return bytes;
};

const refusal = (path: string, why: string): TsrunError =>
  new TsrunError({
    code: 'E_RECORD',
    what: `cannot use the record ${path}`,
    why,
    hint: 'make one with tsrun exec --record FILE IMAGE COMMAND, with the image that is to be optimized',
  });

const superblockOf = ({ path, offset }: SquashFile): Buffer => {
  const block = Buffer.alloc(SUPERBLOCK);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, block, 0, SUPERBLOCK, offset);
  } finally {
    closeSync(fd);
  }
  return block;
};

const parse = (path: string, bytes: Buffer, superblock: Buffer): readonly Touch[] => {
  const start = MAGIC.length + SUPERBLOCK;
  if (bytes.length < start || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw refusal(path, 'it is no record of tsrun');
  if (!bytes.subarray(MAGIC.length, start).equals(superblock)) throw refusal(path, 'it was made with another image');
  const touches: Touch[] = [];
  // A last one that is not whole was being written.
  for (let at = start; at + TOUCH_BYTES <= bytes.length; at += TOUCH_BYTES) {
    const offset = Number(bytes.readBigUInt64LE(at));
    const [length, inode, kind] = [bytes.readUInt32LE(at + 8), bytes.readUInt32LE(at + 12), bytes.readUInt32LE(at + 16)];
    if (kind < TOUCH.inode || kind > TOUCH.data || inode === 0 || !Number.isSafeInteger(offset) || bytes.readUInt32LE(at + 20) !== 0)
      throw refusal(path, `it is damaged at byte ${at}`);
    touches.push({ kind, inode, offset, length });
  }
  return touches;
};
