/**
 * The image server on kernels that lack what this one has: under a filter that refuses the newer calls, and on a real Linux 6.1 (user-mode Linux) where that
 * is installed. The run gets at the image by another way and sees no difference.
 */
import { spawn } from 'node:child_process';
import { chownSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { onLinux61, whyNotLinux61 } from '../helpers/linux-6.1.ts';
import { environmentOf, makeBusyboxImage, run, scratch, tsrunPath } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';
import { helperProgram } from './launcher/helpers.ts';

const test = suite('image server on older kernels');
const place = scratch('kernels');
const image = makeBusyboxImage(place);
const user = testUser();
const isRoot = process.getuid?.() === 0;
const deny = helperProgram('deny');

const NEWER_THAN_4_18 = [
  'open_tree',
  'move_mount',
  'fsopen',
  'fsconfig',
  'fsmount',
  'mount_setattr',
  'openat2',
  'close_range',
  'statx',
  'clone3',
  'pidfd_open',
  'faccessat2',
];
const kernels: readonly (readonly [name: string, refused: readonly string[], mount: string])[] = [
  ['before 6.15 (no clone of a detached mount)', ['EINVAL', 'detached_clone'], 'own'],
  ['4.18 (none of the newer calls)', ['ENOSYS', ...NEWER_THAN_4_18], 'view'],
];

const runtimeDirectory = (name: string): string => {
  const runtime = join(place, name);
  mkdirSync(runtime, { mode: 0o700 });
  if (isRoot) chownSync(runtime, user.uid, user.gid);
  return runtime;
};

for (const [name, refused, mount] of kernels) {
  const runtime = runtimeDirectory(mount);
  const options = { env: { XDG_RUNTIME_DIR: runtime }, cwd: runtime };
  const exec = (...command: string[]) => run(deny, [...refused, '--', tsrunPath, 'exec', ...command], options);

  test(`${name}: the image is served, the current directory and binds are there`, () => {
    writeFileSync(join(runtime, 'here'), 'the current directory\n', { mode: 0o644 });
    const script = 'cat /opt/tool/data.txt here /mnt/here; pwd; ls -A | tr "\\n" " "; grep -c fuse /proc/self/mountinfo';
    const ran = exec('--bind', `${runtime}:/mnt`, image, 'sh', '-c', script);
    assert.is(ran.stderr, '');
    const [fromImage, here, bound, cwd, listing] = ran.stdout.split('\n');
    assert.equal([fromImage, here, bound, cwd], ['from the image', 'the current directory', 'the current directory', runtime]);
    assert.match(String(listing), /^here tsrun /);
  });

  test(`${name}: runs of a scope share a user namespace and an image server`, async () => {
    const script = 'readlink /proc/self/ns/user; stat -c %d /bin/busybox';
    const waiting = spawn(deny, [...refused, '--', tsrunPath, 'exec', image, 'sh', '-c', `${script}; cat`], {
      env: environmentOf(options),
      uid: user.uid,
      gid: user.gid,
      cwd: runtime,
    });
    const first = await new Promise<string>((resolve) => {
      let text = '';
      waiting.stdout.on('data', (chunk) => {
        text += chunk;
        if (text.split('\n').length === 3) resolve(text);
      });
    });
    const second = exec(image, 'sh', '-c', script);
    const [socket = ''] = readdirSync(join(runtime, 'tsrun')).filter((file) => file.endsWith('.sock'));
    const told = run(tsrunPath, ['@server-statistics', join(runtime, 'tsrun'), socket.replace(/\.\d+\.sock$/, '')]).stdout;
    assert.is(JSON.parse(told).images[0].mount, mount);
    waiting.stdin.end();
    await new Promise((resolve) => waiting.on('exit', resolve));
    assert.is(second.stdout.split('\n')[0], first.split('\n')[0], second.stderr);
  });

  test(`${name}: with PIDs of its own and a writable layer`, () => {
    assert.is(
      exec('--pid', '--writable-tmpfs', image, 'sh', '-c', 'echo x > /opt/tool/new && cat /opt/tool/new; echo $$').stdout,
      'x\n2\n',
    );
  });

  test(`${name}: each run sees the files as its caller does`, () => {
    if (!isRoot) return skip('needs root to mount');
    const drop = ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
    const own = (word: string) =>
      `unshare -m sh -c 'mount -t tmpfs none /mnt && echo ${word} > /mnt/word && exec "$@"' sh ${drop.join(' ')} ${deny} ${refused.join(' ')} -- ${tsrunPath} exec --bind /mnt ${image}`;
    // Both at the same time: the second must not be given the first one's view.
    const script = `mkfifo ${runtime}/go && exec 9<>${runtime}/go
${own('first')} sh -c 'cat /mnt/word; read go' <&9 | { read word; echo $word; ${own('second')} cat /mnt/word; echo >&9; cat; }`;
    const both = run('bash', ['-c', script], { ...options, as: 'root' });
    assert.is(both.stdout, 'first\nsecond\n', both.stderr);
  });
}

test('where the kernel refuses to mount by FUSE, the image is extracted', () => {
  if (!isRoot) return skip('needs root to mount');
  const local = join(place, 'local');
  const drop = [
    'setpriv',
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    '--clear-groups',
    tsrunPath,
    'exec',
    image,
    'cat',
    '/opt/tool/data.txt',
  ];
  const ran = run('unshare', ['-m', 'sh', '-c', 'mount --bind /dev/null /dev/fuse && exec "$@"', 'sh', ...drop], {
    as: 'root',
    env: { TSRUN_LOCAL: local, XDG_RUNTIME_DIR: runtimeDirectory('refused') },
  });
  assert.equal([ran.stdout, ran.stderr, ran.status], ['from the image\n', '', 0]);
  assert.is(readdirSync(join(local, 'extracted')).length, 2);
});

test('Linux 6.1: runs on that kernel itself', () => {
  const reason = whyNotLinux61();
  if (reason !== undefined) return skip(reason);
  const told = onLinux61(
    place,
    image,
    `uname -r
user TSRUN_LINGER=20 tsrun exec image.sif sh -c 'cat /opt/tool/data.txt; pwd; ls -A /tmp'
echo status $?
user tsrun @server-statistics /tmp/tsrun-1000 | grep -o '"mount": "[a-z]*"'
mkdir later; mount -t tmpfs none later; echo "mounted later" > later/note
user tsrun exec --bind /tmp/later:/mnt image.sif cat /mnt/note later/note
for i in 1 2 3 4; do user TSRUN_LINGER=20 tsrun exec --bind /tmp/later:/mnt/$i image.sif sh -c 'echo $(ls /mnt) $(cat /mnt/*/note) $(grep -c upperdir= /proc/self/mountinfo)'; sleep 0.3; done`,
  );
  const lines = [
    '6\\.1\\.\\S+',
    'from the image',
    '/tmp',
    'image\\.sif',
    'tsrun-1000',
    'status 0',
    '"mount": "own"',
    'mounted later',
    'mounted later',
    // The last two have a root made ahead (native/spare.h).
    '1 mounted later 0',
    '2 mounted later 0',
    '3 mounted later 1',
    '4 mounted later 1',
  ];
  assert.match(told, new RegExp(`^${lines.join('\n')}\n$`), told);
});

test.run();
