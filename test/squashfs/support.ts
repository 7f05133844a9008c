/**
 * Trees as plain lists: written by the writer under test, then compared with what Linux shows of the mounted image and with what unsquashfs
 * extracts. Paths are byte strings (a character per byte), so that names that are not UTF-8 can be written down.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import * as assert from 'uvu/assert';
import {
  addDevice,
  addDirectory,
  addFifo,
  addFile,
  addHardLink,
  addSocket,
  addSymlink,
  createTree,
  lookup,
  type NodeId,
  ROOT,
  setFileContent,
  setMeta,
  type Tree,
} from '../../src/squashfs/tree.ts';
import type { FileContent, Meta, WriteResult, WriterOptions } from '../../src/squashfs/types.ts';
import { createSquashfsWriter, type Writer } from '../../src/squashfs/writer.ts';

/** Pieces of a file: bytes, or the length of a hole. */
export type Piece = Uint8Array | number;
export type EntryBody =
  | { readonly type: 'directory' | 'fifo' | 'socket' }
  | { readonly type: 'file'; readonly pieces: readonly Piece[] }
  | { readonly type: 'symlink'; readonly target: string }
  | { readonly type: 'block' | 'character'; readonly major: number; readonly minor: number }
  | { readonly type: 'link'; readonly to: string };
export type Entry = { readonly path: string; readonly meta: Meta } & EntryBody;

export const META: Meta = { mode: 0o644, uid: 0, gid: 0, mtime: 1_700_000_000 };
export const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
export const file = (path: string, pieces: readonly Piece[] | string, meta: Partial<Meta> = {}): Entry => ({
  path,
  type: 'file',
  pieces: typeof pieces === 'string' ? [bytes(pieces)] : pieces,
  meta: { ...META, ...meta },
});
export const directory = (path: string, meta: Partial<Meta> = {}): Entry => ({
  path,
  type: 'directory',
  meta: { ...META, mode: 0o755, ...meta },
});

/** Bytes that compress badly, the same for the same seed. */
export const noise = (length: number, seed: number): Buffer => {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed * 2_654_435_761 + 1;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    words[i] = state ^ (state >>> 13);
  }
  return Buffer.from(words.buffer, 0, length);
};

/** Bytes that compress well and whose blocks all differ. */
export const prose = (length: number, seed: number): Buffer => {
  const text: string[] = [];
  for (let size = 0, line = 0; size < length; line++) {
    const next = `${seed}: line ${line} of ${(line * 7919 + seed) % 1000} words\n`;
    size += next.length;
    text.push(next);
  }
  return Buffer.from(text.join('')).subarray(0, length);
};

const scratchRoot = mkdtempSync(join(tmpdir(), 'tsrun-squashfs-'));
const mounts: string[] = [];
let names = 0;
process.on('exit', () => {
  for (const mount of mounts) spawnSync('umount', [mount]);
  rmSync(scratchRoot, { recursive: true, force: true });
});
export const scratch = (): string => join(scratchRoot, String(names++));

/** Runs a program that must succeed. */
export const must = (argv: readonly string[]): SpawnSyncReturns<string> => {
  const done = spawnSync(argv[0] as string, argv.slice(1), { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (done.status !== 0) throw new Error(`${argv.join(' ')}: ${done.error?.message ?? done.stderr}`);
  return done;
};

/** The codec of the native program, as a program of its own (native/codec.c behind a main of one line). */
export const codecCommand = (): readonly string[] => {
  const program = join(scratchRoot, 'codec');
  if (codecBuilt) return [program, '@codec'];
  const native = resolve(import.meta.dirname, '../../native');
  const main = `${program}.c`;
  writeFileSync(main, '#include "codec.h"\nint main(int argc, char **argv) { return codec_main(argc - 1, argv + 1); }\n');
  const sources = [main, join(native, 'codec.c'), join(native, 'util.c')];
  must([
    'cc',
    '-std=gnu11',
    '-D_GNU_SOURCE',
    '-g',
    '-O1',
    '-fsanitize=address,undefined',
    `-I${native}`,
    ...sources,
    '-o',
    program,
    '-llzma',
    '-llz4',
  ]);
  codecBuilt = true;
  return [program, '@codec'];
};
let codecBuilt = false;

export type Written = { readonly path: string; readonly result: WriteResult };

/** Writes an image with the given feeder. */
export const writeImage = async (
  options: Omit<WriterOptions, 'fd'>,
  feed: (writer: Writer, tree: Tree) => Promise<void>,
): Promise<Written> => {
  const path = scratch();
  const fd = openSync(path, 'w+');
  const needsCodec = options.compressor === 'xz' || options.compressor === 'lz4';
  const writer = createSquashfsWriter({ fd, threads: 2, ...(needsCodec ? { codecCommand: codecCommand() } : {}), ...options });
  try {
    const tree = createTree();
    await feed(writer, tree);
    return { path, result: await writer.finish(tree) };
  } finally {
    await writer.abort();
    closeSync(fd);
  }
};

/** Feeds one file; chunks of `chunk` bytes at a time. */
export const feedFile = async (writer: Writer, pieces: readonly Piece[], chunk = 100_000): Promise<FileContent> => {
  writer.beginFile(pieces.reduce<number>((sum, piece) => sum + (typeof piece === 'number' ? piece : piece.length), 0));
  for (const piece of pieces) {
    if (typeof piece === 'number') await writer.hole(piece);
    else for (let at = 0; at < piece.length; at += chunk) await writer.write(piece.subarray(at, at + chunk));
  }
  return writer.endFile();
};

export const nodeAt = (tree: Tree, path: string): NodeId =>
  path.split('/').reduce((dir, name) => (name === '' ? dir : lookup(tree, dir, bytes(name))), ROOT);

/** Adds the entries in their order; directories come before what is in them. */
export const feedEntries =
  (entries: readonly Entry[], chunk?: number) =>
  async (writer: Writer, tree: Tree): Promise<void> => {
    for (const entry of entries) {
      const slash = entry.path.lastIndexOf('/');
      const dir = nodeAt(tree, entry.path.slice(0, Math.max(slash, 0)));
      const name = bytes(entry.path.slice(slash + 1));
      if (entry.path === '') {
        setMeta(tree, ROOT, entry.meta);
        continue;
      }
      switch (entry.type) {
        case 'directory':
          addDirectory(tree, dir, name, entry.meta);
          break;
        case 'file':
          setFileContent(tree, addFile(tree, dir, name, entry.meta), await feedFile(writer, entry.pieces, chunk));
          break;
        case 'symlink':
          addSymlink(tree, dir, name, bytes(entry.target), entry.meta);
          break;
        case 'block':
        case 'character':
          addDevice(tree, dir, name, entry, entry.meta);
          break;
        case 'fifo':
          addFifo(tree, dir, name, entry.meta);
          break;
        case 'socket':
          addSocket(tree, dir, name, entry.meta);
          break;
        case 'link':
          addHardLink(tree, dir, name, nodeAt(tree, entry.to));
      }
    }
  };

export const imageOf = (entries: readonly Entry[], options: Omit<WriterOptions, 'fd'> = {}): Promise<Written> =>
  writeImage(options, feedEntries(entries));

/** Mounts the image with the kernel's SquashFS; unmounted when the test process ends. */
export const mountImage = (path: string): string => {
  const point = scratch();
  mkdirSync(point);
  must(['mount', '-t', 'squashfs', '-o', 'loop,ro', path, point]);
  mounts.push(point);
  return point;
};

export const unmount = (point: string): void => {
  must(['umount', point]);
  mounts.splice(mounts.indexOf(point), 1);
};

/** Extracts with unsquashfs as root, so that owners, devices and xattrs come along. */
export const extractImage = (path: string): string => {
  const target = scratch();
  must(['unsquashfs', '-no-progress', '-quiet', '-d', target, path]);
  return target;
};

const at = (root: string, path: string): Buffer => Buffer.concat([Buffer.from(`${root}/`), bytes(path)]);

export const contentOf = (pieces: readonly Piece[]): Buffer =>
  Buffer.concat(pieces.map((piece) => (typeof piece === 'number' ? Buffer.alloc(piece) : piece)));

const TYPE_BITS = {
  directory: 0o40000,
  file: 0o100000,
  symlink: 0o120000,
  block: 0o60000,
  character: 0o20000,
  fifo: 0o10000,
  socket: 0o140000,
};

/** Everything lstat, readlink, read and readdir tell of the entries, and that there is nothing else. */
export const assertSameTree = (root: string, entries: readonly Entry[]): void => {
  for (const entry of entries) assertSameEntry(root, entry, entries);
  const listed = entries.filter((entry) => entry.path !== '').map((entry) => entry.path);
  assert.equal(listPaths(root).sort(), listed.sort());
};

const assertSameEntry = (root: string, entry: Entry, entries: readonly Entry[]): void => {
  const original = entry.type === 'link' ? entries.find(({ path }) => path === entry.to) : entry;
  if (original === undefined || original.type === 'link') throw new Error(`${entry.path} links to nothing`);
  const path = at(root, entry.path);
  const stat = lstatSync(path, { bigint: true });
  const { meta } = original;
  const seen = {
    path: entry.path,
    mode: Number(stat.mode),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtime: Number(stat.mtimeMs) / 1000,
  };
  // A symlink's mode is not settable on Linux: unsquashfs cannot restore it.
  const mode = original.type === 'symlink' ? seen.mode : TYPE_BITS[original.type] | meta.mode;
  assert.equal(seen, { path: entry.path, mode, uid: meta.uid, gid: meta.gid, mtime: meta.mtime });
  assert.is(seen.mode & 0o170000, TYPE_BITS[original.type]);
  const names = entries.filter((other) => other === original || (other.type === 'link' && other.to === original.path)).length;
  if (original.type !== 'directory') assert.is(Number(stat.nlink), names, `links of ${entry.path}`);
  if (original.type === 'file') {
    const expected = contentOf(original.pieces);
    assert.is(Number(stat.size), expected.length, entry.path);
    assert.ok(readFileSync(path).equals(expected), `content of ${entry.path}`);
  } else if (original.type === 'symlink') {
    assert.is(readlinkSync(path, { encoding: 'latin1' as BufferEncoding }), original.target);
  } else if (original.type === 'block' || original.type === 'character') {
    assert.is(stat.rdev, deviceNumber(original.major, original.minor), entry.path);
  }
  if (entry.type === 'link') assert.is(stat.ino, lstatSync(at(root, entry.to), { bigint: true }).ino, `${entry.path} is not ${entry.to}`);
};

/** gnu_dev_makedev, as stat(2) reports. */
const deviceNumber = (major: number, minor: number): bigint => {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return ((high & 0xfffn) << 8n) | ((high >> 12n) << 44n) | (low & 0xffn) | ((low >> 8n) << 20n);
};

const listPaths = (root: string, below = ''): string[] =>
  readdirSync(at(root, below), { encoding: 'buffer', withFileTypes: true }).flatMap((found) => {
    const path = (below === '' ? '' : `${below}/`) + (found.name as unknown as Buffer).toString('latin1');
    return found.isDirectory() ? [path, ...listPaths(root, path)] : [path];
  });

/** All xattrs of one file as getfattr sees them: name → hex. For ASCII paths. */
export const xattrsAt = (path: string): Record<string, string> => {
  const { stdout } = must(['getfattr', '-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', path]);
  return Object.fromEntries([...stdout.matchAll(/^([^#=\n]+)=0x([0-9a-f]*)$/gm)].map((match) => [match[1], match[2]]));
};
