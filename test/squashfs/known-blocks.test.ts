/** Blocks that an earlier image has are copied from it, and nobody can tell from the result. */
import { closeSync, copyFileSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlockList } from '../../src/squashfs/known-blocks.ts';
import type { WriterOptions } from '../../src/squashfs/types.ts';
import { sampleEntries } from './fixtures/sample.ts';
import { assertSameTree, type Entry, file, imageOf, mountImage, noise, prose, scratch, unmount, type Written } from './support.ts';

const test = suite('squashfs known blocks');

/** The second is the first after a change: a file in front, which moves small ones to other fragment blocks, and one that shares its beginning. */
const before: readonly Entry[] = sampleEntries();
const after: readonly Entry[] = [
  file('new', [prose(300, 7)]),
  file('longer', [prose(700_000, 3), noise(50_000, 9)]),
  ...before.filter(({ path }) => path !== 'new' && path !== 'longer' && path !== ''),
];

const listOf = ({ result }: Written): BlockList => {
  assert.ok(result.blocks !== undefined);
  return result.blocks;
};

/** The second image, made with what the file at `path` is said to have. */
const withKnown = async (path: string, blocks: BlockList, options: Omit<WriterOptions, 'fd'> = {}): Promise<Written> => {
  const fd = openSync(path, 'r');
  try {
    return await imageOf(after, { ...options, known: [{ fd, blocks }] });
  } finally {
    closeSync(fd);
  }
};

const assertSame = (one: Written, other: Written): void => {
  assert.ok(readFileSync(one.path).equals(readFileSync(other.path)), 'other bytes');
};

for (const options of [{}, { compressor: 'gzip', blockSize: 16_384 }, { compressor: 'lz4' }, { offset: 12_345 }] as const) {
  test(`with and without earlier images the bytes are the same: ${JSON.stringify(options)}`, async () => {
    const first = await imageOf(before, { ...options, known: [] });
    assertSame(first, await imageOf(before, options));
    const second = await withKnown(first.path, listOf(first), options);
    assertSame(second, await imageOf(after, options));
    // What is listed of an image made of copies is as good.
    assertSame(await withKnown(second.path, listOf(second), options), second);
  });
}

test('blocks are copied and not compressed', async () => {
  // Those of another level can be told apart.
  const first = await imageOf(before, { level: 19, known: [] });
  const second = await withKnown(first.path, listOf(first), { level: 1 });
  const plain = await imageOf(after, { level: 1 });
  assert.is(second.result.treeDigest, plain.result.treeDigest);
  assert.not.ok(readFileSync(second.path).equals(readFileSync(plain.path)));
  const mount = mountImage(second.path);
  assertSameTree(mount, after);
  unmount(mount);
});

test('an earlier image that has changed, is cut off or gone does no harm', async () => {
  const first = await imageOf(before, { known: [] });
  const plain = await imageOf(after);
  const damaged = scratch();
  const content = readFileSync(first.path);
  for (let at = 200; at < content.length; at += 5000) content[at] = (content[at] as number) ^ 1;
  writeFileSync(damaged, content);
  assertSame(await withKnown(damaged, listOf(first)), plain);
  const short = scratch();
  copyFileSync(first.path, short);
  truncateSync(short, 10_000);
  assertSame(await withKnown(short, listOf(first)), plain);
  assertSame(await imageOf(after, { known: [{ fd: 1_000_000, blocks: listOf(first) }] }), plain);
});

test('blocks of a file that turned out to be there already are not listed', async () => {
  const twice: readonly Entry[] = [file('a', [noise(400_000, 1)]), file('b', [noise(400_000, 1)]), file('c', [noise(5, 2)])];
  const { result, path } = await imageOf(twice, { known: [] });
  const { count, position, size } = result.blocks as BlockList;
  assert.is(count, 5); // four of a, one fragment block
  const ends = [...position.subarray(0, count)].map((at, index) => at + ((size[index] as number) & 0xffffff));
  assert.ok(ends.every((end) => end <= readFileSync(path).length));
});

test('larger blocks are compressed, and not listed', async () => {
  const { result } = await imageOf(before, { blockSize: 1 << 20, known: [] });
  assert.is(result.blocks, undefined);
});

test.run();
