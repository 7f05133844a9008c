/** The tar reader against archives of GNU tar, of our own making, and damaged ones. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TsrunError } from '../../src/util/errors.ts';
import { makeTar, padded, paxHeader, TAR_END, tarEntry, tarHeader, withChecksum } from '../helpers/layers.ts';
import { type ReadFile, readTar } from '../helpers/read-tar.ts';

const test = suite('tar reader');
const place = mkdtempSync(join(tmpdir(), 'tsrun-tar-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

const fails = async (archive: Uint8Array, pattern: RegExp): Promise<void> => {
  try {
    await readTar(archive);
  } catch (error) {
    assert.instance(error, TsrunError);
    assert.is((error as TsrunError).code, 'E_TAR');
    assert.match((error as TsrunError).message, pattern);
    return;
  }
  assert.unreachable(`no error, expected ${pattern}`);
};

/** A directory with one of each thing tar can hold. */
const sample = (): string => {
  const root = join(place, 'sample');
  mkdirSync(join(root, 'd/deep'), { recursive: true });
  writeFileSync(join(root, 'd/file'), 'content\n', { mode: 0o640 });
  chmodSync(join(root, 'd/file'), 0o4750);
  linkSync(join(root, 'd/file'), join(root, 'd/hard'));
  symlinkSync('../elsewhere', join(root, 'd/link'));
  symlinkSync('x'.repeat(300), join(root, 'longlink'));
  writeFileSync(join(root, `d/deep/${'n'.repeat(200)}`), 'long name');
  writeFileSync(Buffer.concat([Buffer.from(`${root}/d/`), Buffer.from([0xff, 0xfe, 0x41])]), 'bytes');
  writeFileSync(join(root, 'empty'), '');
  execFileSync('mkfifo', [join(root, 'fifo')]);
  execFileSync('mknod', [join(root, 'device'), 'c', '1', '300']);
  utimesSync(join(root, 'd/file'), 1_234_567_890, 1_234_567_890.25);
  execFileSync('setfattr', ['-n', 'user.note', '-v', '0x00ff0a3d', join(root, 'd/file')]);
  writeFileSync(join(root, 'sparse'), 'begin');
  truncateSync(join(root, 'sparse'), 3_000_000);
  spawnSync('dd', ['if=/dev/zero', `of=${join(root, 'sparse')}`, 'bs=1', 'count=0', 'seek=3000000'], { stdio: 'ignore' });
  writeFileSync(join(root, 'sparse'), 'end', { flag: 'a' });
  return root;
};
const root = sample();

const gnuTar = (...options: string[]): Buffer =>
  execFileSync('tar', ['-C', root, '--sort=name', '--numeric-owner', ...options, '-cf', '-', '.'], { maxBuffer: 1 << 28 });

const expectSample = (entries: readonly ReadFile[]): void => {
  const by = new Map(entries.map((entry) => [entry.path, entry]));
  const get = (path: string): ReadFile =>
    by.get(path) ?? (assert.unreachable(`${path} is missing in ${[...by.keys()].join(' ')}`) as never);
  assert.is(get('./d/file').data.toString(), 'content\n');
  assert.is(get('./d/file').mode, 0o4750);
  assert.is(get('./d/file').mtime, 1_234_567_890);
  assert.is(get('./d/hard').type, 'hardlink');
  assert.is(get('./d/hard').linkpath, './d/file');
  assert.is(get('./d/link').linkpath, '../elsewhere');
  assert.is(get('./longlink').linkpath, 'x'.repeat(300));
  assert.is(get(`./d/deep/${'n'.repeat(200)}`).data.toString(), 'long name');
  assert.is(get('./d/\xff\xfeA').data.toString(), 'bytes');
  assert.is(get('./empty').size, 0);
  assert.is(get('./fifo').type, 'fifo');
  assert.equal([get('./device').type, get('./device').devMajor, get('./device').devMinor], ['character', 1, 300]);
  assert.is(get('./d/').type, 'directory');
  const sparse = get('./sparse');
  assert.is(sparse.size, 3_000_003);
  assert.is(sparse.data.length, 3_000_003);
  assert.is(sparse.data.subarray(0, 5).toString() + sparse.data.subarray(-3).toString(), 'beginend');
  assert.ok(sparse.data.subarray(5, 3_000_000).every((byte) => byte === 0));
};

for (const format of ['gnu', 'posix'] as const) {
  test(`what GNU tar writes in the ${format} format is read to the byte`, async () => {
    const entries = await readTar(gnuTar(`--format=${format}`));
    expectSample(entries);
    assert.is(entries.find(({ path }) => path === './d/file')?.mtimeNanos, format === 'posix' ? 250_000_000 : 0);
  });
}

for (const version of ['0.0', '0.1', '1.0']) {
  test(`sparse files of PAX format ${version} are read with their holes`, async () => {
    expectSample(await readTar(gnuTar('--format=posix', '--sparse', `--sparse-version=${version}`)));
  });
}

test('sparse files of the old GNU format are read with their holes, also with extension blocks', async () => {
  expectSample(await readTar(gnuTar('--format=gnu', '--sparse')));
  const many = join(place, 'many-holes');
  const chunk = Buffer.alloc(4096, 'x');
  for (let i = 0; i < 60; i++) spawnSync('dd', [`of=${many}`, 'bs=4096', `seek=${i * 3}`, 'conv=notrunc', 'status=none'], { input: chunk });
  const archive = execFileSync('tar', ['-C', place, '--format=gnu', '--sparse', '-cf', '-', 'many-holes'], { maxBuffer: 1 << 28 });
  const [entry] = await readTar(archive);
  assert.is(entry?.data.length, (59 * 3 + 1) * 4096);
  for (let i = 0; i < 60; i++) assert.ok(entry?.data.subarray(i * 3 * 4096, i * 3 * 4096 + 4096).equals(chunk), `run ${i}`);
});

test('the v7 and ustar formats are read, with names divided over prefix and name', async () => {
  const small = join(place, 'small');
  const deep = join(small, 'p'.repeat(90), 'q'.repeat(60));
  mkdirSync(deep, { recursive: true });
  writeFileSync(join(deep, 'file'), 'hello');
  const ustar = await readTar(execFileSync('tar', ['-C', small, '--format=ustar', '-cf', '-', '.']));
  assert.is(ustar.find(({ path }) => path.endsWith('/file'))?.path, `./${'p'.repeat(90)}/${'q'.repeat(60)}/file`);
  writeFileSync(join(place, 'plain'), 'v7');
  const v7 = await readTar(execFileSync('tar', ['-C', place, '--format=v7', '-cf', '-', 'plain']));
  assert.is(v7[0]?.data.toString(), 'v7');
});

test('extended attributes are kept as bytes', async () => {
  const entries = await readTar(gnuTar('--format=posix', '--xattrs', '--xattrs-include=*'));
  const file = entries.find(({ path }) => path === './d/file');
  assert.equal(
    file?.xattrs?.map(({ name, value }) => [Buffer.from(name).toString('latin1'), Buffer.from(value).toString('latin1')]),
    [['user.note', '\x00\xff\x0a\x3d']],
  );
});

test('attributes of bsdtar, percent-encoded and in base64, are read', async () => {
  const [entry] = await readTar(makeTar([{ path: 'f', pax: { 'LIBARCHIVE.xattr.user.a%3Db': 'AAEC' } }]));
  assert.equal(
    entry?.xattrs?.map(({ name, value }) => [Buffer.from(name).toString(), [...value]]),
    [['user.a=b', [0, 1, 2]]],
  );
});

test('the archive may arrive in chunks of any size', async () => {
  const archive = gnuTar('--format=posix', '--sparse', '--xattrs');
  const whole = await readTar(archive);
  for (const size of [1, 7, 511, 512, 513, 4095, 65_536]) {
    const cut = await readTar(size === 1 ? archive.subarray(0) : archive, size === 1 ? 97 : size);
    assert.is(cut.length, whole.length);
    for (const [at, entry] of cut.entries())
      assert.ok(entry.data.equals(whole[at]?.data ?? Buffer.alloc(0)), `${entry.path} in chunks of ${size}`);
  }
});

test('global PAX headers hold for all that follow, the own header of an entry wins', async () => {
  const archive = Buffer.concat([
    paxHeader({ uid: '4242', mtime: '7.5' }, 'g'),
    tarEntry({ path: 'a' }),
    tarEntry({ path: 'b', pax: { uid: '5' } }),
    tarEntry({ path: 'c', pax: { uid: '' } }),
    TAR_END,
  ]);
  assert.equal(
    (await readTar(archive)).map(({ path, uid, mtime, mtimeNanos }) => [path, uid, mtime, mtimeNanos]),
    [
      ['a', 4242, 7, 500_000_000],
      ['b', 5, 7, 500_000_000],
      ['c', 0, 7, 500_000_000],
    ],
  );
});

test('numbers beyond octal are read in base 256, negative times too', async () => {
  const header = tarHeader({ name: 'big', flag: '0', size: 0 });
  header.fill(0, 108, 116);
  header.writeUInt8(0x80, 108);
  header.writeUInt32BE(3_000_000_000, 112);
  header.fill(0xff, 136, 148);
  const [entry] = await readTar(Buffer.concat([withChecksum(header), TAR_END]));
  assert.equal([entry?.uid, entry?.mtime], [3_000_000_000, -1]);
});

test('a file whose name ends in a slash is a directory in archives from before POSIX', async () => {
  const archive = Buffer.concat([withChecksum(tarHeader({ name: 'old/', flag: '\0', size: 0, magic: '\0' })), TAR_END]);
  assert.is((await readTar(archive))[0]?.type, 'directory');
});

test('links and directories have no data, whatever size their header claims', async () => {
  const archive = Buffer.concat([
    tarHeader({ name: 'l', flag: '2', size: 4096, link: 'x' }),
    tarEntry({ path: 'f', content: 'after' }),
    TAR_END,
  ]);
  assert.equal(
    (await readTar(archive)).map(({ path, data }) => [path, data.toString()]),
    [
      ['l', ''],
      ['f', 'after'],
    ],
  );
});

test('an archive that is cut off anywhere is an error that says so', async () => {
  const archive = makeTar([
    { path: 'a', content: 'x'.repeat(2000) },
    { path: 'b', xattrs: { 'user.x': 'y' } },
  ]);
  for (const at of [1, 100, 512, 600, 1023, 2000, 2560, 3000, 3584, 4000]) {
    await fails(archive.subarray(0, at), /middle of an entry|without its end mark|after an extended header/);
  }
});

test('a flipped bit in a header is an error', async () => {
  const archive = makeTar([{ path: 'a', content: 'data' }]);
  for (const at of [0, 110, 130, 156, 260, 511]) {
    const damaged = Buffer.from(archive);
    damaged.writeUInt8((damaged[at] ?? 0) ^ 0x20, at);
    await fails(damaged, /checksum/);
  }
});

test('malformed headers are errors that name the entry', async () => {
  await fails(Buffer.concat([paxHeader({ path: 'x' }).fill('9', 512, 520), TAR_END]), /malformed record/);
  await fails(Buffer.concat([tarHeader({ name: 'vol', flag: 'M', size: 0 }), TAR_END]), /continues a file/);
  await fails(Buffer.concat([tarHeader({ name: 'odd', flag: 'Q', size: 0 }), TAR_END]), /"Q" is none/);
  await fails(Buffer.concat([tarEntry({ path: 'a', pax: { size: '-5' } }), TAR_END]), /its size "-5" is not a number/);
  await fails(Buffer.concat([tarEntry({ path: 'a', pax: { mtime: 'noon' } }), TAR_END]), /its mtime/);
  await fails(Buffer.concat([tarEntry({ path: 'a', pax: { path: 'x\0y' } }), TAR_END]), /NUL/);
  await fails(Buffer.concat([tarHeader({ name: 'l', flag: '1', size: 0 }), TAR_END]), /without a target/);
  await fails(Buffer.concat([tarHeader({ name: '', flag: '0', size: 0 }), TAR_END]), /no name/);
  await fails(Buffer.concat([tarEntry({ path: 'a', pax: { uid: '4294967296' } }), TAR_END]), /not a Linux id/);
});

test('giant headers and giant or lying sparse maps are refused before memory is taken', async () => {
  await fails(tarHeader({ name: 'x', flag: 'x', size: 2 ** 31 }), /more than 1048576/);
  await fails(tarHeader({ name: 'x', flag: 'L', size: 2 ** 32 }), /more than 1048576/);
  const sparse = (records: Record<string, string>, content = ''): Buffer =>
    Buffer.concat([paxHeader({ 'GNU.sparse.major': '0', ...records }), tarEntry({ path: 's', content }), TAR_END]);
  await fails(sparse({ 'GNU.sparse.realsize': '100', 'GNU.sparse.map': '0,50,40,20' }), /overlap/);
  await fails(sparse({ 'GNU.sparse.realsize': '10', 'GNU.sparse.map': '0,50' }), /beyond its end/);
  await fails(sparse({ 'GNU.sparse.realsize': '100', 'GNU.sparse.map': '0,50' }, 'short'), /stands for 50 bytes, but 5/);
  await fails(sparse({ 'GNU.sparse.realsize': '9'.repeat(20), 'GNU.sparse.map': '0,5' }, 'short'), /no numbers/);
  await fails(
    sparse({ 'GNU.sparse.realsize': '100', 'GNU.sparse.map': `${'0,0,'.repeat(200_000)}0,50` }, 'short'),
    /stands for 50 bytes, but 5/,
  );
  const map = padded(Buffer.from('99999999\n'));
  const one = Buffer.concat([
    paxHeader({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '5' }),
    tarHeader({ name: 's', flag: '0', size: map.length }),
    map,
    TAR_END,
  ]);
  await fails(one, /more than 1048576 runs/);
});

test('an entry after the end mark of one block is refused, what follows two is ignored', async () => {
  await fails(Buffer.concat([tarEntry({ path: 'a' }), Buffer.alloc(512), tarEntry({ path: 'b' }), TAR_END]), /after a zero block/);
  assert.is((await readTar(Buffer.concat([makeTar([{ path: 'a' }]), Buffer.from('trailing rubbish')]))).length, 1);
});

test.run();
