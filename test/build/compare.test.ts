/** Two images that differ in each way there is, and what is said of it. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { buildTwiceAndCompare, requireSame } from '../../src/build/check.ts';
import { type Comparison, compareImages, comparisonText } from '../../src/build/compare.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { convert } from '../helpers/convert.ts';
import { makeTar, type TestEntry } from '../helpers/layers.ts';
import { failure } from '../helpers/throws.ts';

const test = suite('comparing images');
const place = mkdtempSync(join(tmpdir(), 'tsrun-compare-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

/** From a file of always the same name: it stands in the image's definition. */
const convertTo = async (target: string, entries: readonly TestEntry[], compressor: 'zstd' | 'gzip' = 'zstd'): Promise<void> => {
  writeFileSync(join(place, 'in.tar'), makeTar(entries));
  await convert(`tar:${join(place, 'in.tar')}`, target, { compressor });
};

let images = 0;
const image = async (entries: readonly TestEntry[], compressor: 'zstd' | 'gzip' = 'zstd'): Promise<string> => {
  const name = join(place, `image${++images}`);
  await convertTo(`${name}.sif`, entries, compressor);
  return `${name}.sif`;
};

const compare = async (one: readonly TestEntry[], other: readonly TestEntry[]): Promise<Comparison> =>
  compareImages(await image(one), await image(other), new AbortController().signal);

const lines = (comparison: Comparison): readonly string[] => comparisonText(comparison).split('\n').slice(0, -1);

test('equal trees do not differ, however they are compressed', async () => {
  const entries: TestEntry[] = [{ path: 'a', content: 'x'.repeat(300_000) }];
  const found = await compareImages(await image(entries), await image(entries, 'gzip'), new AbortController().signal);
  assert.equal(found, { names: 0, differences: [], more: 0 });
});

test('trees of very many names are compared', async () => {
  const many: TestEntry[] = Array.from({ length: 30_000 }, (_, at) => ({ path: at.toString(36) }));
  assert.equal(lines(await compare([...many, { path: 'z!' }], many)), ['/z!: only in the first']);
});

test('each aspect of a name is told with both values', async () => {
  const same: TestEntry[] = [
    { path: 'd/', type: 'dir' },
    { path: 'd/same', content: 'same' },
    { path: 'd.x', content: 'y' },
  ];
  const found = await compare(
    [
      ...same,
      { path: 'd/content', content: 'aaaa' },
      { path: 'd/first', content: '' },
      { path: 'd/link', type: 'symlink', link: 'one' },
      { path: 'd/mode', mode: 0o644 },
      { path: 'd/null', type: 'char', device: [1, 3] },
      { path: 'd/owner', uid: 1, gid: 2 },
      { path: 'd/size', content: 'a' },
      { path: 'd/time', mtime: 1_600_000_000 },
      { path: 'd/type', type: 'fifo' },
      { path: 'd/xattr', xattrs: { 'user.a': '1' } },
    ],
    [
      ...same,
      { path: 'd/content', content: 'aaba' },
      { path: 'd/link', type: 'symlink', link: 'two' },
      { path: 'd/mode', mode: 0o4755 },
      { path: 'd/null', type: 'char', device: [1, 5] },
      { path: 'd/owner', uid: 0, gid: 0 },
      { path: 'd/second/', type: 'dir' },
      { path: 'd/size', content: 'ab' },
      { path: 'd/time', mtime: 1_600_000_060 },
      { path: 'd/type', type: 'symlink', link: 'x' },
      { path: 'd/xattr', xattrs: { 'user.a': '2', 'user.b': 'xy' } },
    ],
  );
  assert.equal(lines(found), [
    '/d/content: content',
    '/d/first: only in the first',
    '/d/link: target one, two',
    '/d/mode: mode 644, 4755',
    '/d/null: device 1:3, 1:5',
    '/d/owner: owner 1:2, 0:0',
    '/d/second: only in the second',
    '/d/size: size 1, 2',
    '/d/time: time 2020-09-13T12:26:40Z, 2020-09-13T12:27:40Z',
    '/d/type: type fifo, link',
    '/d/xattr: xattrs user.a (1 bytes), user.a (1 bytes) user.b (2 bytes)',
  ]);
});

test('names that sort about a directory are kept apart from what is in it', async () => {
  const names = ['a', 'a-b', 'a.b', 'a/', 'a/z', 'a0', 'ab/', 'ab/c'].filter((name) => name !== 'a');
  const entries = names.map((path): TestEntry => (path.endsWith('/') ? { path, type: 'dir' } : { path, content: path }));
  const found = await compare(entries, [...entries, { path: 'a/zz', content: '' }, { path: 'a!', content: '' }]);
  assert.equal(lines(found), ['/a/zz: only in the second', '/a!: only in the second']);
});

test('a file with another name in one image only is told', async () => {
  const found = await compare(
    [
      { path: 'a', content: 'x' },
      { path: 'b', type: 'hardlink', link: 'a' },
    ],
    [
      { path: 'a', content: 'x' },
      { path: 'b', content: 'x' },
    ],
  );
  assert.equal(lines(found), ['/b: other names of the same file']);
});

test('contents that differ in one byte of many megabytes are found', async () => {
  const big = Buffer.alloc(5_000_000, 'a');
  const other = Buffer.from(big);
  other[4_999_999] = 0;
  const small = Array.from({ length: 2_500 }, (_, at): TestEntry => ({ path: `many/${at}`, content: `${at}` }));
  const found = await compare(
    [...small, { path: 'big', content: big }],
    [...small.with(2_400, { path: 'many/2400', content: '240x' }), { path: 'big', content: other }],
  );
  assert.equal(lines(found), ['/big: content', '/many/2400: content']);
});

test('the usual reasons are guessed from where the contents part', async () => {
  const cases: readonly (readonly [string, string | Buffer, string | Buffer, RegExp])[] = [
    ['date', 'built Sun Nov 22 08:11:24 2026 by me\n', 'built Sun Nov 22 08:19:55 2026 by me\n', /date or time/],
    ['iso', 'x\nat: 2026-11-22\n', 'x\nat: 2026-11-23\n', /date or time/],
    ['epoch', 'stamp=1700000000;', 'stamp=1700000999;', /seconds since 1970/],
    ['instant', '1700000000.123456789', '1700000000.223456789', /seconds since 1970/],
    ['nanoseconds', '1700000000123456789', '1700000000223456789', /seconds since 1970/],
    ['uuid', 'id 6f1b3c0e-8a52-4a9e-9f5b-2b8f6f9f1a01', 'id 0d3b3c0e-8a52-4a9e-9f5b-2b8f6f9f1a02', /random identifier/],
    ['path', 'cc /tmp/build-a8f3k/x.c', 'cc /tmp/build-b8f3k/x.c', /temporary or build directory/],
    ['order', 'a\nb\nc\n', 'c\na\nb\n', /another order/],
    ['x.gz', gz(1), gz(2), /gzip -n/],
    ['lib.a', '!<arch>\nx/ 1', '!<arch>\nx/ 2', /ar with D/],
    ['m.pyc', Buffer.from([0xa7, 13, 13, 10, 0, 0, 0, 0, 1]), Buffer.from([0xa7, 13, 13, 10, 0, 0, 0, 0, 2]), /PYTHONHASHSEED/],
    ['etc/ssh/ssh_host_rsa_key', 'abc', 'def', /every copy of the image/],
    ['unknown', 'abc', 'abd', /^$/],
  ];
  const side = (at: 1 | 2): TestEntry[] => cases.map((each) => ({ path: each[0], content: each[at] as string }));
  const { differences } = await compare(side(1), side(2));
  assert.is(differences.length, cases.length);
  for (const [path, , , guess] of cases) {
    const found = differences.find((each) => each.path === `/${path}`);
    assert.match(found?.guess ?? '', guess, path);
  }
});

const gz = (time: number): Buffer => {
  const bytes = gzipSync('content');
  bytes.writeUInt32LE(time, 4);
  return bytes;
};

test('names from an image cannot speak to the terminal', async () => {
  const found = await compare(
    [
      { path: 'a\x1b[2J', content: '1' },
      { path: 'f\xff', content: 'a' },
    ],
    [
      { path: 'a\x1b[2J', content: '22' },
      { path: 'f\xff', content: 'a' },
    ],
  );
  assert.equal(lines(found), ['/a?[2J: size 1, 2']);
});

test('--check removes its second image, and names what differs', async () => {
  const target = await image([{ path: 'a', content: '1' }]);
  const again = (path: string): Promise<void> => convertTo(path, [{ path: 'a', content: '2' }]);
  const { signal } = new AbortController();
  const comparison = await buildTwiceAndCompare({ target, again, signal });
  const error = await failure(() => requireSame(comparison, target), 'E_NOT_REPRODUCIBLE');
  assert.match(error.message, /in 1 name\n {2}\/a: content/);
  assert.is(error.exitCode, 1);
  const refused = new TsrunError({ code: 'E_USAGE', what: 'no', why: 'no' });
  await failure(() => buildTwiceAndCompare({ target, again: () => Promise.reject(refused), signal }), 'E_USAGE');
  assert.equal(
    readdirSync(place).filter((name) => name.includes('check')),
    [],
  );
  requireSame(await buildTwiceAndCompare({ target, again: (path) => convertTo(path, [{ path: 'a', content: '1' }]), signal }), target);
});

test.run();
