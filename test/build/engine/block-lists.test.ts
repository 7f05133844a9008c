/** Lists of the blocks of built images, and what is believed of them. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type BlockSettings, keepBlockList, openBuiltImages } from '../../../src/build/engine/block-lists.ts';
import type { Cache } from '../../../src/build/engine/cache.ts';
import { sha256 } from '../../../src/squashfs/compress-slab.ts';
import { type BlockList, createBlockList, listBlock } from '../../../src/squashfs/known-blocks.ts';

const test = suite('lists of blocks');
const place = mkdtempSync(join(tmpdir(), 'tsrun-blocks-'));
process.on('exit', () => rmSync(place, { recursive: true, force: true }));

const SETTINGS: BlockSettings = { compressor: 'zstd', level: 3, blockSize: 131_072 };

let count = 0;
const cacheOf = (): Pick<Cache, 'root'> & Cache => {
  const root = join(place, `cache${++count}`);
  mkdirSync(join(root, 'blocks'), { recursive: true });
  const unused = async (): Promise<never> => {
    throw new Error('not called');
  };
  const timing = { now: Date.now, random: () => 0, sleep: unused };
  return { root, remove: unused, sync: unused, timing, boot: '', unsynced: new Set() };
};

const imageFile = (name: string): string => {
  const path = join(place, name);
  writeFileSync(path, name);
  return path;
};

const listOf = (...blocks: readonly string[]): BlockList => {
  const list = createBlockList();
  for (const [at, text] of blocks.entries()) {
    const digest = sha256(Buffer.from(text));
    listBlock(list, 1000 * at + 2 ** 40, text.length, digest, digest.subarray(0, 16));
  }
  return list;
};

const positionsKnown = async (cache: Cache, settings = SETTINGS): Promise<readonly (readonly number[])[]> => {
  const { known, close } = await openBuiltImages(cache, settings);
  const found = known.map(({ blocks }) => [...blocks.position.subarray(0, blocks.count)]);
  await close();
  return found;
};

test('what was kept is found again, with the image open for reading', async () => {
  const cache = cacheOf();
  const image = imageFile('one');
  const kept = listOf('a', 'bc');
  await keepBlockList(cache, SETTINGS, image, kept);
  const { known, close } = await openBuiltImages(cache, SETTINGS);
  assert.is(known.length, 1);
  const [{ fd = -1, blocks = createBlockList() } = {}] = known;
  const content = Buffer.alloc(3);
  readSync(fd, content);
  assert.is(content.toString(), 'one');
  assert.is(blocks.count, 2);
  assert.equal([...blocks.position], [2 ** 40, 2 ** 40 + 1000]);
  assert.equal([...blocks.size], [1, 2]);
  assert.equal([...blocks.digest], [...kept.digest.subarray(0, 64)]);
  assert.equal([...blocks.check], [...kept.check.subarray(0, 32)]);
  await close();
});

test('an image has one list, and other settings have others', async () => {
  const cache = cacheOf();
  const image = imageFile('two');
  await keepBlockList(cache, SETTINGS, image, listOf('a'));
  await keepBlockList(cache, SETTINGS, image, listOf('a', 'b'));
  assert.is((await positionsKnown(cache))[0]?.length, 2);
  assert.is((await positionsKnown(cache)).length, 1);
  for (const settings of [
    { ...SETTINGS, level: 4 },
    { ...SETTINGS, blockSize: 65_536 },
    { ...SETTINGS, compressor: 'gzip' as const },
  ])
    assert.equal(await positionsKnown(cache, settings), []);
});

test('without its image, or damaged anywhere, a list is none', async () => {
  const cache = cacheOf();
  await keepBlockList(cache, SETTINGS, join(place, 'gone'), listOf('a'));
  await keepBlockList(cache, SETTINGS, place, listOf('a'));
  assert.equal(await positionsKnown(cache), []);
  const other = cacheOf();
  await keepBlockList(other, SETTINGS, imageFile('three'), listOf('a'));
  assert.is((await positionsKnown(other)).length, 1);
  const path = join(other.root, 'blocks', readdirSync(join(other.root, 'blocks'))[0] ?? '');
  const bytes = readFileSync(path);
  for (const at of [0, 40, bytes.length - 1]) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] as number) ^ 1;
    writeFileSync(path, changed);
    assert.equal(await positionsKnown(other), []);
  }
  writeFileSync(path, '');
  assert.equal(await positionsKnown(other), []);
});

test('the latest images are looked into, and lists of old ones go', async () => {
  const cache = cacheOf();
  for (let at = 0; at < 70; at++) {
    await keepBlockList(cache, SETTINGS, imageFile(`many${at}`), listOf(...Array.from({ length: at + 1 }, (_, block) => `${block}`)));
    for (const name of readdirSync(join(cache.root, 'blocks'))) {
      const path = join(cache.root, 'blocks', name);
      const made = Number(/many(\d+)"/.exec(readFileSync(path, 'latin1'))?.[1]);
      utimesSync(path, 1000 + made, 1000 + made);
    }
  }
  assert.is(readdirSync(join(cache.root, 'blocks')).length, 64);
  assert.equal(
    (await positionsKnown(cache)).map(({ length }) => length),
    [70, 69, 68, 67, 66, 65, 64, 63],
  );
});

test.run();
