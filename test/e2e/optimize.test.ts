/** `tsrun optimize`: the same image, laid out for what a command reads; recording, replaying, reading ahead. */
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ImageStats, ServerStats } from '../../src/cli/image-stats.ts';
import { environmentOf, makeBusyboxTree, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';
import { helperProgram } from './launcher/helpers.ts';

const test = suite('optimize');
const place = scratch('optimize');
const at = (name: string): string => join(place, name);

const noise = (size: number, seed: number): Buffer => {
  const bytes = Buffer.alloc(size);
  let state = seed;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
};

/** Owners, devices, xattrs, hard links, a name that is no UTF-8, large and small files, the wanted one last in every order but the recorded. */
const makeImage = (): void => {
  const tree = at('tree');
  mkdirSync(tree);
  makeBusyboxTree(tree);
  for (let i = 0; i < 60; i++) writeFileSync(join(tree, `opt/tool/cold${i}`), noise(100_000, i + 1));
  copyFileSync(helperProgram('payload'), join(tree, 'bin/payload'));
  mkdirSync(join(tree, 'zz/late'), { recursive: true });
  writeFileSync(join(tree, 'zz/late/large'), noise(1_500_000, 99));
  writeFileSync(join(tree, 'zz/late/small'), 'the wanted one\n');
  const script = `
    cd "$1"; umask 022
    printf x > "$(printf 'usr/share/\\377name')"; ln zz/late/small usr/share/again; ln -s ../zz/late/small usr/link
    chown 12:34 zz/late/small; chmod 4711 zz/late/small; mknod dev/box b 7 300; mkfifo usr/pipe
    setfattr -n user.origin -v here zz/late/small; setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= zz/late/large
    tar --xattrs --xattrs-include='*' --sort=name -cf - .`;
  const tar = spawnSync('sh', ['-c', script, 'sh', tree], { maxBuffer: 1 << 28 });
  if (tar.status !== 0) throw new Error(tar.stderr.toString());
  const built = tsrun(['build', at('in.sif'), '-'], { input: tar.stdout, cwd: place });
  if (built.status !== 0) throw new Error(built.stderr);
};
makeImage();

const COMMAND = [
  'sh',
  '-c',
  'cat /usr/link; dd if=/zz/late/large bs=64k count=4 skip=16 of=/dev/null 2>/dev/null; ls -l /zz/late >/dev/null',
];
assert.is(tsrunOk(['optimize', '--record', at('record'), at('in.sif'), at('out.sif'), '--', ...COMMAND]), 'the wanted one\n');

type Piece = { readonly position: number; readonly length: number; readonly kind: number };

const hotList = (image: string): readonly Piece[] => {
  const id = /^(\d+) .*tsrun-hot-list$/m.exec(tsrunOk(['image', 'objects', image]))?.[1] ?? '';
  const bytes = Buffer.from(tsrunOk(['image', 'dump', id, image]), 'latin1');
  assert.is(bytes.toString('latin1', 0, 8), 'tsrunhot');
  return Array.from({ length: bytes.readUInt32LE(12) }, (_, i) => ({
    position: Number(bytes.readBigUInt64LE(16 + 16 * i)),
    length: bytes.readUInt32LE(24 + 16 * i) & 0xffffff,
    kind: bytes.readUInt32LE(28 + 16 * i),
  }));
};

const objectNames = (image: string): string[] =>
  tsrunOk(['image', 'objects', image])
    .split('\n')
    .slice(2)
    .map((line) => line.split(' ').at(-1) ?? '');

const native = (command: string, image: string): string => {
  const [, from = '', to = ''] = /(\d+)-(\d+) *\|FS/.exec(tsrunOk(['image', 'objects', image])) ?? [];
  return run(tsrunPath, ['@image', command, image, from, String(Number(to) - Number(from))]).stdout;
};

const sorted = (listing: string): string => {
  const fields = listing.split('\0');
  const lines: string[] = [];
  // All fields but the inode's number, which follows the order of directories.
  for (let i = 0; i + 10 <= fields.length; i += 10) lines.push(fields.filter((_, j) => j >= i && j < i + 10 && j !== i + 7).join('|'));
  return lines.join('\n');
};

test('names, owners, devices, hard links, xattrs and every other object are the same', () => {
  assert.is(sorted(native('tree', at('out.sif'))), sorted(native('tree', at('in.sif'))));
  const xattrs = native('xattrs', at('in.sif'));
  assert.ok(xattrs.includes('user.origin') && xattrs.includes('security.capability'));
  assert.is(native('xattrs', at('out.sif')), xattrs);
  const links = native('tree', at('out.sif')).split('\0');
  assert.is(links[links.indexOf('/usr/share/again') + 7], links[links.indexOf('/zz/late/small') + 7]);
  // The facts come last: a start reads them to the end of the file, which must not be long for a long list.
  const last = 'tsrun-image-facts.json';
  const kept = objectNames(at('in.sif')).filter((name) => name !== '' && name !== last);
  assert.equal(objectNames(at('out.sif')), [...kept, 'tsrun-hot-list', last, '']);
  assert.is(tsrunOk(['image', 'facts', '--json', at('out.sif')]), tsrunOk(['image', 'facts', '--json', at('in.sif')]));
});

test('every byte of every file is the same', () => {
  for (const name of ['in', 'out']) {
    tsrunOk(['image', 'extract', at(`${name}.sif`), at(`${name}.files`)]);
    run('/bin/rm', [at(`${name}.files/usr/pipe`)]); // which diff has no way to compare
  }
  const compared = run('/usr/bin/diff', ['-r', '--no-dereference', at('in.files'), at('out.files')]);
  assert.is(compared.stdout + compared.stderr, '');
  assert.is(compared.status, 0);
});

test('other tools read it', () => {
  const [, from = '0'] = /(\d+)-(\d+) *\|FS/.exec(tsrunOk(['image', 'objects', at('out.sif')])) ?? [];
  const listed = run('/usr/bin/unsquashfs', ['-o', from, '-cat', at('out.sif'), 'zz/late/small']);
  assert.is(listed.stdout, 'the wanted one\n', listed.stderr);
});

test('what was read lies first, in the order in which it was read, and only that is in the hot list', () => {
  const list = hotList(at('out.sif'));
  const data = list.filter(({ kind }) => kind === 2);
  assert.ok(Math.min(...data.map(({ position }) => position)) < 200);
  const hotBytes = data.reduce((sum, { length }) => sum + length, 0);
  // busybox, the small file and a part of the large one; not the six megabytes beside them.
  assert.ok(hotBytes > 500_000 && hotBytes < 2_500_000, `${hotBytes}`);
  assert.ok(Math.max(...data.map(({ position }) => position)) < 3_500_000);
  const before = data.length;
  assert.ok(new Set(list.map(({ position }) => position)).size === list.length && before >= 5);
});

test('the same record gives the same bytes, and another run of the command may be added to it', () => {
  // A copy: what the kernel reads ahead may be asked for after the command has ended, and is written down then.
  copyFileSync(at('record'), at('kept'));
  for (const name of ['again.sif', 'third.sif']) tsrunOk(['optimize', '--replay', at('kept'), at('in.sif'), at(name)]);
  assert.ok(readFileSync(at('again.sif')).equals(readFileSync(at('third.sif'))));
  const bytes = readFileSync(at('record')).length;
  assert.is(tsrunOk(['exec', '--record', at('record'), at('in.sif'), 'cat', '/opt/tool/data.txt']), 'from the image\n');
  assert.ok(readFileSync(at('record')).length > bytes);
  tsrunOk(['optimize', '--force', '--replay', at('record'), at('in.sif'), at('again.sif')]);
  assert.ok(hotList(at('again.sif')).length >= hotList(at('out.sif')).length);
  assert.is(tsrunOk(['exec', at('again.sif'), 'cat', '/zz/late/small']), 'the wanted one\n');
});

test('an optimized image can be optimized again, for something else', () => {
  tsrunOk(['optimize', at('out.sif'), at('other.sif'), '--', 'sh', '-c', 'cat /opt/tool/cold5 >/dev/null']);
  assert.is(objectNames(at('other.sif')).filter((name) => name === 'tsrun-hot-list').length, 1);
  assert.is(sorted(native('tree', at('other.sif'))), sorted(native('tree', at('in.sif'))));
});

test('compression and block size stay', () => {
  spawnSync('tar', ['-C', at('tree'), '-cf', at('small.tar'), 'bin', 'etc', 'opt/tool/data.txt']);
  tsrunOk(['build', '--compress', 'gzip', '--block-size', '64K', at('gzip.sif'), `tar:${at('small.tar')}`]);
  tsrunOk(['optimize', at('gzip.sif'), at('gzip-out.sif'), '--', 'cat', '/etc/os-release']);
  assert.equal(native('info', at('gzip-out.sif')).split('\0').slice(0, 4), ['compressor', 'gzip', 'blockSize', '65536']);
  assert.is(sorted(native('tree', at('gzip-out.sif'))), sorted(native('tree', at('gzip.sif'))));
});

test('a bare SquashFS becomes a SIF', () => {
  const id = /^(\d+) .*\|FS /m.exec(tsrunOk(['image', 'objects', at('in.sif')]))?.[1] ?? '';
  writeFileSync(at('bare.sqfs'), Buffer.from(tsrunOk(['image', 'dump', id, at('in.sif')]), 'latin1'));
  tsrunOk(['optimize', at('bare.sqfs'), at('bare.sif'), '--', ...COMMAND]);
  assert.ok(objectNames(at('bare.sif')).includes('tsrun-image-facts.json'));
  assert.is(tsrunOk(['exec', at('bare.sif'), 'cat', '/zz/late/small']), 'the wanted one\n');
});

const refusals: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['a command that fails is no example', [at('in.sif'), at('no.sif'), '--', 'sh', '-c', 'exit 3'], /ended with status 3: .*E_RECORD/],
  ['without command and record there is nothing to go by', [at('in.sif'), at('no.sif')], /neither a command to run nor a record .*E_USAGE/],
  ['a record of another image is refused', ['--replay', at('record'), at('gzip.sif'), at('no.sif')], /made with another image .*E_RECORD/],
  ['what is no record is refused', ['--replay', at('small.tar'), at('in.sif'), at('no.sif')], /it is no record of tsrun .*E_RECORD/],
  [
    'a record that is not there is named',
    ['--replay', at('none'), at('in.sif'), at('no.sif')],
    /cannot use the record .*none: no such file or directory \(E_RECORD/,
  ],
  ['an existing file is not replaced unasked', ['--replay', at('record'), at('in.sif'), at('out.sif')], /it exists .*E_EXISTS/],
];
for (const [name, words, expected] of refusals) {
  test(name, () => {
    const ran = tsrun(['optimize', ...words]);
    assert.is(ran.status, 125);
    assert.match(ran.stderr, expected);
  });
}

test('a damaged record is refused', () => {
  const bytes = Buffer.from(readFileSync(at('record')));
  bytes[112 + 16] = 99;
  writeFileSync(at('damaged'), bytes);
  assert.match(tsrun(['optimize', '--replay', at('damaged'), at('in.sif'), at('no.sif')]).stderr, /damaged at byte 112 .*E_RECORD/);
});

test('what cannot be recorded is said before the program runs', () => {
  run('/bin/chmod', ['666', at('small.tar')], { as: 'root' });
  const other = tsrun(['exec', '--record', at('small.tar'), at('in.sif'), 'echo', 'ran']);
  assert.is(other.stdout, '');
  assert.match(other.stderr, /cannot record to .*small\.tar: the file holds something else than a record of this image .*E_RECORD/);
  const missing = tsrun(['exec', '--record', at('none/record'), at('in.sif'), 'echo', 'ran']);
  assert.match(missing.stderr, /cannot record to .*none\/record: .*E_RECORD/);
  const directory = tsrun(['exec', '--record', at('x'), at('in.files'), 'echo', 'ran']);
  assert.match(directory.stderr, /cannot record to .*: the image is a directory.*E_RECORD/);
});

/** The statistics of the only server in a runtime directory of its own, while a run waits in it. */
const whileWaiting = async (
  name: string,
  image: string,
  look: (stats: () => ImageStats | undefined, runtime: string) => void,
  more: Readonly<Record<string, string>> = {},
): Promise<void> => {
  const runtime = at(name);
  mkdirSync(runtime, { mode: 0o700 });
  run('/bin/chown', [String(testUser().uid), runtime], { as: 'root' });
  const env = { XDG_RUNTIME_DIR: runtime, ...more };
  const child = spawn(tsrunPath, ['exec', image, 'sh', '-c', 'echo ready; read end'], {
    env: environmentOf({ env }),
    uid: testUser().uid,
    gid: testUser().gid,
    cwd: '/tmp',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.on('exit', () => reject(new Error('ended early')));
  });
  const stats = (): ImageStats | undefined =>
    (JSON.parse(tsrunOk(['image', 'stats', '--json'], { env })) as { servers: ServerStats[] }).servers.find(
      ({ directory }) => directory === `${runtime}/tsrun`,
    )?.images[0];
  try {
    look(stats, runtime);
  } finally {
    const ended = new Promise((resolve) => child.on('exit', resolve));
    child.stdin.end('\n');
    await ended;
  }
};

test('the server has the blocks of the list ready before they are asked for; without a list it has not', async () => {
  // What a list names and a start does not ask for: six megabytes.
  tsrunOk(['optimize', at('in.sif'), at('large-list.sif'), '--', 'sh', '-c', 'cat /opt/tool/cold* >/dev/null']);
  const listed = hotList(at('large-list.sif')).filter(({ kind }) => kind === 2).length;
  const env = { TSRUN_CACHE_MEMORY: '64M' };
  let unlisted = 0;
  await whileWaiting(
    'plain',
    at('in.sif'),
    (stats) => {
      unlisted = stats()?.loads ?? 0;
    },
    env,
  );
  assert.ok(unlisted > 0 && unlisted < listed - 10, `${unlisted} loads by a start, ${listed} blocks of data in the list`);
  await whileWaiting(
    'ahead',
    at('large-list.sif'),
    (stats) => {
      // Statistics are published with each answer to the kernel; this run asks for little, so it is asked for something.
      let loads = 0;
      for (const end = Date.now() + 20_000; loads < listed && Date.now() < end; ) {
        run(tsrunPath, ['exec', at('large-list.sif'), 'test', '-e', `/not-there-${Date.now()}`], {
          env: { XDG_RUNTIME_DIR: at('ahead'), ...env },
        });
        loads = stats()?.loads ?? 0;
      }
      assert.ok(loads >= listed, `${loads} loads, ${listed} blocks of data in the list, ${unlisted} loads by a start`);
    },
    env,
  );
});

test('what the recorded run read the kernel has before it is asked for, and nothing else of that file', async () => {
  const pages = (runtime: string, offset: number, length: number): string =>
    tsrunOk(['exec', at('out.sif'), 'payload', 'cached', '/zz/late/large', String(offset), String(length)], {
      env: { XDG_RUNTIME_DIR: runtime },
    });
  // The run that waits reads nothing but its program.
  await whileWaiting('fetched', at('out.sif'), (_, runtime) => {
    const wanted = 4 * 65536;
    const [all, none] = [`${wanted / 4096} of ${wanted / 4096}\n`, `0 of ${(8 * 65536) / 4096}\n`];
    let had = '';
    for (const end = Date.now() + 20_000; had !== all && Date.now() < end; ) had = pages(runtime, 16 * 65536, wanted);
    assert.is(had, all);
    assert.is(pages(runtime, 0, 8 * 65536), none);
  });
});

test('asks that lie are no harm to the run', async () => {
  const bytes = Buffer.from(readFileSync(at('out.sif')));
  const start = bytes.lastIndexOf('tsrunhot');
  assert.is(bytes.readUInt32LE(start + 8), 2);
  const damaged = Buffer.from(bytes);
  damaged.fill(0xff, start + 16 + 16 * bytes.readUInt32LE(start + 12), start + 16 + 16 * bytes.readUInt32LE(start + 12) + 40);
  writeFileSync(at('asks-lie.sif'), damaged);
  await whileWaiting('asks-lie', at('asks-lie.sif'), (stats) => assert.is(stats()?.failed, 0));
});

test('a hot list that lies is left alone and logged; the image runs', async () => {
  const bytes = Buffer.from(readFileSync(at('out.sif')));
  const start = bytes.lastIndexOf('tsrunhot');
  bytes.writeBigUInt64LE(2n ** 60n, start + 16 + 16 * 3);
  writeFileSync(at('lying.sif'), bytes);
  assert.is(tsrunOk(['exec', at('lying.sif'), 'cat', '/zz/late/small']), 'the wanted one\n');
  await whileWaiting('lying', at('lying.sif'), (_, runtime) => {
    const log = run('/bin/sh', ['-c', `cat ${runtime}/tsrun/*.log`]).stdout;
    assert.match(log, /piece 3 is not one of the image/);
  });
});

test('a record has a server of its own: what a warm one has is recorded all the same', async () => {
  tsrunOk(['exec', '--record', at('cold-record'), at('in.sif'), ...COMMAND]);
  const env = { XDG_RUNTIME_DIR: at('warm') };
  await whileWaiting('warm', at('in.sif'), () => {
    run(tsrunPath, ['exec', at('in.sif'), ...COMMAND], { env });
    const ran = run(tsrunPath, ['exec', '--record', at('warm-record'), at('in.sif'), ...COMMAND], { env });
    assert.is(ran.status, 0, ran.stderr);
  });
  // In which pieces and order the kernel asks for pages is its own affair; for which files is not.
  const files = (record: string): readonly number[] => {
    const bytes = readFileSync(record);
    const read = new Set<number>();
    for (let i = 112; i < bytes.length; i += 24) if (bytes.readUInt32LE(i + 16) === 4) read.add(bytes.readUInt32LE(i + 12));
    return [...read].sort((a, b) => a - b);
  };
  assert.equal(files(at('warm-record')), files(at('cold-record')));
  assert.ok(files(at('warm-record')).length >= 3);
});

test.run();
