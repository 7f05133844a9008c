/** Directories that are wanted first are written together, at the end of their tables; the file system is the same. */
import { closeSync, openSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createTree, parentOf, ROOT } from '../../src/squashfs/tree.ts';
import { orderTree } from '../../src/squashfs/tree-order.ts';
import { createSquashfsWriter } from '../../src/squashfs/writer.ts';
import { sampleEntries } from './fixtures/sample.ts';
import { assertSameTree, directory, type Entry, feedEntries, file, imageOf, mountImage, nodeAt, scratch, unmount } from './support.ts';

const test = suite('squashfs hot directories');

/** Written with these directories, and all above them, as hot ones. */
const hotImage = async (entries: readonly Entry[], paths: readonly string[]) => {
  const path = scratch();
  const fd = openSync(path, 'w+');
  const writer = createSquashfsWriter({ fd, threads: 2 });
  const tree = createTree();
  try {
    await feedEntries(entries)(writer, tree);
    const hotDirectories = new Uint8Array(tree.count);
    hotDirectories[ROOT] = 1;
    for (const each of paths) for (let at = nodeAt(tree, each); hotDirectories[at] === 0; at = parentOf(tree, at)) hotDirectories[at] = 1;
    return { path, tree, hotDirectories, result: await writer.finish(tree, { hotDirectories }) };
  } finally {
    await writer.abort();
    closeSync(fd);
  }
};

test('the kernel sees the same tree, and the tree digest is the same', async () => {
  const entries = sampleEntries();
  const directories = entries.filter(({ type, path }) => type === 'directory' && path !== '').map(({ path }) => path);
  const plain = await imageOf(entries);
  for (const some of [directories.slice(0, 1), directories.slice(-2), directories]) {
    const { path, result } = await hotImage(entries, some);
    assert.is(result.treeDigest, plain.result.treeDigest);
    const mount = mountImage(path);
    assertSameTree(mount, entries);
    unmount(mount);
  }
});

test('hot ones come last, each still behind what is below it, and the inodes of one directory stay together', async () => {
  const names = ['a', 'a/deep', 'a/deep/er', 'b', 'b/in', 'c', 'c/x', 'c/x/y'];
  const entries = names.flatMap((name) => [directory(name), file(`${name}/f1`, name), file(`${name}/f2`, `${name} too`)]);
  const { tree, hotDirectories } = await hotImage(entries, ['a/deep', 'c']);
  const order = orderTree(tree, { hotDirectories });
  const hot = [...order.directories].map((dir) => hotDirectories[dir] === 1);
  assert.equal(
    hot,
    [...hot].sort((x, y) => Number(x) - Number(y)),
  );
  assert.is(hot.filter(Boolean).length, 4);
  assert.is(order.directories.at(-1), ROOT);
  const place = new Map([...order.directories].map((dir, at) => [dir, at]));
  for (const dir of order.directories) if (dir !== ROOT) assert.ok((place.get(dir) as number) < (place.get(parentOf(tree, dir)) as number));
  for (const dir of order.directories) {
    const numbers = [...order.names.subarray(order.childrenAt[dir] as number, order.childrenAt[dir + 1] as number)].map(
      (name) => order.inodeNumber[name] as number,
    );
    assert.is(Math.max(...numbers) - Math.min(...numbers), numbers.length - 1);
  }
});

test.run();
