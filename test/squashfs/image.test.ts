/** Images with everything in them, as the kernel and unsquashfs read them. */
import { readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Compressor } from '../../src/squashfs/types.ts';
import {
  assertSameTree,
  directory,
  type Entry,
  extractImage,
  file,
  imageOf,
  META,
  mountImage,
  must,
  noise,
  prose,
  unmount,
  xattrsAt,
} from './support.ts';

const test = suite('squashfs images');

const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
const xattr = (name: string, value: Uint8Array | string) => ({ name: Buffer.from(name), value: Buffer.from(value) });

/** Every kind of inode, each also in its extended form. */
const everything: readonly Entry[] = [
  directory('', { mode: 0o751, uid: 7, gid: 8, mtime: 1_600_000_000 }),
  directory('empty'),
  directory('bin', { mode: 0o1777, uid: 4_294_967_294, gid: 4_294_967_293, mtime: 0xffffffff }),
  file('bin/setuid', 'x', { mode: 0o6755 }),
  file('bin/caps', 'capable', { mode: 0o755, xattrs: [xattr('security.capability', capability)] }),
  file('bin/empty', ''),
  file('small', prose(5000, 1).toString('latin1'), { mode: 0o640, uid: 1000, gid: 100, mtime: 0 }),
  file('one-block', [prose(4096, 2)]),
  file('medium', [prose(300_000, 3)]),
  file('large', [prose(3_000_001, 4)]),
  file('noise', [noise(1_500_000, 5)]),
  file('sparse', [1_048_576, prose(4096, 6), 2_097_152, prose(100, 7)]),
  file('all-hole', [3_000_000]),
  file('zeros', [Buffer.alloc(700_000)]),
  file('with-xattr', [prose(200_000, 8)], {
    xattrs: [xattr('user.note', 'hello'), xattr('trusted.t', ''), xattr('user.big', noise(3000, 9))],
  }),
  directory('with-xattr-dir', { xattrs: [xattr('user.big', noise(3000, 9))] }),
  { path: 'link', type: 'symlink', target: 'bin/caps', meta: { ...META, mode: 0o777 } },
  {
    path: 'link-xattr',
    type: 'symlink',
    target: 'nowhere/\xff\xfe',
    meta: { ...META, mode: 0o777, xattrs: [xattr('trusted.l', 'on link')] },
  },
  { path: 'long-link', type: 'symlink', target: 'y'.repeat(4095), meta: { ...META, mode: 0o777 } },
  { path: 'char', type: 'character', major: 1, minor: 3, meta: { ...META, mode: 0o666 } },
  { path: 'block', type: 'block', major: 4095, minor: 1_048_575, meta: { ...META, mode: 0o660 } },
  { path: 'char-xattr', type: 'character', major: 259, minor: 300, meta: { ...META, xattrs: [xattr('trusted.d', 'dev')] } },
  { path: 'block-xattr', type: 'block', major: 8, minor: 1, meta: { ...META, xattrs: [xattr('trusted.d', 'dev')] } },
  { path: 'fifo', type: 'fifo', meta: META },
  { path: 'fifo-xattr', type: 'fifo', meta: { ...META, xattrs: [xattr('trusted.f', 'fifo')] } },
  { path: 'socket', type: 'socket', meta: META },
  { path: 'socket-xattr', type: 'socket', meta: { ...META, xattrs: [xattr('trusted.f', 'fifo')] } },
  directory('deep'),
  directory('deep/er'),
  { path: 'deep/er/small-again', type: 'link', to: 'small', meta: META },
  { path: 'deep/large-again', type: 'link', to: 'large', meta: META },
  { path: 'deep/fifo-again', type: 'link', to: 'fifo', meta: META },
  { path: 'deep/link-again', type: 'link', to: 'link', meta: META },
  file('name\xff\x80\n"\\', 'not UTF-8'),
  file('x'.repeat(255), 'long name'),
];

const variants: readonly { readonly compressor: Compressor; readonly blockSize: number; readonly level?: number }[] = [
  ...(['zstd', 'gzip', 'xz', 'lz4'] as const).flatMap((compressor) =>
    [4096, 131_072, 1_048_576].map((blockSize) => ({ compressor, blockSize })),
  ),
  { compressor: 'zstd', blockSize: 262_144, level: 19 },
  { compressor: 'gzip', blockSize: 65_536, level: 9 },
];

const digests = new Set<string>();
for (const variant of variants) {
  const { compressor, blockSize } = variant;
  test(`every kind of inode comes back from the kernel and from unsquashfs (${compressor}, blocks of ${blockSize / 1024} KiB)`, async () => {
    const { path, result } = await imageOf(everything, variant);
    assert.is(result.bytes % 4096, 0);
    assert.is(readFileSync(path).length, result.bytes);
    const mount = mountImage(path);
    assertSameTree(mount, everything);
    assertXattrs(mount);
    unmount(mount);
    const extracted = extractImage(path);
    assertSameTree(extracted, everything);
    assertXattrs(extracted);
    assert.match(must(['unsquashfs', '-s', path]).stdout, new RegExp(`Compression ${compressor}\\b`));
    digests.add(result.treeDigest);
  });
}

test('the tree digest is the same for every compressor and block size', () => {
  assert.is(digests.size, 1);
});

test('unsquashfs lists owners, modes, sizes and devices of the image', async () => {
  const { path } = await imageOf(everything);
  const { stdout } = must(['unsquashfs', '-lln', path]);
  assert.match(stdout, /^-rwsr-sr-x 0\/0 +1 .*squashfs-root\/bin\/setuid$/m);
  assert.match(stdout, /^drwxrwxrwt 4294967294\/4294967293 .*squashfs-root\/bin$/m);
  assert.match(stdout, /^crw-rw-rw- 0\/0 +1, +3 .*squashfs-root\/char$/m);
  assert.match(stdout, /^srw-r--r-- 0\/0 .*squashfs-root\/socket$/m);
  assert.match(must(['unsquashfs', '-cat', path, 'bin/caps']).stdout, /^capable$/);
});

test('an image behind an offset is complete and leaves what is before it alone', async () => {
  const { path, result } = await imageOf(everything, { offset: 65_536 });
  const whole = readFileSync(path);
  assert.is(whole.length, 65_536 + result.bytes);
  assert.ok(whole.subarray(0, 65_536).every((byte) => byte === 0));
  const plain = await imageOf(everything);
  assert.ok(whole.subarray(65_536).equals(readFileSync(plain.path)));
  const target = extractImageAt(path, 65_536);
  assertSameTree(target, everything);
});

test('an empty tree is an image with one directory', async () => {
  const { path, result } = await imageOf([]);
  assert.is(result.inodes, 1);
  const mount = mountImage(path);
  assertSameTree(mount, []);
  unmount(mount);
});

const extractImageAt = (path: string, offset: number): string => {
  const target = `${path}.out`;
  must(['unsquashfs', '-no-progress', '-quiet', '-offset', String(offset), '-d', target, path]);
  return target;
};

const assertXattrs = (root: string): void => {
  const hex = (value: string): string => Buffer.from(value).toString('hex');
  const big = noise(3000, 9).toString('hex');
  assert.equal(xattrsAt(`${root}/bin/caps`), { 'security.capability': capability.toString('hex') });
  assert.equal(xattrsAt(`${root}/with-xattr`), { 'trusted.t': '', 'user.big': big, 'user.note': hex('hello') });
  assert.equal(xattrsAt(`${root}/with-xattr-dir`), { 'user.big': big });
  assert.equal(xattrsAt(`${root}/link-xattr`), { 'trusted.l': hex('on link') });
  assert.equal(xattrsAt(`${root}/char-xattr`), { 'trusted.d': hex('dev') });
  assert.equal(xattrsAt(`${root}/fifo-xattr`), { 'trusted.f': hex('fifo') });
  assert.equal(xattrsAt(`${root}/small`), {});
};

test.run();
