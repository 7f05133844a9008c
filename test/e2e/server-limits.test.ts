/** Runs of a caller who may have little of something, or whose directory for sockets cannot be used: they work, or say what there is too little of. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { makeBusyboxImage, type Ran, run, scratch, tsrun, tsrunPath } from '../helpers/product.ts';
import { runtimeIn } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { isRoot, testUser } from '../helpers/user.ts';

const test = suite('image server, limits');
const place = scratch('limits');
const image = makeBusyboxImage(place);
const user = testUser();
const READ = ['cat', '/opt/tool/data.txt'];

/** With a server of its own, which has the same limits. */
const limited = (name: string, limits: readonly string[], ...command: string[]): Ran =>
  run('prlimit', [...limits, ...command], { env: { XDG_RUNTIME_DIR: runtimeIn(place, name) } });

for (const [what, limits] of [
  ['twenty descriptors', ['--nofile=20']],
  ['twenty descriptors, of 4096 that it may have', ['--nofile=20:4096']],
  ['100 MB of addresses', ['--as=100000000']],
  ['no locked memory, no queued signals', ['--memlock=0', '--sigpending=0']],
  ['64 kB of stack', ['--stack=65536']],
] as const) {
  test(`with ${what} an image is served`, () => {
    assert.equal(limited(what.replaceAll(/\W/g, '-'), limits, tsrunPath, 'exec', image, ...READ), {
      status: 0,
      signal: null,
      stdout: 'from the image\n',
      stderr: '',
    });
  });
}

test('a hundred runs at once, of which each and the server may have 64 descriptors, have one server', () => {
  const script = 'for i in $(seq 100); do "$@" & done; wait';
  const ran = limited(
    'many',
    ['--nofile=64'],
    'sh',
    '-c',
    script,
    'sh',
    tsrunPath,
    'exec',
    image,
    'sh',
    '-c',
    'sleep 0.2; cat /opt/tool/data.txt',
  );
  assert.equal([ran.stdout, ran.stderr], ['from the image\n'.repeat(100), '']);
});

test('more images than there are descriptors for: what cannot be served says so, and nothing is extracted instead', () => {
  const images = Array.from({ length: 20 }, (_, i) => join(place, `${i}.sif`));
  for (const path of images) copyFileSync(image, path);
  const said = join(place, 'said');
  // Nobody ends before all have been served or refused.
  const script = `for i; do $0 exec $i sh -c "cat /opt/tool/data.txt; until [ -e ${said}.all ]; do sleep 0.1; done" >> ${said} 2>&1 & done
    until [ $(grep -cE '^(from the image|tsrun: .*)$' ${said}) = $# ]; do sleep 0.1; done; touch ${said}.all; wait`;
  assert.is(limited('images', ['--nofile=64'], 'sh', '-c', script, tsrunPath, ...images).stderr, '');
  const lines = readFileSync(said, 'utf8').split('\n');
  const refused = lines.filter((line) => line.startsWith('tsrun: '));
  assert.ok(refused.length > 0 && refused.length < images.length, lines.join('\n'));
  for (const line of refused) assert.match(line, /too many open files/);
  assert.ok(lines.some((line) => line.startsWith('hint: raise the limit: ulimit -n 4096')));
});

test('no process more: what is used up is named', () => {
  const ran = limited('processes', ['--nproc=1'], tsrunPath, 'exec', image, ...READ);
  assert.is(ran.status, 125);
  assert.match(
    ran.stderr,
    /^tsrun: cannot reach the image server: starting a process: .*\nhint: you have as many processes as you may \(ulimit -u/,
  );
});

test('a name of the runtime directory that is longer than a socket’s may be', () => {
  const long = join(runtimeIn(place, 'long'), 'a'.repeat(100), 'b'.repeat(100));
  assert.is(run('mkdir', ['-p', '-m', '700', long]).status, 0);
  assert.is(run('chmod', ['700', long]).status, 0);
  const ran = tsrun(['exec', image, ...READ], { env: { XDG_RUNTIME_DIR: long } });
  assert.equal([ran.stdout, ran.stderr], ['from the image\n', '']);
});

test('a runtime directory that is full or read-only is named, with the cure', () => {
  if (!isRoot()) return skip('needs root to mount');
  for (const [options, hint] of [
    ['size=4k,nr_inodes=2', /no space left.*\nhint: make room there, or point XDG_RUNTIME_DIR to another directory/],
    ['ro', /read-only file system \(E_RUNTIME_DIR\)\nhint: point XDG_RUNTIME_DIR to another directory .*or unset it/],
  ] as const) {
    const runtime = join(place, `runtime-${options.length}`);
    mkdirSync(runtime);
    assert.is(spawnSync('mount', ['-t', 'tmpfs', '-o', `${options},mode=700,uid=${user.uid},gid=${user.gid}`, 'none', runtime]).status, 0);
    try {
      const ran = tsrun(['exec', image, ...READ], { env: { XDG_RUNTIME_DIR: runtime } });
      assert.is(ran.status, 125);
      assert.match(ran.stderr, hint);
    } finally {
      spawnSync('umount', [runtime]);
    }
  }
});

test('without /proc the reason is told', () => {
  if (!isRoot()) return skip('needs root to mount');
  const become = `setpriv --reuid ${user.uid} --regid ${user.gid} --init-groups`;
  const script = `mount -t tmpfs none /proc && exec ${become} "$@"`;
  const ran = run('unshare', ['-m', 'sh', '-c', script, 'sh', tsrunPath, 'exec', image, ...READ], {
    as: 'root',
    env: { XDG_RUNTIME_DIR: runtimeIn(place, 'proc') },
  });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /starting it from \/proc\/self\/exe: no such file/);
});

test('in a chroot, where nobody may make user namespaces, that is what it says', () => {
  if (!isRoot()) return skip('needs root to change the root');
  const become = `setpriv --reuid ${user.uid} --regid ${user.gid} --init-groups`;
  const script = `mkdir ${place}/root && mount --rbind / ${place}/root && exec chroot ${place}/root ${become} "$@"`;
  const env = { XDG_RUNTIME_DIR: runtimeIn(place, 'chroot') };
  const ran = run('unshare', ['-m', 'sh', '-c', script, 'sh', tsrunPath, 'exec', image, ...READ], { as: 'root', env });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /cannot create a user namespace: the kernel refuses it .*\(E_USERNS\)\nhint: .*no chroot/);
});

test.run();
