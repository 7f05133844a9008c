/** How file contents are stored: duplicates, holes, odd sizes, wrong sizes. */
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addFile, createTree, ROOT, setFileContent } from '../../src/squashfs/tree.ts';
import { createSquashfsWriter } from '../../src/squashfs/writer.ts';
import { failure } from '../helpers/throws.ts';
import {
  assertSameTree,
  bytes,
  type Entry,
  extractImage,
  feedEntries,
  feedFile,
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

const test = suite('squashfs contents');
const BLOCK = 131_072;

const checked = async (entries: readonly Entry[], options: Parameters<typeof imageOf>[1] = {}) => {
  const written = await imageOf(entries, options);
  const mount = mountImage(written.path);
  assertSameTree(mount, entries);
  unmount(mount);
  return written;
};
const kib = (path: string): number => Math.round(statSync(path).size / 1024);

test('a small file given five times is stored once', async () => {
  const content = noise(100_000, 1);
  const { path, result } = await checked([1, 2, 3, 4, 5].map((i) => file(`copy${i}`, [content])));
  assert.equal(result.duplicates, { files: 4, bytes: 400_000 });
  assert.ok(kib(path) < 110, `${kib(path)} KiB`);
});

test('a large file given again is stored once, also with other files between', async () => {
  const content = noise(5_000_000, 2);
  const between = prose(900_000, 3);
  const entries = [file('a', [content]), file('b', [between]), file('c', [content]), file('d', [prose(50, 4)]), file('e', [content])];
  const { path, result } = await checked(entries);
  assert.equal(result.duplicates, { files: 2, bytes: 10_000_000 });
  assert.ok(kib(path) < 5_200, `${kib(path)} KiB`);
});

test('a file whose blocks are a run of an earlier file shares them', async () => {
  const whole = noise(20 * BLOCK, 5);
  const inside = whole.subarray(3 * BLOCK, 11 * BLOCK);
  for (const blockSize of [16_384, BLOCK, 262_144]) {
    const aligned = Math.max(blockSize, BLOCK);
    const run = blockSize > BLOCK ? whole.subarray(2 * aligned, 6 * aligned) : inside;
    const { path, result } = await checked([file('whole', [whole]), file('run', [run])], { blockSize });
    assert.is(result.duplicates.files, 1);
    assert.ok(kib(path) < 2_600, `${kib(path)} KiB at ${blockSize}`);
  }
});

test('files that only begin alike are kept apart, and copies of either are found', async () => {
  const start = noise(BLOCK, 6);
  const one = Buffer.concat([start, noise(300_000, 7)]);
  const other = Buffer.concat([start, noise(300_000, 8)]);
  const entries = [file('one', [one]), file('other', [other]), file('other-again', [other]), file('one-again', [one])];
  const { result } = await checked(entries);
  assert.equal(result.duplicates, { files: 2, bytes: one.length + other.length });
});

test('a last block that differs only in length is not taken for the same', async () => {
  const content = Buffer.alloc(3 * BLOCK, 'abc');
  const entries = [file('a', [content]), file('b', [content.subarray(0, 3 * BLOCK - 1)]), file('c', [content.subarray(0, 2 * BLOCK)])];
  const { result } = await checked(entries);
  assert.is(result.duplicates.files, 1);
});

test('zeros take no room and are the same image whether given as bytes or as a hole', async () => {
  const head = prose(BLOCK, 9);
  const layouts = [
    [file('f', [head, 30 * BLOCK + 17, prose(10, 1)]), file('tail', [head, 5_000_000])],
    [file('f', [head, Buffer.alloc(30 * BLOCK + 17), prose(10, 1)]), file('tail', [head, Buffer.alloc(5_000_000)])],
    [file('f', [head, 1000, Buffer.alloc(8 * BLOCK), 22 * BLOCK - 983, prose(10, 1)]), file('tail', [head, 1, 4_999_999])],
  ];
  const images: Buffer[] = [];
  for (const entries of layouts) {
    const { path } = await imageOf(entries);
    const mount = mountImage(path);
    assertSameTree(mount, entries);
    assert.ok(statSync(`${mount}/f`).blocks * 512 < 3 * BLOCK, 'the hole counts as used');
    unmount(mount);
    assertSameTree(extractImage(path), entries);
    images.push(readFileSync(path));
  }
  for (const image of images) assert.ok(image.equals(images[0] as Buffer));
  assert.ok((images[0] as Buffer).length < 50_000);
});

test('a file beyond 4 GiB, nearly all of it a hole, is read at its start, middle and end', async () => {
  const GIB = 2 ** 30;
  const parts = { start: prose(70_000, 10), middle: noise(200_000, 11), end: prose(33, 12) };
  const { path } = await writeImage({}, async (writer, tree) => {
    const node = addFile(tree, ROOT, bytes('huge'), META);
    const pieces = [parts.start, 3 * GIB, parts.middle, 2 * GIB + 5, parts.end];
    setFileContent(tree, node, await feedFile(writer, pieces));
  });
  const mount = mountImage(path);
  const size = 5 * GIB + 5 + parts.start.length + parts.middle.length + parts.end.length;
  assert.is(statSync(`${mount}/huge`).size, size);
  const fd = openSync(`${mount}/huge`, 'r');
  const read = (at: number, length: number): Buffer => {
    const buffer = Buffer.alloc(length);
    assert.is(readSync(fd, buffer, 0, length, at), length);
    return buffer;
  };
  const around = (part: Buffer, at: number): void => {
    assert.ok(read(at, part.length).equals(part));
    assert.is(read(at - 1, 1)[0], 0);
  };
  assert.ok(read(0, parts.start.length).equals(parts.start));
  around(parts.middle, 3 * GIB + parts.start.length);
  around(parts.end, size - parts.end.length);
  assert.ok(read(4 * GIB, 1_000_000).every((byte) => byte === 0));
  closeSync(fd);
  unmount(mount);
  assert.ok(kib(path) < 500, `${kib(path)} KiB`);
});

test('sizes around every border come back for small and large blocks', async () => {
  for (const blockSize of [4096, BLOCK, 2 ** 20]) {
    const borders = [
      1,
      4095,
      4096,
      4097,
      BLOCK - 1,
      BLOCK,
      BLOCK + 1,
      2 ** 20 - 1,
      2 ** 20,
      2 ** 20 + 1,
      2 ** 21 + BLOCK,
      2 ** 21 + BLOCK + 1,
    ];
    await checked(
      borders.map((size, i) => file(`f${size}`, [i % 2 === 0 ? prose(size, i) : noise(size, i)])),
      { blockSize },
    );
  }
});

test('thousands of tiny files come back', async () => {
  const entries = Array.from({ length: 6000 }, (_, i) => file(`f${i}`, `content ${i % 4000}`));
  const { result } = await checked(entries);
  assert.is(result.duplicates.files, 2000);
});

test('how the bytes arrive does not change the image', async () => {
  const entries = [file('a', [prose(700_000, 13)]), file('b', [noise(300, 14)]), file('c', [1000, prose(2_000_000, 15)])];
  const images: Buffer[] = [];
  for (const chunk of [1021, 65_536, 10_000_000]) images.push(readFileSync((await writeImage({}, feedEntries(entries, chunk))).path));
  for (const image of images) assert.ok(image.equals(images[0] as Buffer));
});

const withWriter = async (use: (writer: ReturnType<typeof createSquashfsWriter>) => unknown): Promise<void> => {
  const fd = openSync(scratch(), 'w+');
  const writer = createSquashfsWriter({ fd, threads: 1 });
  try {
    await use(writer);
  } finally {
    await writer.abort();
    closeSync(fd);
  }
};

test('more or fewer bytes than announced are an error', async () => {
  await withWriter(async (writer) => {
    writer.beginFile(10);
    assert.match((await failure(() => writer.write(Buffer.alloc(11)), 'E_SQUASHFS_CONTENT')).message, /more than the 10 bytes/);
    await failure(() => writer.hole(11), 'E_SQUASHFS_CONTENT');
    writer.write(Buffer.alloc(9));
    assert.match((await failure(() => writer.endFile(), 'E_SQUASHFS_CONTENT')).message, /9 of 10 bytes/);
    await failure(() => writer.beginFile(1), 'E_SQUASHFS_CONTENT');
  });
});

test('a file of more blocks than memory can list is refused before its bytes come', async () => {
  await withWriter(async (writer) => {
    for (const size of [2 ** 42, Number.MAX_VALUE, -1, 0.5, Number.NaN]) await failure(() => writer.beginFile(size), 'E_SQUASHFS_SIZE');
  });
});

test('an image cannot be finished within a file', async () => {
  await withWriter(async (writer) => {
    writer.beginFile(10);
    await failure(() => writer.finish(createTree()), 'E_SQUASHFS_CONTENT');
  });
});

test.run();
