/** `tsrun @layer`: what steps have written becomes a layer, an image a directory with records, and nothing is left that cannot be removed. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { outputOf, ownedDirectory, ownImage, several, uppers } from './build-helpers.ts';
import { helperProgram, type Op, type Setup, tsrun, type User, users } from './helpers.ts';

const test = suite('tsrun @layer');
const isRoot = process.getuid?.() === 0;

/** The words of `-m` for the namespace that `several` gives. */
const mapped = (user: User): readonly string[] => ['-m', ...several(user).slice(1).map(String)];

const layer = (user: User, ...args: readonly string[]) =>
  spawnSync(tsrun, ['@layer', ...args], { uid: user.uid, gid: user.gid, cwd: '/', env: {}, maxBuffer: 1 << 28 });

const must = (user: User, ...args: readonly string[]): Buffer => {
  const done = layer(user, ...args);
  assert.is(done.stderr.toString(), '');
  assert.is(done.status, 0);
  return done.stdout;
};

/** "MODE UID/GID PATH", the size or device for files and devices, as GNU tar reads it. */
const listing = (archive: Buffer): string[] =>
  execFileSync('tar', ['-tv', '--numeric-owner', '--full-time', '-f', '-'], { input: archive, encoding: 'latin1' })
    .trim()
    .split('\n')
    .map((line) => line.replace(/ +/g, ' ').split(' '))
    .map(([mode, owner, size, , , ...name]) => `${mode} ${owner} ${size} ${name.join(' ')}`);

const step = (user: User, base: Op, ...layers: readonly Op[]) => {
  const { upper, op, place } = uppers(user);
  const table = join(place, 'table');
  const setup: Setup = { user, userns: [['userns', 0, 0], base, ...layers, op], settle: [['owners', table, '']] };
  return { upper, table, setup, place };
};

for (const user of users) {
  test(`${user.name}: the table at the top of a directory counts and is not archived; what is none is refused`, () => {
    const directory = ownedDirectory(user);
    const as = { uid: user.uid, gid: user.gid };
    const shell = (command: string): string => execFileSync('/bin/sh', ['-ec', command], { cwd: directory, encoding: 'latin1', ...as });
    shell('ln -s x link; ln -s x roots; mkdir sub; echo x > sub/.tsrun-owners');
    const { dev, ino, birthtimeNs } = lstatSync(join(directory, 'link'), { bigint: true });
    shell(`echo "${dev} ${ino} ${birthtimeNs / 1_000_000_000n}.${birthtimeNs % 1_000_000_000n} 5:6" > .tsrun-owners`);
    assert.equal(
      listing(must(user, 'tar', directory)).map((line) => line.replace(/^\S+ /, '')),
      ['0/0 0 ./', '5/6 0 ./link -> x', '0/0 0 ./roots -> x', '0/0 0 ./sub/', '0/0 2 ./sub/.tsrun-owners'],
    );
    for (const bad of ['echo no >', 'ln -s link', 'mkfifo']) {
      shell(`rm .tsrun-owners; ${bad} .tsrun-owners`);
      const refused = layer(user, 'tar', directory);
      assert.is(refused.status, 1, bad);
      assert.match(refused.stderr.toString(), /table of owners/, bad);
    }
  });

  const image = ownImage(user);
  const base: Op = ['image_directory', image];

  test(`${user.name}: an upper directory becomes a layer, with the recorded owners and devices`, () => {
    const { upper, table, setup } = step(user, base);
    const script = [
      'rm -r /gone /etc/passwd; rm -r /data; mkdir /data; touch -d @1700000000 /data/new; chown 33:34 /data/new; chmod 4750 /data/new',
      'ln -s new /data/link; chown -h 5:6 /data/link; ln /data/new /data/same; mknod /data/null c 1 3; chown 0:7 /data/null; mknod -m 660 /data/disk b 259 70000',
      'mkfifo /data/pipe; chown 8:9 /data/pipe; mkdir -p /data/closed/in; echo x > /data/closed/in/file; chmod 0 /data/closed/in/file /data/closed/in /data/closed; chown 1234567 /data/closed',
      `calls setxattr /data/new trusted.mine v 1 0 , setxattr /data/new user.own w 1 0 >/res`,
    ].join('\n');
    assert.is(outputOf(setup, script), '');
    const archive = must(user, 'tar', upper, table);
    assert.equal(listing(archive), [
      'drwxr-xr-x 0/0 0 ./',
      'drwxr-xr-x 0/0 0 ./data/',
      '---------- 0/0 0 ./data/.wh..wh..opq',
      'd--------- 1234567/0 0 ./data/closed/',
      'd--------- 0/0 0 ./data/closed/in/',
      '---------- 0/0 2 ./data/closed/in/file',
      'brw-rw---- 0/0 259,70000 ./data/disk',
      'lrwxrwxrwx 5/6 0 ./data/link -> new',
      '-rwsr-x--- 33/34 0 ./data/new',
      'crw-r--r-- 0/7 1,3 ./data/null',
      'prw-r--r-- 8/9 0 ./data/pipe',
      'hrwsr-x--- 33/34 0 ./data/same link to ./data/new',
      'drwxr-x--x 0/0 0 ./etc/',
      '---------- 0/0 0 ./etc/.wh.passwd',
      '---------- 0/0 0 ./.wh.gone',
      '-rw-r--r-- 0/0 24 ./res',
    ]);
    const headers = [...archive.toString('latin1').matchAll(/\d+ (SCHILY\.xattr\.[^=]*)=/g)].map(([, name]) => name);
    assert.equal(headers.sort(), ['SCHILY.xattr.trusted.mine', 'SCHILY.xattr.user.own']);
    assert.ok(archive.equals(must(user, 'tar', upper, table)), 'the same twice');
  });

  test(`${user.name}: a tree is removed whatever its modes and depth, links are not followed`, () => {
    const { upper, setup, place } = step(user, base);
    const kept = join(place, 'kept');
    writeFileSync(kept, '');
    outputOf(
      setup,
      'mkdir /top; cd /top; i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done; touch f; cd /top; mkdir -p a/b; touch a/b/c; chmod 0 a/b/c a/b a; ln -s / /top/root',
    );
    execFileSync('ln', ['-s', place, join(upper, 'top/out')]);
    must(user, 'remove', upper, join(place, 'work'), join(place, 'never was'));
    assert.equal(readdirSync(place).sort(), ['kept', 'table']);
    must(user, 'remove', kept);
    assert.not(existsSync(kept));
  });

  test(`${user.name}: what cannot be removed is named`, () => {
    const done = layer(user, 'remove', '/proc/self/status');
    assert.is(done.status, 1);
    assert.match(done.stderr.toString(), /^tsrun: cannot remove the tree: \/proc\/self\/status: /);
  });

  test(`${user.name}: an image is unpacked with its owners as records, or as real ones, and archived as it was`, () => {
    const place = ownedDirectory(user);
    const squash = join(place, 'image.sqfs');
    const rows = [
      '/ d 755 0 0',
      'dir d 2770 33 34',
      'dir/file f 4755 1000 1001 echo content',
      'closed f 0 5 6 echo closed',
      'null c 666 0 7 1 3',
      'fifo i 600 8 9 f',
      'link s 777 65000 11 dir/file',
    ];
    execFileSync(
      'mksquashfs',
      ['-', squash, '-noappend', '-quiet', '-no-progress', '-p', rows[0] ?? '', ...rows.slice(1).flatMap((row) => ['-p', row])],
      { input: '', stdio: ['pipe', 'ignore', 'pipe'], cwd: place },
    );
    const archives = [[], mapped(user)].map((words, i) => {
      const to = join(place, `to${i}`);
      must(user, ...words, 'unpack', squash, '0', '0', to, join(place, `table${i}`));
      const archive = must(user, ...words, 'tar', to, join(place, `table${i}`));
      must(user, ...words, 'remove', to);
      return archive;
    });
    assert.equal(
      listing(archives[0] as Buffer).map((line) => line.replace(/ \d+ \.\//, ' ./')),
      [
        'drwxr-xr-x 0/0 ./',
        '---------- 5/6 ./closed',
        'drwxrws--- 33/34 ./dir/',
        '-rwsr-xr-x 1000/1001 ./dir/file',
        'prw------- 8/9 ./fifo',
        'lrwxrwxrwx 65000/11 ./link -> dir/file',
        'crw-rw-rw- 0/7 1,3 ./null',
      ],
    );
    assert.ok(archives[0]?.equals(archives[1] as Buffer), 'both ways give the same bytes');
  });

  test(`${user.name}: an image's own records and marks of an overlay are not taken over`, () => {
    const place = ownedDirectory(user);
    const from = join(place, 'from');
    mkdirSync(join(from, 'd'), { recursive: true });
    writeFileSync(join(from, 'f'), '');
    execFileSync('setfattr', ['-n', 'user.tsrun.owner', '-v', '1:1', join(from, 'f')]);
    execFileSync('setfattr', ['-n', 'user.overlay.opaque', '-v', 'y', join(from, 'd')]);
    execFileSync('setfattr', ['-n', 'user.good', '-v', 'kept', join(from, 'f')]);
    execFileSync('mksquashfs', [from, join(place, 's'), '-noappend', '-quiet', '-no-progress', '-all-root'], { stdio: 'ignore' });
    must(user, 'unpack', join(place, 's'), '0', '0', join(place, 'to'), join(place, 'table'));
    const shown = execFileSync('getfattr', ['--absolute-names', '-R', '-d', '-m', '-', join(place, 'to')], { encoding: 'latin1' });
    assert.match(shown, /user\.good="kept"/);
    assert.not.match(shown, /user\.tsrun|user\.overlay/);
  });

  test(`${user.name}: a probe says what steps can use in a directory`, () => {
    const place = ownedDirectory(user);
    assert.is(must(user, 'probe', place).toString(), 'overlay\0yes\0xattrs\0yes\0notifier\0yes\0');
    assert.equal(readdirSync(place), []);
    const under = spawnSync(helperProgram('deny'), ['ENOSYS', 'seccomp', '--', tsrun, '@layer', 'probe', place], {
      uid: user.uid,
      gid: user.gid,
      encoding: 'latin1',
    });
    assert.match(under.stdout, /notifier\0Function not implemented\0$/);
    const nowhere = layer(user, 'probe', '/proc');
    assert.is(nowhere.status, 1);
    assert.match(nowhere.stderr.toString(), /cannot try out the directory: \/proc: /);
  });
}

if (isRoot) {
  test('a mount in a tree that is removed stays as it is', () => {
    const user: User = { name: 'root', uid: 0, gid: 0 };
    const place = ownedDirectory(user);
    mkdirSync(join(place, 'tree/mounted'), { recursive: true });
    const script =
      'mount -t tmpfs none "$1/tree/mounted"; touch "$1/tree/mounted/file"; "$2" @layer remove "$1/tree"; echo $?; ls "$1/tree/mounted"; umount "$1/tree/mounted"';
    const done = spawnSync('unshare', ['-m', 'sh', '-c', script, 'sh', place, tsrun], { encoding: 'latin1' });
    assert.is(done.stdout, '1\nfile\n');
    assert.match(done.stderr, /something is mounted on mounted|Device or resource busy/);
  });
}

test('nothing is begun for a process that has ended, or is not the one that started it', () => {
  const place = ownedDirectory({ name: 'caller', uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });
  const remove = (parent: string) => spawnSync(tsrun, ['@layer', '-p', parent, 'remove', join(place, 'tree')], { encoding: 'latin1' });
  mkdirSync(join(place, 'tree'));
  assert.is(remove('1').status, 125);
  assert.ok(existsSync(join(place, 'tree')));
  assert.is(remove(String(process.pid)).status, 0);
  assert.not.ok(existsSync(join(place, 'tree')));
});

test('wrong arguments are told', () => {
  for (const args of [[], ['tar'], ['-m', 'tar'], ['-p', '1'], ['unpack', 'a'], ['probe'], ['other', 'x']]) {
    const done = spawnSync(tsrun, ['@layer', ...args], { encoding: 'latin1' });
    assert.is(done.status, 2, args.join(' '));
  }
});

test.run();
