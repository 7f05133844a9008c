/** The same input gives the same bytes, and the tree digest is what README.md defines. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addFile, ROOT, remove } from '../../src/squashfs/tree.ts';
import type { Compressor } from '../../src/squashfs/types.ts';
import { run } from '../helpers/proc.ts';
import { sampleEntries } from './fixtures/sample.ts';
import {
  assertSameTree,
  bytes,
  contentOf,
  directory,
  type Entry,
  feedEntries,
  file,
  imageOf,
  META,
  mountImage,
  noise,
  prose,
  scratch,
  unmount,
  writeImage,
} from './support.ts';

const test = suite('squashfs determinism');

const sha256 = (content: Uint8Array): Buffer => createHash('sha256').update(content).digest();

test('1, 2 and 8 threads write the same bytes', async () => {
  const entries = sampleEntries();
  const images: string[] = [];
  for (const threads of [1, 2, 8, 8]) {
    const { path } = await imageOf(entries, { threads });
    images.push(sha256(readFileSync(path)).toString('hex'));
    if (threads !== 1) continue;
    const mount = mountImage(path);
    assertSameTree(mount, entries);
    unmount(mount);
  }
  assert.is(new Set(images).size, 1);
});

test('another directory, time zone, locale and umask write the same bytes', async () => {
  const script = join(import.meta.dirname, 'fixtures/write-sample.ts');
  const images: string[] = [];
  for (const environment of [
    { TZ: 'UTC', LC_ALL: 'C' },
    { TZ: 'Pacific/Apia', LC_ALL: 'tr_TR.UTF-8', LANG: 'tr_TR.UTF-8' },
  ]) {
    const cwd = scratch();
    mkdirSync(cwd);
    const image = join(cwd, 'image');
    const argv = ['sh', '-c', 'umask 077; exec "$@"', 'sh', process.execPath, script, image, '3'];
    const { status, stderr } = await run(argv, { cwd, env: { PATH: process.env['PATH'], ...environment } });
    assert.is(status, 0, stderr);
    images.push(sha256(readFileSync(image)).toString('hex'));
  }
  assert.is(images[0], images[1]);
});

test('other levels and block sizes give other bytes and the same tree digest', async () => {
  const entries = sampleEntries();
  const variants: readonly { readonly compressor: Compressor; readonly blockSize?: number; readonly level?: number }[] = [
    { compressor: 'zstd' },
    { compressor: 'zstd', level: 1 },
    { compressor: 'gzip', level: 1, blockSize: 1 << 20 },
    { compressor: 'lz4', blockSize: 8192 },
  ];
  const digests = new Set<string>();
  const images = new Set<string>();
  for (const variant of variants) {
    const { path, result } = await imageOf(entries, variant);
    digests.add(result.treeDigest);
    images.add(sha256(readFileSync(path)).toString('hex'));
  }
  assert.is(digests.size, 1);
  assert.is(images.size, variants.length);
});

const xattr = (name: string, value: string) => ({ name: Buffer.from(name), value: Buffer.from(value) });
const digested: readonly Entry[] = [
  directory('', { mode: 0o755, uid: 1, gid: 2, mtime: 3 }),
  file('b', [prose(1000, 1)], { mode: 0o4755, xattrs: [xattr('user.z', 'last'), xattr('security.capability', 'first')] }),
  directory('a', { mtime: 0xffffffff }),
  file('a/chunk', [noise(131_072, 2)]),
  file('a/more', [noise(131_072, 2), 300_000, noise(5, 3)]),
  { path: 'a-', type: 'symlink', target: 'a/\xff', meta: { ...META, mode: 0o777 } },
  { path: 'c', type: 'character', major: 5, minor: 1000, meta: META },
  { path: 'd', type: 'block', major: 8, minor: 0, meta: META },
  { path: 'e', type: 'fifo', meta: META },
  { path: 'f', type: 'socket', meta: META },
  file('g', ''),
  { path: 'a/hard', type: 'link', to: 'b', meta: META },
];

/** README.md, "Tree digest", word for word, from the list of entries. */
const digestByDefinition = (entries: readonly Entry[]): string => {
  const out: Buffer[] = [Buffer.from('tsrun tree digest 1\n')];
  const u32 = (value: number): void => {
    const word = Buffer.alloc(4);
    word.writeUInt32LE(value);
    out.push(word);
  };
  const u64 = (value: number): void => {
    const word = Buffer.alloc(8);
    word.writeBigUInt64LE(BigInt(value));
    out.push(word);
  };
  const string = (value: Uint8Array): void => {
    u32(value.length);
    out.push(Buffer.from(value));
  };
  const key = (path: string): string => path.replaceAll('/', '\0');
  const sorted = entries.toSorted((one, other) => (key(one.path) < key(other.path) ? -1 : 1));
  const seen = new Map<string, number>();
  sorted.forEach((entry, index) => {
    const parts = entry.path === '' ? [] : entry.path.split('/');
    const inode = entry.type === 'link' ? entry.to : entry.path;
    u32(parts.length);
    string(bytes(parts.at(-1) ?? ''));
    const first = seen.get(inode);
    if (first !== undefined) {
      out.push(bytes('h'));
      u32(first);
      return;
    }
    seen.set(inode, index + 1);
    const original = entries.find(({ path }) => path === inode) as Entry;
    out.push(
      bytes({ directory: 'd', file: 'f', symlink: 'l', block: 'b', character: 'c', fifo: 'p', socket: 's', link: '' }[original.type]),
    );
    const { mode, uid, gid, mtime, xattrs = [] } = original.meta;
    for (const value of [mode, uid, gid]) u32(value);
    u64(mtime);
    u32(xattrs.length);
    for (const { name, value } of xattrs.toSorted((one, other) => Buffer.compare(one.name, other.name))) {
      string(name);
      string(value);
    }
    if (original.type === 'file') {
      const content = contentOf(original.pieces);
      const chunks = Array.from({ length: Math.ceil(content.length / 131_072) }, (_, i) =>
        sha256(content.subarray(i * 131_072, (i + 1) * 131_072)),
      );
      u64(content.length);
      string(content.length <= 131_072 ? sha256(content) : sha256(Buffer.concat(chunks)));
    }
    if (original.type === 'symlink') string(bytes(original.target));
    if (original.type === 'block' || original.type === 'character') {
      u32(original.major);
      u32(original.minor);
    }
  });
  return `sha256:${sha256(Buffer.concat(out)).toString('hex')}`;
};

test('the tree digest is the one the README defines, and stays what it was', async () => {
  const { result } = await imageOf(digested);
  assert.is(result.treeDigest, digestByDefinition(digested));
  assert.is(result.treeDigest, 'sha256:dc759e57031bf7026e7814cd07fe7e1f24887c7afc1bbec5e0f995fd7c1684af');
  const sample = sampleEntries();
  assert.is((await imageOf(sample)).result.treeDigest, digestByDefinition(sample));
});

test('the tree digest does not depend on the order of feeding, nor on what was removed', async () => {
  const plain = await imageOf(digested);
  const order = ['', 'g', 'b', 'a', 'f', 'e', 'a-', 'd', 'c', 'a/hard', 'a/more', 'a/chunk'];
  const shuffled = await imageOf(order.map((path) => digested.find((entry) => entry.path === path) as Entry));
  assert.is(shuffled.result.treeDigest, plain.result.treeDigest);
  const pruned = await writeImage({}, async (writer, tree) => {
    remove(tree, addFile(tree, ROOT, bytes('gone'), META));
    await feedEntries(digested)(writer, tree);
  });
  assert.is(pruned.result.treeDigest, plain.result.treeDigest);
});

test('the tree digest changes with every property', async () => {
  const digests = new Set([(await imageOf(digested)).result.treeDigest]);
  const change = async (path: string, changed: Partial<Entry>): Promise<void> => {
    const entries = digested.map((entry) => (entry.path === path ? ({ ...entry, ...changed } as Entry) : entry));
    digests.add((await imageOf(entries)).result.treeDigest);
  };
  const changes: readonly [string, Partial<Entry>][] = [
    ['', { meta: { ...META, mode: 0o755, uid: 1, gid: 2, mtime: 4 } }],
    ['g', { meta: { ...META, mode: 0o4644 } }],
    ['g', { meta: { ...META, uid: 1 } }],
    ['g', { meta: { ...META, gid: 1 } }],
    ['g', { meta: { ...META, mtime: 9 } }],
    ['g', { meta: { ...META, xattrs: [xattr('user.a', '')] } }],
    ['g', { meta: { ...META, xattrs: [xattr('user.a', 'b')] } }],
    ['g', { path: 'h' }],
    ['g', { type: 'fifo' }],
    ['g', { type: 'file', pieces: [bytes('x')] }],
    ['a-', { type: 'symlink', target: 'a/\xfe' }],
    ['c', { type: 'block' }],
    ['c', { type: 'character', major: 5, minor: 1001 }],
    ['a/hard', { type: 'link', to: 'g' }],
    ['a/hard', { type: 'file', pieces: [prose(1000, 1)] }],
  ];
  for (const [path, changed] of changes) await change(path, changed);
  assert.is(digests.size, changes.length + 1);
});

test.run();
