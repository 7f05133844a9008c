/** The tar writer, read back by our own reader, by GNU tar and by npm's. */
import { spawnSync } from 'node:child_process';
import { Parser, type ReadEntry } from 'tar';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { TarEntry } from '../../src/tar/entry.ts';
import { transformTar } from '../../src/tar/transform.ts';
import { type TarItem, writeTar } from '../../src/tar/write.ts';
import { readTar } from '../helpers/read-tar.ts';

const test = suite('tar writer');

const entry = (given: Partial<TarEntry> & { path: string }): TarEntry => ({
  type: 'file',
  linkpath: '',
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 1_700_000_000,
  mtimeNanos: 0,
  size: 0,
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
  ...given,
});

const long = `${'d'.repeat(90)}/${'f'.repeat(90)}`;
const items: readonly TarItem[] = [
  { entry: entry({ path: 'dir', type: 'directory', mode: 0o1777, uid: 3_000_000, gid: 4_000_000_000 }) },
  { entry: entry({ path: long, size: 5, mtimeNanos: 7, mode: 0o4755 }), content: [Buffer.from('he'), Buffer.from('llo')] },
  { entry: entry({ path: 'caf\xe9 \xff', size: 512 }), content: [Buffer.alloc(512, 1)] },
  { entry: entry({ path: 'link', type: 'symlink', linkpath: `/${long}` }) },
  { entry: entry({ path: 'hard', type: 'hardlink', linkpath: long }) },
  { entry: entry({ path: 'null', type: 'character', devMajor: 1, devMinor: 3 }) },
  { entry: entry({ path: 'pipe', type: 'fifo' }) },
  {
    entry: entry({
      path: 'cap',
      mtime: -5,
      mtimeNanos: 250_000_000,
      xattrs: [{ name: Buffer.from('security.capability'), value: Buffer.from([1, 0, 10, 255]) }],
    }),
  },
];

const whole = async (stream: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
};

test('what is written is read back to the bit: long names, bytes that are no text, big ids, times, links, devices, attributes', async () => {
  const read = await readTar(await whole(writeTar(items)), 700);
  assert.is(read.length, items.length);
  for (const [at, { data, ...found }] of read.entries()) {
    const { entry: wanted, content } = items[at] as TarItem;
    const path = wanted.type === 'directory' ? `${wanted.path}/` : wanted.path;
    const plain = (xattrs: TarEntry['xattrs']) => xattrs?.map(({ name, value }) => [`${name}`, [...value]]);
    assert.equal({ ...found, xattrs: plain(found.xattrs) }, { ...wanted, path, xattrs: plain(wanted.xattrs) });
    assert.ok(data.equals(Buffer.concat([...((content ?? []) as Uint8Array[])])));
  }
});

test('GNU tar lists it without a complaint', async () => {
  const { status, stdout, stderr } = spawnSync('tar', ['-tvf', '-', '--numeric-owner'], {
    input: await whole(writeTar(items)),
    encoding: 'latin1',
  });
  assert.is(status, 0, stderr);
  assert.match(stdout, /drwxrwxrwt 3000000\/4000000000/);
  assert.match(stdout, /-rwsr-xr-x 0\/0 +5 /);
  assert.is(stdout.trim().split('\n').length, items.length);
});

test('the tar of npm reads the same names, owners, sizes and bytes', async () => {
  type Seen = readonly [path: string, uid: number | undefined, gid: number | undefined, mode: number, size: number];
  const found: Seen[] = [];
  const parser = new Parser({ strict: true });
  parser.on('entry', (each: ReadEntry) => {
    const parts: Buffer[] = [];
    each.on('data', (bytes) => parts.push(Buffer.from(bytes)));
    each.on('end', () => found.push([each.path, each.uid, each.gid, (each.mode ?? 0) & 0o7777, Buffer.concat(parts).length]));
  });
  parser.end(await whole(writeTar(items)));
  // It takes every name for UTF-8.
  const path = (each: TarEntry): string => Buffer.from(each.path, 'latin1').toString() + (each.type === 'directory' ? '/' : '');
  assert.equal(
    found,
    items.map(({ entry: each }) => [path(each), each.uid, each.gid, each.mode, each.size]),
  );
});

test('a file that is longer or shorter than its entry says is an error', async () => {
  for (const size of [4, 6]) {
    let failed = '';
    try {
      await whole(writeTar([{ entry: entry({ path: 'x', size }), content: [Buffer.from('hello')] }]));
    } catch (error) {
      failed = String(error);
    }
    assert.match(failed, /changed its length/);
  }
});

test('a transformed archive has the entries that are wanted, under their new names, with their bytes', async () => {
  const renamed = transformTar(writeTar(items), 'test', (each) =>
    each.type === 'file' ? { ...each, path: `new/${each.path}`, uid: 5 } : undefined,
  );
  const read = await readTar(await whole(renamed));
  assert.equal(
    read.map(({ path, uid, data }) => [path, uid, data.length]),
    [
      [`new/${long}`, 5, 5],
      ['new/caf\xe9 \xff', 5, 512],
      ['new/cap', 5, 0],
    ],
  );
  assert.is(read[0]?.data.toString(), 'hello');
});

test.run();
