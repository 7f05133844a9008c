/** What is not content: names, owners, big directories, xattrs, removed and detached nodes, references for NFS. */
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { addContent, createContents } from '../../src/squashfs/contents.ts';
import { writeInode } from '../../src/squashfs/inodes.ts';
import { createRecordWriter } from '../../src/squashfs/records.ts';
import {
  addDetachedFile,
  addDevice,
  addDirectory,
  addFile,
  addHardLink,
  addSymlink,
  createTree,
  isRemoved,
  lookup,
  ROOT,
  remove,
  setFileContent,
  setMeta,
} from '../../src/squashfs/tree.ts';
import { orderTree, treeStats } from '../../src/squashfs/tree-order.ts';
import type { Meta } from '../../src/squashfs/types.ts';
import { createSquashfsWriter } from '../../src/squashfs/writer.ts';
import { NO_XATTRS } from '../../src/squashfs/xattr-table.ts';
import { failure } from '../helpers/throws.ts';
import {
  assertSameTree,
  bytes,
  directory,
  type Entry,
  extractImage,
  feedFile,
  file,
  imageOf,
  META,
  mountImage,
  must,
  noise,
  prose,
  scratch,
  unmount,
  writeImage,
  xattrsAt,
} from './support.ts';

const test = suite('squashfs tables');
const xattr = (name: string, value: Uint8Array | string) => ({ name: Buffer.from(name), value: Buffer.from(value) });

test('names of 256 bytes are written, of 257 refused', async () => {
  const entries: readonly Entry[] = [255, 256].flatMap((length) => [
    file(`${'n'.repeat(length - 1)}é`, String(length)),
    { path: `${'l'.repeat(length)}`, type: 'symlink', target: 'x', meta: { ...META, mode: 0o777 } },
  ]);
  const { path } = await imageOf(entries);
  const mount = mountImage(path);
  assertSameTree(mount, entries);
  unmount(mount);
  const error = await failure(() => imageOf([file('n'.repeat(257), '')]), 'E_SQUASHFS_NAME');
  assert.match(error.message, /257 bytes/);
});

test('names that cannot be names are refused', async () => {
  const tree = createTree();
  for (const name of ['', '.', '..', 'a/b', 'a\0b']) {
    await failure(() => addFile(tree, ROOT, bytes(name), META), 'E_SQUASHFS_NAME');
  }
  for (const name of ['...', '..a', '.b', '\xff', '\n']) addFile(tree, ROOT, bytes(name), META);
  assert.is(treeStats(tree).files, 5);
});

test('targets, devices, owners and xattrs beyond the limits are refused', async () => {
  const tree = createTree();
  const link = (target: string) => () => addSymlink(tree, ROOT, bytes('l'), bytes(target), META);
  for (const target of ['', 'y'.repeat(4096), 'a\0']) await failure(link(target), 'E_SQUASHFS_SYMLINK');
  const device = (major: number, minor: number) => () => addDevice(tree, ROOT, bytes('d'), { type: 'block', major, minor }, META);
  await failure(device(4096, 0), 'E_SQUASHFS_DEVICE');
  await failure(device(0, 2 ** 20), 'E_SQUASHFS_DEVICE');
  for (const id of [-1, 2 ** 32, 1.5, Number.NaN]) {
    await failure(() => setMeta(tree, ROOT, { ...META, uid: id }), 'E_SQUASHFS_OWNER');
    await failure(() => setMeta(tree, ROOT, { ...META, gid: id }), 'E_SQUASHFS_OWNER');
  }
  for (const wrong of [xattr(`user.${'x'.repeat(251)}`, ''), xattr('user.x', Buffer.alloc(65_537)), xattr('user.a\0b', '')]) {
    await failure(() => setMeta(tree, ROOT, { ...META, xattrs: [wrong] }), 'E_SQUASHFS_XATTR');
  }
});

const ownersImage = (ids: number) =>
  imageOf(Array.from({ length: Math.ceil(ids / 2) }, (_, i) => file(`f${i}`, '', { uid: 2 * i, gid: Math.min(2 * i + 1, ids - 1) })));

test('65535 different owners are held, 70000 are an error', async () => {
  const { path } = await ownersImage(65_535);
  const mount = mountImage(path);
  for (const i of [0, 1, 20_000, 32_766]) {
    const stat = statSync(`${mount}/f${i}`);
    assert.equal([stat.uid, stat.gid], [2 * i, 2 * i + 1]);
  }
  unmount(mount);
  await failure(() => ownersImage(65_536), 'E_SQUASHFS_IDS');
  const error = await failure(() => ownersImage(70_000), 'E_SQUASHFS_IDS');
  assert.match(error.message, /65535 different/);
});

test('every name of a directory with 50000 is listed and found by the kernel', async () => {
  const name = (i: number): string => `entry-${(i * 7919) % 50_000}-${'pad'.repeat(i % 20)}`;
  const { path, result } = await writeImage({}, async (writer, tree) => {
    const dir = addDirectory(tree, ROOT, bytes('big'), { ...META, mode: 0o755 });
    for (let i = 0; i < 50_000; i++) {
      const node = addFile(tree, dir, bytes(name(i)), META);
      if (i % 100 === 0) setFileContent(tree, node, await feedFile(writer, [bytes(`content ${i}`)]));
    }
    addFile(tree, ROOT, bytes('after'), META);
  });
  assert.is(result.files, 50_001);
  const mount = mountImage(path);
  const expected = Array.from({ length: 50_000 }, (_, i) => name(i)).sort();
  assert.equal(readdirSync(`${mount}/big`).sort(), expected);
  for (let i = 0; i < 50_000; i++) assert.is(lstatSync(`${mount}/big/${name(i)}`).mode, 0o100644);
  for (let i = 0; i < 50_000; i += 5000) assert.is(readFileSync(`${mount}/big/${name(i)}`, 'utf8'), `content ${i}`);
  for (const missing of ['', 'a', 'entry-', 'entry-0', 'entry-49999-x', 'zzz']) {
    assert.throws(() => lstatSync(`${mount}/big/${missing}x`), /ENOENT/);
  }
  unmount(mount);
  assert.is(must(['unsquashfs', '-l', path]).stdout.match(/^squashfs-root\/big\/./gm)?.length, 50_000);
});

test('a directory chain of 1000 levels is written', async () => {
  const { path, result } = await writeImage({}, async (_writer, tree) => {
    let dir = ROOT;
    for (let i = 0; i < 1000; i++) dir = addDirectory(tree, dir, bytes('d'), { ...META, mode: 0o755 });
    addFile(tree, dir, bytes('bottom'), META);
  });
  assert.is(result.directories, 1001);
  assert.match(must(['unsquashfs', '-l', path]).stdout, /(\/d){1000}\/bottom$/m);
});

test('large xattr values that many files have are stored once, and all are read back', async () => {
  const value = noise(2500, 1); // ext4, where unsquashfs puts it, holds 4 KiB a file
  const own = (i: number): Meta['xattrs'] => [xattr('user.shared', value), xattr('user.own', `${i}`), xattr('security.x', noise(20, i))];
  const entries = Array.from({ length: 200 }, (_, i) => file(`f${i}`, '', { xattrs: own(i) }));
  const { path } = await imageOf(entries);
  assert.ok(statSync(path).size < 100_000, `${statSync(path).size}`);
  const mount = mountImage(path);
  for (const root of [mount, extractImage(path)]) {
    for (const i of [0, 1, 99, 199]) {
      assert.equal(xattrsAt(`${root}/f${i}`), {
        'security.x': noise(20, i).toString('hex'),
        'user.own': Buffer.from(`${i}`).toString('hex'),
        'user.shared': value.toString('hex'),
      });
    }
  }
  unmount(mount);
});

test('what the format cannot hold is counted in notes, for what is in the image only', async () => {
  const acl = xattr('system.posix_acl_access', 'acl');
  const { result, path } = await writeImage({}, async (_writer, tree) => {
    addFile(tree, ROOT, bytes('nanos'), { ...META, mtimeNanos: 5 });
    addFile(tree, ROOT, bytes('old'), { ...META, mtime: -5 });
    addFile(tree, ROOT, bytes('new'), { ...META, mtime: 2 ** 33, mtimeNanos: 1 });
    addFile(tree, ROOT, bytes('acl'), { ...META, xattrs: [acl, xattr('user.kept', 'yes')] });
    addFile(tree, ROOT, bytes('odd'), { ...META, xattrs: [xattr('btrfs.compression', 'zstd'), xattr('user.', 'bare prefix')] });
    remove(tree, addFile(tree, ROOT, bytes('gone'), { ...META, mtimeNanos: 5, xattrs: [acl] }));
  });
  assert.equal(result.notes, [
    'modification times are kept in whole seconds (2 files)',
    'modification times before 1970 or after 2106 were moved to the nearest that can be held (2 files)',
    'access control lists (system.posix_acl_*) cannot be held and were left out (1 file)',
    'extended attributes outside user., trusted. and security. cannot be held and were left out (1 file)',
  ]);
  const mount = mountImage(path);
  assert.is(lstatSync(`${mount}/old`).mtimeMs, 0);
  assert.is(lstatSync(`${mount}/new`).mtimeMs, 0xffffffff * 1000);
  assert.equal(xattrsAt(`${mount}/acl`), { 'user.kept': '796573' });
  unmount(mount);
});

test('removed names are gone with all below them and can be used again', async () => {
  const { path } = await writeImage({}, async (writer, tree) => {
    const dir = addDirectory(tree, ROOT, bytes('dir'), META);
    const below = addFile(tree, dir, bytes('below'), META);
    remove(tree, dir);
    assert.ok(isRemoved(tree, below));
    assert.is(lookup(tree, ROOT, bytes('dir')), -1);
    const again = addDirectory(tree, ROOT, bytes('dir'), { ...META, mode: 0o700 });
    setFileContent(tree, addFile(tree, again, bytes('new'), META), await feedFile(writer, [bytes('new')]));
  });
  const mount = mountImage(path);
  assertSameTree(mount, [directory('', { mtime: 0 }), directory('dir', { mode: 0o700 }), file('dir/new', 'new')]);
  unmount(mount);
});

test('an inode lives on under its other names when the first is removed, or when it never had one', async () => {
  const { path, result } = await writeImage({}, async (writer, tree) => {
    const first = addFile(tree, ROOT, bytes('first'), META);
    setFileContent(tree, first, await feedFile(writer, [prose(1000, 1)]));
    addHardLink(tree, ROOT, bytes('second'), first);
    addHardLink(tree, ROOT, bytes('third'), lookup(tree, ROOT, bytes('second')));
    remove(tree, first);
    const detached = addDetachedFile(tree, { ...META, mode: 0o600 });
    setFileContent(tree, detached, await feedFile(writer, [prose(2000, 2)]));
    addHardLink(tree, ROOT, bytes('named'), detached);
    addDetachedFile(tree, META);
    assert.equal(treeStats(tree), {
      inodes: 3,
      names: 3,
      directories: 1,
      files: 2,
      symlinks: 0,
      devices: 0,
      fifos: 0,
      sockets: 0,
      hardLinks: 1,
    });
  });
  assert.is(result.inodes, 3);
  const mount = mountImage(path);
  assertSameTree(mount, [
    directory('', { mtime: 0 }),
    file('second', [prose(1000, 1)]),
    { path: 'third', type: 'link', to: 'second', meta: META },
    file('named', [prose(2000, 2)], { mode: 0o600 }),
  ]);
  unmount(mount);
});

test('the super block carries the newest time of the tree, or the given one', async () => {
  const entries = [directory('', { mtime: 5 }), file('a', '', { mtime: 1_500_000_000 }), file('b', '', { mtime: 7 })];
  const time = async (mkfsTime?: number): Promise<number> => readFileSync((await imageOf(entries, { mkfsTime })).path).readUInt32LE(8);
  assert.is(await time(), 1_500_000_000);
  assert.is(await time(0), 0);
  assert.is(await time(123), 123);
});

test('the kernel opens files by handle through the export table', async () => {
  const { path } = await imageOf([directory('d'), file('d/f', 'by handle'), file('g', [prose(100_000, 1)])]);
  const source = scratch();
  writeFileSync(`${source}.c`, HANDLE_PROGRAM);
  must(['cc', '-D_GNU_SOURCE', `${source}.c`, '-o', source]);
  const mount = mountImage(path);
  const handle = must([source, `${mount}/d/f`]).stdout;
  unmount(mount);
  const again = mountImage(path);
  assert.is(must([source, again, handle]).stdout, 'by handle');
  unmount(again);
});

/** With one argument prints a file's handle in hex, with two opens the handle on that mount and prints the file. */
const HANDLE_PROGRAM = `
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	union { struct file_handle handle; unsigned char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } u = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
	int mount_id, fd;
	if (argc == 2) {
		if (name_to_handle_at(AT_FDCWD, argv[1], &u.handle, &mount_id, 0) < 0) { perror("name_to_handle_at"); return 1; }
		for (size_t i = 0; i < sizeof u; i++) printf("%02x", u.bytes[i]);
		return 0;
	}
	for (size_t i = 0; i < sizeof u; i++) sscanf(argv[2] + 2 * i, "%2hhx", &u.bytes[i]);
	fd = open_by_handle_at(open(argv[1], O_RDONLY | O_DIRECTORY), &u.handle, O_RDONLY);
	if (fd < 0) { perror("open_by_handle_at"); return 1; }
	char text[100];
	ssize_t length = read(fd, text, sizeof text);
	return length > 0 && write(1, text, length) == length ? 0 : 1;
}
`;

test('a file beyond the first 4 GiB of the image gets the extended inode with its place', () => {
  const tree = createTree();
  const contents = createContents();
  const content = addContent(contents, 200_000);
  setFileContent(tree, addFile(tree, ROOT, bytes('far'), META), content);
  const order = orderTree(tree);
  const inodeAt = (start: number): Buffer => {
    contents.start[content] = start;
    const put: Buffer[] = [];
    const stream = { block: () => 0, offset: () => 0, put: (part: Uint8Array) => put.push(Buffer.from(part)), end: () => 0 };
    const record = createRecordWriter(4200);
    const context = { tree, order, contents, blockSize: 131_072, record, stream, ids: { ids: new Map() }, listings: new Map() };
    writeInode({ ...context, xattrIndex: () => NO_XATTRS }, order.inodes[0] as number, 1);
    return Buffer.concat(put);
  };
  contents.blockSizes.fill(77, 0, 2);
  const near = inodeAt(2 ** 32 - 1);
  assert.equal([near.readUInt16LE(0), near.length, near.readUInt32LE(16)], [2, 40, 2 ** 32 - 1]);
  const far = inodeAt(2 ** 32);
  assert.equal([far.readUInt16LE(0), far.length, far.readBigUInt64LE(16)], [9, 64, 2n ** 32n]);
});

test('options outside the format are refused', async () => {
  const fd = openSync(scratch(), 'w+');
  const wrong = [
    { compressor: 'lzo' as never },
    { level: 0 },
    { level: 23 },
    { compressor: 'gzip' as const, level: 10 },
    { compressor: 'lz4' as const, level: 1, codecCommand: ['true'] },
    { compressor: 'xz' as const },
    { blockSize: 2048 },
    { blockSize: 2 ** 21 },
    { blockSize: 100_000 },
    { threads: 0 },
    { threads: 1.5 },
    { offset: -1 },
    { mkfsTime: 2 ** 32 },
  ];
  for (const options of wrong) await failure(() => createSquashfsWriter({ fd, ...options }), 'E_SQUASHFS_OPTION');
  closeSync(fd);
});

test.run();
