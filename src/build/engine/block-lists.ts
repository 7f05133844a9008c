/**
 * Which compressed blocks the images have that were built here: `build/<ids>/blocks/<target>`, a list of each. The next build copies such blocks
 * out of these images, where they still are, instead of compressing them again; without them the same bytes come out, later.
 *
 * A list: SHA-256 of what follows it; a line of JSON; positions (f64), sizes (u32), digests and checks of known-blocks.ts, one column after the other.
 */
import { createHash, hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import type { BlockList, KnownImage } from '../../squashfs/known-blocks.ts';
import { CHECK_BYTES, DIGEST_BYTES } from '../../squashfs/slab.ts';
import type { Compressor } from '../../squashfs/types.ts';
import { VERSION } from '../../util/version.ts';
import type { Cache } from './cache.ts';

/** Images that are looked into, and lists that are kept; those that were made last. */
const MAX_IMAGES = 8;
const MAX_LISTS = 64;
const MAX_LIST_BYTES = 128 * 2 ** 20;
const ROW_BYTES = 8 + 4 + DIGEST_BYTES + CHECK_BYTES;

/** What compressed blocks depend on besides their content. */
export type BlockSettings = { readonly compressor: Compressor; readonly level: number | undefined; readonly blockSize: number };

const settingsText = ({ compressor, level, blockSize }: BlockSettings): string =>
  [VERSION, process.versions.node, compressor, level ?? '', blockSize].join(' ');

export type OpenedImages = { readonly known: readonly KnownImage[]; readonly close: () => Promise<void> };

export const NO_IMAGES: OpenedImages = { known: [], close: async () => {} };

/** The images built last with these settings. */
export const openBuiltImages = async ({ root }: Cache, settings: BlockSettings): Promise<OpenedImages> => {
  const files: FileHandle[] = [];
  const known: KnownImage[] = [];
  for (const list of await newestLists(root)) {
    if (known.length === MAX_IMAGES) break;
    const read = await readList(list).catch(() => undefined);
    if (read === undefined || read.settings !== settingsText(settings)) continue;
    // Whatever is there by now: it may be a pipe.
    const file = await open(read.image, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
    if (file === undefined) continue;
    files.push(file);
    if ((await file.stat()).isFile()) known.push({ fd: file.fd, blocks: read.blocks });
  }
  return {
    known,
    close: async () => {
      for (const file of files) await file.close();
    },
  };
};

/** Nothing depends on it: an error is none. */
export const keepBlockList = async ({ root }: Cache, settings: BlockSettings, image: string, blocks: BlockList): Promise<void> => {
  const path = `${root}/blocks/${hash('sha256', image, 'hex').slice(0, 32)}`;
  try {
    await writeFile(`${path}.new`, encodeList(settingsText(settings), image, blocks), { mode: 0o600 });
    await rename(`${path}.new`, path);
    for (const old of (await newestLists(root)).slice(MAX_LISTS)) await rm(old, { force: true });
  } catch {
    await rm(`${path}.new`, { force: true }).catch(() => undefined);
  }
};

const newestLists = async (root: string): Promise<readonly string[]> => {
  const names = await readdir(`${root}/blocks`).catch(() => []);
  const found = await Promise.all(
    names.map(async (name) => ({
      path: `${root}/blocks/${name}`,
      time: (await stat(`${root}/blocks/${name}`).catch(() => undefined))?.mtimeMs ?? 0,
    })),
  );
  return found.sort((a, b) => b.time - a.time).map(({ path }) => path);
};

const encodeList = (settings: string, image: string, { count, position, size, digest, check }: BlockList): Uint8Array => {
  const columns = [
    position.subarray(0, count),
    size.subarray(0, count),
    digest.subarray(0, count * DIGEST_BYTES),
    check.subarray(0, count * CHECK_BYTES),
  ];
  const head = Buffer.from(`${JSON.stringify({ settings, image, count })}\n`);
  const rest = Buffer.concat([head, ...columns.map((column) => Buffer.from(column.buffer, column.byteOffset, column.byteLength))]);
  return Buffer.concat([hash('sha256', rest, 'buffer'), rest]);
};

type ReadList = { readonly settings: string; readonly image: string; readonly blocks: BlockList };

const readList = async (path: string): Promise<ReadList | undefined> => {
  if ((await stat(path)).size > MAX_LIST_BYTES) return undefined;
  const bytes = await readFile(path);
  const rest = bytes.subarray(DIGEST_BYTES);
  if (!createHash('sha256').update(rest).digest().equals(bytes.subarray(0, DIGEST_BYTES))) return undefined;
  const end = rest.indexOf('\n') + 1;
  const { settings, image, count } = JSON.parse(rest.toString('utf8', 0, end)) as { settings: string; image: string; count: number };
  if (rest.length !== end + count * ROW_BYTES) return undefined;
  let at = end;
  const column = (length: number): ArrayBuffer => {
    at += length;
    return rest.buffer.slice(rest.byteOffset + at - length, rest.byteOffset + at) as ArrayBuffer;
  };
  const position = new Float64Array(column(count * 8));
  const size = new Uint32Array(column(count * 4));
  const digest = new Uint8Array(column(count * DIGEST_BYTES));
  return { settings, image, blocks: { count, position, size, digest, check: new Uint8Array(column(count * CHECK_BYTES)) } };
};
