/** Images of every kind run: SIF and bare SquashFS of all compressors, directories, archives; with FUSE and without. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, makeBusyboxTree, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('images of every kind');
const place = scratch('images');
const store = join(place, 'store');
const env = { TSRUN_STORE: store };
const user = testUser();
const tree = join(place, 'rootfs');
mkdirSync(tree);
makeBusyboxTree(tree);

const rootRun = (program: string, args: readonly string[]): void => {
  const done = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stdout}${done.stderr}`);
};

test('a SIF in which no SquashFS begins, or one longer than its place, is refused with the image named', () => {
  const whole = readFileSync(makeBusyboxImage(scratch('root-damage')));
  const at = whole.indexOf('hsqs', 32_768);
  assert.ok(at > 0);
  for (const [name, damage] of [
    ['magic', (bytes: Buffer) => bytes.fill(0x78, at, at + 4)],
    ['length', (bytes: Buffer) => bytes.writeBigUInt64LE(1n << 40n, at + 40)],
  ] as const) {
    const image = join(place, `${name}.sif`);
    const bytes = Buffer.from(whole);
    damage(bytes);
    writeFileSync(image, bytes);
    const ran = tsrun(['exec', image, 'true'], { env });
    assert.is(ran.status, 125);
    assert.match(ran.stderr, /\(E_IMAGE_READ\)\nhint: fetch or build it again/);
    assert.ok(ran.stderr.includes(image), ran.stderr);
  }
});

for (const compressor of ['gzip', 'zstd', 'xz', 'lz4']) {
  test(`a SquashFS file made by mksquashfs with ${compressor} runs`, () => {
    const image = join(place, `${compressor}.squashfs`);
    rootRun('mksquashfs', [tree, image, '-noappend', '-quiet', '-no-progress', '-comp', compressor, '-all-root']);
    assert.is(tsrunOk(['exec', image, 'cat', '/opt/tool/data.txt'], { env }), 'from the image\n');
    // The second run finds the image facts in the store and starts no Node.
    assert.is(tsrunOk(['exec', image, 'cat', '/etc/os-release'], { env }).split('\n')[0], 'ID=busybox');
  });

  test(`tsrun build --compress ${compressor} makes a SIF that runs, that unsquashfs reads and the kernel mounts`, () => {
    const image = join(place, `${compressor}.sif`);
    const tar = spawnSync('tar', ['-C', tree, '-cf', '-', '.'], { maxBuffer: 64 * 1024 * 1024 }).stdout;
    const built = tsrun(['build', '--compress', compressor, image, '-'], { input: tar, env, cwd: place });
    assert.is(built.status, 0, built.stderr);
    assert.is(tsrunOk(['exec', image, 'cat', '/opt/tool/data.txt'], { env }), 'from the image\n');
    const offset = Number(/(\d+)-\d+\s*\|FS/.exec(tsrunOk(['image', 'objects', image], { env }))?.[1]);
    const listing = run('unsquashfs', ['-offset', String(offset), '-ll', image]);
    assert.match(listing.stdout, /squashfs-root\/opt\/tool\/data\.txt/);
    const mountPoint = join(place, 'mnt');
    mkdirSync(mountPoint, { recursive: true });
    rootRun('mount', ['-t', 'squashfs', '-o', `loop,ro,offset=${offset}`, image, mountPoint]);
    try {
      assert.is(readFileSync(join(mountPoint, 'opt/tool/data.txt'), 'utf8'), 'from the image\n');
      assert.is(statSync(join(mountPoint, 'bin/busybox')).size, statSync(join(tree, 'bin/busybox')).size);
    } finally {
      rootRun('umount', [mountPoint]);
    }
  });
}

test('a directory runs', () => {
  assert.is(tsrunOk(['exec', tree, 'cat', '/opt/tool/data.txt'], { env }), 'from the image\n');
});

test('a directory, an OCI layout, an OCI archive and a docker archive convert to images with the same tree', () => {
  const layout = join(place, 'layout');
  rootRun('umoci', ['init', '--layout', layout]);
  rootRun('umoci', ['new', '--image', `${layout}:v1`]);
  rootRun('umoci', ['insert', '--image', `${layout}:v1`, '--uid-map', '0:0:1', '--gid-map', '0:0:1', tree, '/']);
  rootRun('umoci', [
    'config',
    '--image',
    `${layout}:v1`,
    '--config.env',
    'GREETING=from the config',
    '--config.entrypoint',
    '/bin/echo',
    '--config.cmd',
    'default argument',
    '--config.workingdir',
    '/opt/tool',
  ]);
  rootRun('skopeo', ['copy', '--quiet', '--insecure-policy', `oci:${layout}:v1`, `oci-archive:${join(place, 'archive.tar')}:v1`]);
  rootRun('skopeo', ['copy', '--quiet', '--insecure-policy', `oci:${layout}:v1`, `docker-archive:${join(place, 'docker.tar')}:name:v1`]);
  rootRun('chmod', ['-R', 'a+rX', layout]);
  for (const name of ['archive.tar', 'docker.tar']) chmodSync(join(place, name), 0o644);
  const digests = new Set<string>();
  for (const reference of [
    `oci:${layout}:v1`,
    `oci-archive:${join(place, 'archive.tar')}`,
    `docker-archive:${join(place, 'docker.tar')}`,
  ]) {
    const image = join(place, `${digests.size}-${reference.split(':')[0]}.sif`);
    const built = tsrun(['build', image, reference], { env, cwd: place });
    assert.is(built.status, 0, built.stderr);
    assert.is(tsrunOk(['run', image], { env }), 'default argument\n');
    assert.is(tsrunOk(['run', image, 'other', 'words'], { env }), 'other words\n');
    assert.is(tsrunOk(['exec', image, 'sh', '-c', 'echo $GREETING'], { env: { ...env, GREETING: 'from the host' } }), 'from the config\n');
    digests.add(/tree digest: *(\S+)/i.exec(tsrunOk(['image', 'facts', image], { env }))?.[1] ?? 'none');
  }
  assert.is(digests.size, 1, [...digests].join(' '));
  assert.not.ok(digests.has('none'));
});

/** Of this test alone. */
const home = scratch('images-home');

/** Runs a command as the test user where /dev/fuse cannot be opened by it, as on many login nodes. */
const withoutFuse = (args: readonly string[]): ReturnType<typeof run> => {
  const quoted = args.map((arg) => `'${arg}'`).join(' ');
  const script = `set -e; mknod ${place}/fuse c 10 229 2>/dev/null || true; chmod 600 ${place}/fuse; mount --bind ${place}/fuse /dev/fuse
    exec setpriv --reuid ${user.uid} --regid ${user.gid} --clear-groups ${tsrunPath} ${quoted}`;
  return run('unshare', ['--mount', 'sh', '-c', script], {
    as: 'root',
    env: { ...env, HOME: home, USER: user.name, LOGNAME: user.name, TSRUN_LOCAL: join(place, 'local') },
  });
};

test('without a usable /dev/fuse the image is extracted once into node-local space, never into home', () => {
  const image = makeBusyboxImage(scratch('nofuse'));
  const first = withoutFuse(['exec', image, 'cat', '/opt/tool/data.txt']);
  assert.is(first.stdout, 'from the image\n', first.stderr);
  assert.ok(existsSync(join(place, 'local')), 'nothing in TSRUN_LOCAL');
  const second = withoutFuse(['exec', image, 'cat', '/opt/tool/data.txt']);
  assert.is(second.stdout, 'from the image\n', second.stderr);
  assert.equal(readdirSync(home), []);
});

test('what is not an image is named as such', () => {
  const junk = join(place, 'junk.sif');
  writeFileSync(junk, 'this is not an image');
  const ran = tsrun(['exec', junk, 'true'], { env });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /junk\.sif/);
  const truncated = join(place, 'truncated.sif');
  writeFileSync(truncated, readFileSync(join(place, 'zstd.sif')).subarray(0, 40_000));
  const cut = tsrun(['exec', truncated, 'true'], { env });
  assert.is(cut.status, 125);
  assert.match(cut.stderr, /truncated/);
  assert.is(tsrun(['exec', join(place, 'missing.sif'), 'true'], { env }).status, 125);
});

test.run();
