/** The converter as a whole: the same bytes everywhere, images others can read, and nothing lost when it fails. */
import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { rewrapImage } from '../../src/build/rewrap.ts';
import { openSource } from '../../src/build/sources.ts';
import { objectText, openSquashFile } from '../../src/build/squash-file.ts';
import { parseFacts } from '../../src/image/read-facts.ts';
import { DEFAULT_LIMITS } from '../../src/oci/limits.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { convert, unsquash } from '../helpers/convert.ts';
import { makeTar, type TestEntry, writeLayout } from '../helpers/layers.ts';
import { forNode } from '../helpers/proc.ts';
import { listTree, must } from '../helpers/trees.ts';

const test = suite('converter');
const place = mkdtempSync(join(tmpdir(), 'tsrun-convert-'));
test.after(() => rmSync(place, { recursive: true, force: true }));
const main = resolve(import.meta.dirname, '../../src/cli/main.ts');

let count = 0;
const fresh = (name: string): string => join(place, `${count++}-${name}`);
const hash = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

/** Some thousand files of all sizes, with repetition, holes, attributes and links; large enough for several slabs. */
const manyFiles = (layer: number): TestEntry[] => {
  const entries: TestEntry[] = [{ path: 'lib/', type: 'dir', mtime: 5 }];
  for (let i = 0; i < 600; i++) {
    const size = (i * 7919 * (layer + 3)) % (i % 50 === 0 ? 700_000 : 9000);
    const content = Buffer.alloc(size);
    for (let at = 0; at < size; at += 4) content.writeUInt8((at * (i % 40)) & 0xff, at);
    entries.push({
      path: `lib/d${i % 20}/f${layer}-${i}`,
      content,
      mode: 0o644 + (i % 2),
      uid: i % 7,
      ...(i % 100 === 0 ? { xattrs: { 'user.n': String(i) } } : {}),
    });
  }
  entries.push({ path: 'lib/hard', type: 'hardlink', link: `lib/d0/f${layer}-0` }, { path: 'lib/zeros', content: Buffer.alloc(1 << 20) });
  return entries;
};
const layout = fresh('layout');
writeLayout(layout, {
  layers: [makeTar(manyFiles(0)), makeTar(manyFiles(1)), makeTar(manyFiles(2))],
  config: { Env: ['A=$x "y"'], Cmd: ['/bin/sh'] },
});

test('the image is the same to the byte with one, two and eight threads', async () => {
  const hashes = new Set<string>();
  for (const threads of [1, 2, 8]) {
    const target = fresh('threads.sif');
    await convert(`oci:${layout}`, target, { threads });
    hashes.add(hash(target));
  }
  assert.is(hashes.size, 1);
});

test('the image is the same in another directory, time zone, locale, umask, and at another time', () => {
  const other = fresh('elsewhere/deeper');
  mkdirSync(other, { recursive: true });
  must('cp', ['-r', layout, join(other, layout.slice(place.length + 1))]);
  const hashes = new Set<string>();
  for (const [directory, env, umask] of [
    [place, { TZ: 'UTC', LC_ALL: 'C' }, '022'],
    [other, { TZ: 'Pacific/Kiritimati', LC_ALL: 'de_DE.UTF-8', SOURCE_DATE_EPOCH: '1', HOME: '/' }, '077'],
  ] as const) {
    const built = spawnSync(
      'sh',
      ['-c', `umask ${umask}; exec "$0" "$@"`, process.execPath, main, 'build', 'out.sif', `oci:${layout.slice(place.length + 1)}`],
      {
        cwd: directory,
        env: { ...forNode(), ...env },
        encoding: 'utf8',
      },
    );
    assert.is(built.status, 0, built.stderr);
    assert.is(built.stderr + built.stdout, '');
    assert.is(statSync(join(directory, 'out.sif')).mode & 0o777, umask === '022' ? 0o755 : 0o700);
    hashes.add(hash(join(directory, 'out.sif')));
  }
  assert.is(hashes.size, 1);
});

test('the tree digest is the same for every compressor, level and block size', async () => {
  const digests = new Set<string>();
  for (const options of [
    { compressor: 'zstd', level: 1, blockSize: 131_072 },
    { compressor: 'zstd', level: 9, blockSize: 1 << 20 },
    { compressor: 'gzip', level: 1, blockSize: 4096 },
  ] as const) {
    digests.add((await convert(`oci:${layout}`, fresh('compressor.sif'), { ...options, threads: 2 })).treeDigest);
  }
  assert.is(digests.size, 1);
});

test('the kernel mounts the image and shows what unsquashfs unpacks', async () => {
  const target = fresh('mounted.sif');
  await convert(`oci:${layout}`, target);
  const out = fresh('unpacked');
  const { offset } = unsquash(target, out);
  const mountPoint = fresh('mnt');
  mkdirSync(mountPoint);
  must('mount', ['-t', 'squashfs', '-o', `loop,ro,offset=${offset}`, target, mountPoint]);
  try {
    assert.equal(listTree(mountPoint, { directoryTimes: true }), listTree(out, { directoryTimes: true }));
    assert.ok(listTree(out).length > 1800);
  } finally {
    must('umount', [mountPoint]);
  }
});

test('the SIF carries definition, OCI config and manifest, inspect data, image facts and the build record', async () => {
  const target = fresh('objects.sif');
  const converted = await convert(`oci:${layout}:latest`, target);
  const file = openSquashFile(target);
  assert.is(objectText(file, 'definition'), `bootstrap: oci\nfrom: ${layout.slice(place.length + 1)}:latest\n\n`);
  assert.equal(JSON.parse(objectText(file, 'generic-json', 'oci-config.json')).config, { Env: ['A=$x "y"'], Cmd: ['/bin/sh'] });
  assert.is(JSON.parse(objectText(file, 'generic-json', 'oci-manifest.json')).layers.length, 3);
  const { attributes } = JSON.parse(objectText(file, 'generic-json', 'inspect-metadata.json')).data;
  assert.match(attributes.runscript, /set -- '\/bin\/sh'/);
  const expected = ['export A="$', '{A:-"\\$x \\"y\\""}"'].join('');
  assert.is(attributes.environment['/.singularity.d/env/10-docker2singularity.sh'].split('\n')[2], expected);
  assert.equal(parseFacts(objectText(file, 'generic-json', 'tsrun-image-facts.json')), converted.facts);
  const record = JSON.parse(objectText(file, 'generic-json', 'tsrun-build.json'));
  assert.is(record.treeDigest, converted.treeDigest);
  assert.is(record.layers.length, 3);
  assert.is(file.sif?.header.arch, 'amd64');
});

test('what /.singularity.d says is what the shell makes of it', async () => {
  const target = fresh('scripts.sif');
  const image = fresh('script-layout');
  const word = `it's "$HOME" \`x\` \\ end`;
  writeLayout(image, {
    layers: [makeTar([{ path: 'd', content: '' }])],
    config: { Env: [`WORD=${word}`, 'PATH=/a:/b', '1bad=x'], Entrypoint: ['/usr/bin/printf', '%s|'], Cmd: [word, 'two'] },
  });
  await convert(`oci:${image}`, target);
  const out = fresh('scripts');
  unsquash(target, out);
  const shell = (script: string, ...args: string[]): string => must('sh', [join(out, '.singularity.d', script), ...args]).toString();
  assert.is(shell('runscript'), `${word}|two|`);
  assert.is(shell('runscript', 'mine', '$HOME'), 'mine|$HOME|');
  const environment = must('sh', ['-c', `. ${out}/.singularity.d/env/10-docker2singularity.sh; printf '%s\\n' "$WORD" "$PATH"`]).toString();
  assert.is(environment, `${word}\n/a:/b\n`);
  assert.is(must('sh', ['-c', `WORD=kept; . ${out}/.singularity.d/env/10-docker2singularity.sh; echo "$WORD"`]).toString(), 'kept\n');
});

test('what an image brings of /.singularity.d itself stays', async () => {
  const image = fresh('own');
  const own = '#!/bin/sh\necho own\n';
  writeLayout(image, {
    layers: [
      makeTar([
        { path: '.singularity.d/runscript', content: own, mode: 0o755 },
        { path: 'var', type: 'symlink', link: 'data' },
      ]),
    ],
  });
  const target = fresh('own.sif');
  const { facts } = await convert(`oci:${image}`, target);
  assert.is(facts.runscript, true);
  const out = fresh('own-out');
  unsquash(target, out);
  assert.is(readFileSync(join(out, '.singularity.d/runscript'), 'utf8'), own);
  assert.ok(existsSync(join(out, '.singularity.d/env/10-docker2singularity.sh')));
  assert.is(must('readlink', [join(out, 'var')]).toString(), 'data\n');
});

const rejects = async (work: Promise<unknown>, code: string): Promise<TsrunError> => {
  try {
    await work;
  } catch (error) {
    assert.instance(error, TsrunError, String(error));
    assert.is((error as TsrunError).code, code, (error as TsrunError).message);
    return error as TsrunError;
  }
  return assert.unreachable(`no error, expected ${code}`) as never;
};

test('an existing output is kept without --force, and when a build with it fails', async () => {
  const directory = fresh('existing');
  mkdirSync(directory);
  const target = join(directory, 'image.sif');
  writeFileSync(target, 'precious');
  await rejects(convert(`oci:${layout}`, target, { force: false }), 'E_EXISTS');
  const cut = fresh('cut.tar');
  writeFileSync(cut, makeTar(manyFiles(0)).subarray(0, 3_000_000));
  await rejects(convert(`tar:${cut}`, target, { force: true }), 'E_TAR');
  assert.is(readFileSync(target, 'utf8'), 'precious');
  assert.equal(readdirSync(directory), ['image.sif']);
});

test('two builds of one output at once both end with a whole image', async () => {
  const directory = fresh('race');
  mkdirSync(directory);
  const target = join(directory, 'image.sif');
  await Promise.all([1, 2].map(() => convert(`oci:${layout}`, target)));
  assert.equal(readdirSync(directory), ['image.sif']);
  const alone = fresh('alone.sif');
  await convert(`oci:${layout}`, alone);
  assert.is(hash(target), hash(alone));
});

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  test(`${signal} in the middle of a build leaves nothing behind and ends the process by that signal`, async () => {
    const directory = fresh('signal');
    mkdirSync(directory);
    const child = spawn(process.execPath, [main, 'build', join(directory, 'image.sif'), '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
    child.stdin.on('error', () => {});
    child.stdin.write(makeTar(manyFiles(0)).subarray(0, 2_000_000));
    // Half of an archive was given and no more comes: it waits, with its temporary file, until it is told to stop.
    while (readdirSync(directory).length === 0) await new Promise((done) => setTimeout(done, 20));
    child.kill(signal);
    const ended = await new Promise((done) => child.on('close', (_, by) => done(by)));
    assert.is(ended, signal);
    assert.equal(readdirSync(directory), []);
  });
}

test('a file system too small for the image is named before the layers are read, or when it is full', async () => {
  const small = fresh('small');
  mkdirSync(small);
  must('mount', ['-t', 'tmpfs', '-o', 'size=400k', 'tmpfs', small]);
  try {
    const image = fresh('random');
    const content = randomBytes(4_000_000);
    writeLayout(image, { layers: [makeTar([{ path: 'random', content }])] });
    const early = await rejects(convert(`oci:${image}`, join(small, 'image.sif')), 'E_OUTPUT_FULL');
    assert.match(early.why, /bytes left/);
    const tar = fresh('random.tar');
    writeFileSync(tar, makeTar([{ path: 'random', content }]));
    const late = await rejects(convert(`tar:${tar}`, join(small, 'image.sif')), 'E_OUTPUT_FULL');
    assert.match(late.why, /full/);
    writeFileSync(`${tar}.gz`, must('gzip', ['-c', tar]));
    assert.match((await rejects(convert(`tar:${tar}.gz`, join(small, 'image.sif')), 'E_OUTPUT_FULL')).why, /bytes left/);
    assert.match((await rejects(convert(`docker-archive:${tar}.gz`, join(small, 'image.sif')), 'E_OUTPUT_FULL')).why, /bytes compressed/);
    const sif = fresh('large.sif');
    await convert(`tar:${tar}`, sif);
    const rewrapped = rewrapImage(openSquashFile(sif), join(small, 'image.sif'), false, new AbortController().signal, () => {});
    assert.match((await rejects(rewrapped, 'E_OUTPUT_FULL')).why, /bytes left; the image needs \d+/);
    // A tar of zeros is long and needs next to nothing: it is not refused for its length.
    const zeros = fresh('zeros.tar');
    writeFileSync(zeros, makeTar([{ path: 'zeros', content: Buffer.alloc(4_000_000) }]));
    await convert(`tar:${zeros}`, join(small, 'zeros.sif'));
    assert.equal(readdirSync(small), ['zeros.sif']);
  } finally {
    must('umount', [small]);
  }
});

test('an ordinary user without any rights converts an image with devices, setuid files and foreign owners', async () => {
  const tar = fresh('privileged.tar');
  writeFileSync(
    tar,
    makeTar([
      { path: 'null', type: 'char', device: [1, 3], mode: 0o666 },
      { path: 'su', content: 'x', mode: 0o4755, uid: 0 },
      {
        path: 'hers',
        content: 'y',
        uid: 4242,
        gid: 4343,
        xattrs: { 'security.capability': `\x01\x00\x00\x02\x00\x20\x00\x00${'\0'.repeat(12)}` },
      },
    ]),
  );
  const directory = fresh('user');
  mkdirSync(directory);
  chmodSync(place, 0o755);
  chmodSync(directory, 0o777);
  const built = spawnSync(
    'setpriv',
    ['--reuid', '65534', '--regid', '65534', '--clear-groups', process.execPath, main, 'build', join(directory, 'x.sif'), `tar:${tar}`],
    { encoding: 'utf8' },
  );
  assert.is(built.status, 0, built.stderr);
  const out = fresh('user-out');
  unsquash(join(directory, 'x.sif'), out);
  const lines = listTree(out).filter((line) => /^\/(null|su|hers) /.test(line));
  assert.equal(
    lines.map((line) => line.split(' ').slice(0, 4).join(' ')),
    ['/hers f 644 4242:4343', '/null c 666 0:0', '/su f 4755 0:0'],
  );
  assert.match(must('getfattr', ['-n', 'security.capability', join(out, 'hers')]).toString(), /security\.capability=/);
});

test('a source is closed and its unpacked copy is gone whatever happens', async () => {
  const directory = fresh('scratch');
  mkdirSync(directory);
  const docker = join(directory, 'docker.tar');
  must('skopeo', ['copy', '--quiet', '--insecure-policy', `oci:${layout}:latest`, `docker-archive:${docker}`]);
  must('gzip', ['-1', docker]);
  const source = await openSource(parseReference(`docker-archive:${docker}.gz`), {
    platform: { os: 'linux', architecture: 'amd64' },
    limits: DEFAULT_LIMITS,
    scratch: directory,
    registry: () => Promise.reject(new Error('none')),
  });
  assert.equal(readdirSync(directory), ['docker.tar.gz']);
  if (source.kind === 'layers') await source.image.close();
});

test('a SquashFS of mksquashfs and a SIF become a new SIF with facts, their blocks untouched', () => {
  const tree = fresh('tree');
  mkdirSync(join(tree, 'etc'), { recursive: true });
  writeFileSync(join(tree, 'etc/os-release'), 'ID=test\nPRETTY_NAME="A test"\n');
  const bare = fresh('bare.squashfs');
  must('mksquashfs', [tree, bare, '-quiet', '-no-progress', '-comp', 'gzip']);
  const first = fresh('first.sif');
  const second = fresh('second.sif');
  for (const [target, source] of [
    [first, bare],
    [second, first],
  ] as const) {
    const built = spawnSync(process.execPath, [main, 'build', target, source], { encoding: 'utf8' });
    assert.is(built.status, 0, built.stderr);
    const file = openSquashFile(target);
    assert.ok(
      readFileSync(target)
        .subarray(file.offset, file.offset + file.size)
        .equals(readFileSync(bare)),
    );
    assert.is(parseFacts(objectText(file, 'generic-json', 'tsrun-image-facts.json'))?.os.name, 'A test');
  }
  copyFileSync(bare, fresh('kept.squashfs'));
  const refused = spawnSync(process.execPath, [main, 'build', '--compress', 'xz', fresh('x.sif'), bare], { encoding: 'utf8' });
  assert.match(refused.stderr, /taken as they are.*E_USAGE/);
});

test.run();
