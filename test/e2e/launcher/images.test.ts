/** Images in SquashFS: served by the scope's server, or extracted once. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { skip } from '../../helpers/skip.ts';
import {
  helperProgram,
  makeImage,
  type Op,
  ordinary,
  output,
  payload,
  root,
  type Setup,
  scratchDirectory,
  startPayload,
  type User,
  users,
} from './helpers.ts';

const test = suite('launcher: images');
const isRoot = process.getuid?.() === 0;
if (isRoot) chmodSync('/dev/fuse', 0o666);

const tree = makeImage('etc', 'proc', 'data', 'closed');
writeFileSync(join(tree, 'etc/hello'), 'from the image\n');
symlinkSync('etc/hello', join(tree, 'link'));
chmodSync(join(tree, 'closed'), 0o555);
const place = scratchDirectory();
const image = join(place, 'image.squashfs');
execFileSync('mksquashfs', [tree, image, '-comp', 'zstd', '-noappend', '-quiet', '-no-progress', '-all-root']);
const size = lstatSync(image).size;
/** As in a SIF: the file system begins somewhere in the file and does not end with it. */
const embedded = join(place, 'embedded');
writeFileSync(embedded, Buffer.concat([Buffer.alloc(8192, 'x'), readFileSync(image), Buffer.alloc(5000, 'y')]));

const ownDirectory = (user: User): string => {
  const directory = scratchDirectory();
  chmodSync(directory, 0o700);
  if (isRoot) chownSync(directory, user.uid, user.gid);
  return directory;
};

const scope = (user: User, directory: string, linger = 0): Op => [
  'scope',
  join(directory, 'tsrun'),
  'test-scope',
  user.uid,
  user.gid,
  linger,
  0,
];

/** Until the server of `directory` has taken its socket away. */
const serverGone = async (directory: string): Promise<void> => {
  const socket = join(directory, 'tsrun/test-scope.sock');
  const watcher = watch(join(directory, 'tsrun'));
  while (existsSync(socket)) await once(watcher, 'change');
  watcher.close();
};

for (const user of users) {
  test(`${user.name}: an image is served, with mounts, missing targets and content above it`, async () => {
    const directory = ownDirectory(user);
    const setup: Setup = {
      user,
      userns: [scope(user, directory), ['image_mount', -1, image, 0, size]],
      skeleton: [['file', '/etc/passwd', 0o644, 'mine\n']],
      mounts: [['bind', place, '/gpfs/new', 'ro']],
    };
    assert.is(
      output(setup, 'cat /link /etc/passwd , ls / , ls /gpfs/new , write /etc/hello x , ids , fds')
        .replace(/ \d+ \n$/, ' \n')
        .split('\n')
        .slice(0, 6)
        .join('\n'),
      `from the image\nmine\nbin closed data etc gpfs link proc \nembedded image.squashfs \nwrite: /etc/hello: EROFS\nuid ${user.uid} gid ${user.gid}`,
    );
    assert.is(output(setup, 'stat /etc/hello'), `/etc/hello 100644 ${user.uid} ${user.gid} 15\n`);
    await serverGone(directory);
  });

  test(`${user.name}: at an offset, through a descriptor that was given, which the payload does not get`, async () => {
    const directory = ownDirectory(user);
    const fd = openSync(embedded, 'r');
    const setup: Setup = { user, userns: [scope(user, directory), ['image_mount', 4, '', 8192, size]], fds: [fd] };
    assert.is(output(setup, 'cat /link'), 'from the image\n');
    assert.not.match(output({ ...setup, userns: [scope(user, directory), ['image_mount', 4, '', 8192, size]] }, 'fds'), /\b4\b/);
    closeSync(fd);
    await serverGone(directory);
  });

  test(`${user.name}: runs of a scope share one user namespace`, async () => {
    const directory = ownDirectory(user);
    const mounts: readonly Op[] = [['bind', '/proc', '/proc', 'recursive']];
    const served: Setup = { user, mounts, userns: [scope(user, directory, 5000), ['image_mount', -1, image, 0, size]] };
    const plain: Setup = { user, mounts, userns: [scope(user, directory), ['image_directory', tree]] };
    const name = 'readlink /proc/self/ns/user';
    const first = output(served, name);
    assert.is(output(served, name), first);
    assert.is(output(plain, name), first);
    const alone: Setup = { user, mounts, image: tree };
    assert.is.not(output(alone, name), first);
  });

  test(`${user.name}: sixteen at once`, async () => {
    const directory = ownDirectory(user);
    const setup: Setup = { user, userns: [scope(user, directory), ['image_mount', -1, image, 0, size]] };
    const children = Array.from({ length: 16 }, () => startPayload(setup, 'cat /link , exit 5'));
    assert.equal(await Promise.all(children.map(async (child) => (await once(child, 'exit'))[0])), Array(16).fill(5));
    await serverGone(directory);
  });

  test(`${user.name}: with its own PIDs, and writable`, async () => {
    const directory = ownDirectory(user);
    const setup: Setup = {
      user,
      unshare: 'mount,pid',
      mounts: [['proc', '/proc']],
      root: ['root', 'writable', 0],
      userns: [scope(user, directory), ['image_mount', -1, image, 0, size]],
    };
    assert.is(
      output(setup, 'write /etc/hello new , cat /link , unlink /link , mkdir /data/x , ls /data , pids'),
      'written\nnewx \npid 2 ppid 1 pgid 0 sid 0\n',
    );
    await serverGone(directory);
  });

  test(`${user.name}: a broken image is an error, not a run`, () => {
    const broken = join(scratchDirectory(), 'broken');
    writeFileSync(broken, Buffer.alloc(65536, 7));
    const directory = ownDirectory(user);
    const result = payload({ user, userns: [scope(user, directory), ['image_mount', -1, broken, 0, 65536]] }, 'true');
    assert.is(result.status, 125);
    assert.match(result.err, /^tsrun: cannot read the image: /);
    const missing = payload({ user, userns: [scope(user, directory), ['image_mount', -1, '/none', 0, 0]] }, 'true');
    assert.equal([missing.status, missing.err], [125, 'tsrun: cannot open the image: /none: No such file or directory (E_LAUNCH)\n']);
  });

  const extracted = (directory: string, path = image, offset = 0): Setup => ({
    user,
    userns: [
      ['userns', user.uid, user.gid],
      ['image_extracted', -1, path, offset, size, directory],
    ],
  });

  test(`${user.name}: an image is extracted once and used by all`, async () => {
    const store = ownDirectory(user);
    const directory = join(store, 'a/b/key');
    const children = Array.from({ length: 8 }, () => startPayload(extracted(directory), 'cat /etc/hello , exit 6'));
    assert.equal(await Promise.all(children.map(async (child) => (await once(child, 'exit'))[0])), Array(8).fill(6));
    assert.equal(readdirSync(join(store, 'a/b')), ['key', 'key.lock']);
    const inode = lstatSync(directory).ino;
    assert.is(
      output(extracted(directory, embedded, 8192), 'cat /link , stat /closed'),
      `from the image\n/closed 040555 ${user.uid} ${user.gid} 4096\n`,
    );
    assert.is(lstatSync(directory).ino, inode);
    assert.is(lstatSync(store).mode & 0o777, 0o700);
    assert.is(lstatSync(join(store, 'a')).mode & 0o777, 0o700);
  });

  test(`${user.name}: what an interrupted extraction left is removed by the next`, () => {
    const store = ownDirectory(user);
    const partial = join(store, 'key.partial');
    mkdirSync(join(partial, 'closed/deep'), { recursive: true });
    writeFileSync(join(partial, 'closed/deep/file'), 'x');
    for (const path of [partial, join(partial, 'closed'), join(partial, 'closed/deep'), join(partial, 'closed/deep/file')])
      if (isRoot) chownSync(path, user.uid, user.gid);
    chmodSync(join(partial, 'closed'), 0o000);
    assert.is(output(extracted(join(store, 'key')), 'cat /link , exists /closed/deep'), 'from the image\n/closed/deep ENOENT\n');
    assert.equal(readdirSync(store), ['key', 'key.lock']);
  });

  test(`${user.name}: a broken image leaves nothing`, () => {
    const store = ownDirectory(user);
    const cut = join(scratchDirectory(), 'cut');
    writeFileSync(cut, readFileSync(image).subarray(0, size >> 1));
    const result = payload(extracted(join(store, 'key'), cut), 'true');
    assert.is(result.status, 125);
    assert.equal(readdirSync(store), ['key.lock']);
  });
}

test('a directory under somebody else’s control is refused', () => {
  if (!isRoot) return skip('needs root to make files of another user');
  const run = (directory: string): string =>
    payload(
      {
        userns: [
          ['userns', ordinary.uid, ordinary.gid],
          ['image_extracted', -1, image, 0, size, directory],
        ],
      },
      'true',
    ).err;
  const other = scratchDirectory();
  chownSync(other, 12345, 12345);
  chmodSync(other, 0o777);
  assert.match(run(join(other, 'key')), /belongs to user 12345: Operation not permitted/);
  const open = ownDirectory(ordinary);
  chmodSync(open, 0o777);
  assert.match(run(join(open, 'key')), /can be written by others: Operation not permitted/);
  const sticky = scratchDirectory();
  chmodSync(sticky, 0o1777);
  mkdirSync(join(sticky, 'key'));
  chownSync(join(sticky, 'key'), 12345, 12345);
  assert.match(run(join(sticky, 'key')), /key belongs to user 12345/);
  const linked = ownDirectory(ordinary);
  symlinkSync('/etc', join(linked, 'key'));
  assert.match(run(join(linked, 'key')), /Not a directory/);
  writeFileSync(join(linked, 'k2.lock'), '');
  assert.match(run(join(linked, 'k2')), /k2/);
});

test('files of the image that belong to others on the host are readable as their modes say', () => {
  if (!isRoot) return skip('needs root to make files of another user');
  // The image directory belongs to root; the run's user namespace does not know root.
  const setup: Setup = { image: tree, user: ordinary, mounts: [['bind', place, '/closed/new', '']] };
  assert.match(output(setup, 'ls /closed/new'), /embedded/);
  assert.is(payload({ ...setup, user: root }, 'cat /link').out, 'from the image\n');
  assert.ok(helperProgram('payload'));
});

test.run();
