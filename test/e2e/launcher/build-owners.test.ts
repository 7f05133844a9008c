/** Root inside without root outside: what only root may do to files is recorded on them. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { outputOf, ownImage, several, shell, startBytes, uppers } from './build-helpers.ts';
import { encodePlan, helperProgram, makePlan, type Op, type Setup, scratchDirectory, users } from './helpers.ts';

const test = suite('launcher: owners');

const recordOf = (path: string): string =>
  execFileSync('getfattr', ['-h', '--absolute-names', '--only-values', '-n', 'user.tsrun.owner', path], { encoding: 'latin1' });
const hasNoRecord = (path: string): boolean =>
  execFileSync('getfattr', ['-h', '--absolute-names', '-d', '-m', 'user.tsrun', path], { encoding: 'latin1' }) === '';
/** The records of a table, without what they are of. */
const tableOf = (path: string): string[] =>
  readFileSync(path, 'latin1')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(' ').slice(3).join(' '));

for (const user of users) {
  const image = ownImage(user);
  const step = (...layers: readonly Op[]) => {
    const { upper, op, place } = uppers(user);
    const table = join(place, 'table');
    const setup: Setup = {
      user,
      userns: [['userns', 0, 0], ['image_directory', image], ...layers, op],
      settle: [['owners', table, '']],
    };
    return { upper, table, setup };
  };

  test(`${user.name}: owners are written on files and directories, what stat shows stays`, () => {
    const { upper, table, setup } = step();
    const out = outputOf(
      setup,
      'mkdir /a; touch /a/f /a/g; chown 33:34 /a/f; chown 5 /a; calls chown /a/g -1 7 , chown /a/g 6 -1; chown 0:0 /etc/passwd; stat -c "%u:%g" /a /a/f',
    );
    assert.is(out, 'chown: 0\nchown: 0\n0:0\n0:0\n');
    assert.is(recordOf(join(upper, 'a')), '5:0');
    assert.is(recordOf(join(upper, 'a/f')), '33:34');
    assert.is(recordOf(join(upper, 'a/g')), '6:7');
    assert.ok(hasNoRecord(join(upper, 'etc/passwd')));
    assert.is(readFileSync(table, 'latin1'), '');
  });

  test(`${user.name}: owners of links and pipes are in the table, also of a lower layer's links`, () => {
    const first = step();
    outputOf(first.setup, 'ln -s x /link; ln -s y /etc/other; mkdir -p /d/e; touch /d/e/f; ln -s f /d/e/l');
    const { upper, table, setup } = step(['layer', first.upper]);
    outputOf(setup, 'chown -h 5:6 /link; mkfifo /p; chown 8:9 /p; chown -R 3:4 /d; mv /link /moved; calls lchown /moved 7 -1');
    assert.equal(tableOf(table).sort(), ['3:4', '5:6', '7:6', '8:9']);
    assert.is(recordOf(join(upper, 'd/e/f')), '3:4');
    // Every key is that of a file in upper.
    const inodes = execFileSync('find', [upper, '-type', 'l', '-o', '-type', 'p'], { encoding: 'latin1' }).trim().split('\n');
    const known = new Set(inodes.map((path) => execFileSync('stat', ['-c', '%d %i', path], { encoding: 'latin1' }).trim()));
    for (const line of readFileSync(table, 'latin1').trim().split('\n')) assert.ok(known.has(line.split(' ').slice(0, 2).join(' ')), line);
  });

  test(`${user.name}: where there are no user xattrs everything is in the table`, () => {
    const { table, setup } = step();
    const script =
      'mkdir /mnt; mount -t ramfs none /mnt; mkdir /mnt/d; touch /mnt/f; chown 5:6 /mnt/d; chown 7:8 /mnt/f; calls chown /mnt/f -1 9; mknod /mnt/n c 1 3';
    assert.is(outputOf(setup, script), 'chown: 0\n');
    assert.equal(tableOf(table), ['5:6', '7:8', '7:9', '0:0 c 1:3']);
  });

  test(`${user.name}: a table is read again by the next step`, () => {
    const first = step();
    outputOf(first.setup, 'mkfifo /p; chown 8:9 /p; calls chown /p -1 10');
    assert.equal(tableOf(first.table), ['8:9', '8:10']);
    writeFileSync(first.table, 'nonsense\n', { flag: 'a' });
    const broken = shell({ ...first.setup, userns: [['userns', 0, 0], ['image_directory', image], uppers(user).op] }, 'echo not reached');
    assert.is(broken.status, 125);
    assert.is(broken.out, '');
    assert.match(broken.err, /cannot read the table of owners: \S+table: line 3 is none/);
  });

  test(`${user.name}: chown clears set-id bits and capabilities as the kernel does`, () => {
    const { upper, setup } = step();
    assert.is(
      outputOf(
        setup,
        'touch /a /b; chmod 6755 /a /b; chown 33 /a; chown 0:0 /b; mkdir /d; chmod 2755 /d; chown 5 /d; stat -c %a /a /b /d; chmod 4711 /a; stat -c %a /a',
      ),
      '755\n755\n2755\n4711\n',
    );
    assert.is(recordOf(join(upper, 'a')), '33:0');
  });

  test(`${user.name}: the kernel's errors stay`, () => {
    const { setup } = step();
    const result = shell(
      {
        ...setup,
        mounts: [
          ['proc', '/proc'],
          ['bind', image, '/mnt', 'ro'],
        ],
      },
      'set +e; chown 1 /none; chown 1 /etc/passwd/x; ln -s self /self; ln -s loop /loop; chown 1 /loop; chown 1 /mnt/etc/passwd; mknod /bin/sh c 1 3; mknod /none/x b 1 2; chown 1 /etc/',
    );
    assert.is(
      result.err,
      [
        'chown: /none: No such file or directory',
        'chown: /etc/passwd/x: Not a directory',
        'chown: /loop: Too many levels of symbolic links',
        'chown: /mnt/etc/passwd: Read-only file system',
        'mknod: /bin/sh: File exists',
        'mknod: /none/x: No such file or directory',
        '',
      ].join('\n'),
    );
  });

  test(`${user.name}: devices become empty files with a record`, () => {
    const { upper, setup } = step();
    assert.is(
      outputOf(
        setup,
        'umask 027; mknod /null c 1 3; mknod -m 600 /disk b 259 70000; mkfifo /pipe; stat -c "%F %a" /null /disk /pipe; chown 0:6 /disk',
      ),
      'regular empty file 640\nregular empty file 600\nfifo 640\n',
    );
    assert.is(recordOf(join(upper, 'null')), '0:0 c 1:3');
    assert.is(recordOf(join(upper, 'disk')), '0:6 b 259:70000');
  });

  for (const bits of process.arch === 'x64' ? [64, 32] : [64]) {
    test(`${user.name}: every call of a program of ${bits} bits`, () => {
      const { upper, table, setup } = step();
      const own = join(image, `bin/calls${bits}`);
      copyFileSync(helperProgram('calls', ...(bits === 32 ? ['-DCALLS_OF_32_BITS'] : [])), own);
      chmodSync(own, 0o755);
      const wide = bits === 32 ? '32' : '';
      const script = [
        'mkdir -p /d/e; cd /d; touch a b c e/f g h; ln -s a l; ln -s a m; ln -s a n; mkdir new',
        `calls${bits} chown${wide} a 70001 2 , lchown${wide} l 3 70004 , fchown${wide} '<b' 5 6 , chown${wide} l 7 -1`,
        `calls${bits} fchownat '<e' f 8 9 0 , fchownat -100 m 10 11 0x100 , fchownat =n '' 12 13 0x1000 , fchownat '<c' 0 14 15 0x1000 , fchownat -100 c 1 1 0x4 , fchownat '<c' f 1 1 0 , fchownat 99 f 1 1 0 , fchownat 99 /d/g 16 17 0`,
        `calls${bits} fchown 99 1 1 , chown '' 1 1 , chown 1 1 1`,
        `calls${bits} mknod dev 0x2180 0x103 , mknodat '<e' block 0x61a4 0x10010 , mknod plain 0x81a4 0 , mknod nodir/x 0x2180 1`,
        `calls${bits} setuid 1 , setgid 1 , setreuid 1 1 , setregid 1 1 , setgroups 1 a , setresuid 1 1 1 , setresgid 1 1 1 , setfsuid 1 , setfsgid 1`,
        ...(wide === ''
          ? []
          : [
              `calls32 chown h 0xffff 0x8001 , setuid32 1 , setgid32 1 , setreuid32 1 1 , setregid32 1 1 , setgroups32 1 a , setresuid32 1 1 1 , setresgid32 1 1 1 , setfsuid32 1 , setfsgid32 1`,
            ]),
        `calls${bits} setxattr a user.mine v 1 0 , setxattr a user.mine v 1 1 , lsetxattr a trusted.t tt 2 0 , fsetxattr '<a' security.s sss 3 0 , fsetxattr '<a' security.s x 1 1 , removexattr a trusted.none , lremovexattr a trusted.t , fremovexattr '<a' user.mine , lsetxattr l trusted.t x 1 0 , setxattr a '' x 1 0`,
      ].join('\n');
      const lines = outputOf(setup, script).trim().split('\n');
      assert.equal(lines, [
        ...['chown', 'lchown', 'fchown', 'chown'].map((name) => `${name}${wide}: 0`),
        ...['0', '0', '0', '0', 'EINVAL', 'ENOTDIR', 'EBADF', '0'].map((result) => `fchownat: ${result}`),
        'fchown: EBADF',
        'chown: ENOENT',
        'chown: EFAULT',
        'mknod: 0',
        'mknodat: 0',
        'mknod: 0',
        'mknod: ENOENT',
        ...['setuid', 'setgid', 'setreuid', 'setregid', 'setgroups', 'setresuid', 'setresgid', 'setfsuid', 'setfsgid'].map(
          (name) => `${name}: 0`,
        ),
        ...(wide === ''
          ? []
          : [
              'chown',
              ...['setuid', 'setgid', 'setreuid', 'setregid', 'setgroups', 'setresuid', 'setresgid', 'setfsuid', 'setfsgid'].map(
                (name) => `${name}32`,
              ),
            ].map((name) => `${name}: 0`)),
        'setxattr: 0',
        'setxattr: EEXIST',
        'lsetxattr: 0',
        'fsetxattr: 0',
        'fsetxattr: EEXIST',
        'removexattr: ENODATA',
        'lremovexattr: 0',
        'fremovexattr: 0',
        'lsetxattr: EPERM',
        'setxattr: ERANGE',
      ]);
      const records = Object.fromEntries(
        ['a', 'b', 'c', 'e/f', 'g', 'dev', 'e/block'].map((name) => [name, recordOf(join(upper, 'd', name))]),
      );
      assert.equal(records, { a: '7:2', b: '5:6', c: '14:15', 'e/f': '8:9', g: '16:17', dev: '0:0 c 1:3', 'e/block': '0:0 b 256:16' });
      if (wide !== '') assert.is(recordOf(join(upper, 'd/h')), '0:32769');
      assert.equal(tableOf(table), ['3:70004', '10:11', '12:13']);
      assert.is(
        execFileSync('getfattr', ['--absolute-names', '-d', '-m', 'user', join(upper, 'd/a')], { encoding: 'latin1' }).match(
          /user.tsrun.x.*/,
        )?.[0],
        'user.tsrun.x.security.s="sss"',
      );
    });
  }

  test(`${user.name}: no path leads out of the root, whatever changes while it is read`, () => {
    const outside = scratchDirectory();
    const victim = join(outside, 'victim');
    writeFileSync(victim, '');
    execFileSync('chown', ['-R', `${user.uid}:${user.gid}`, outside]);
    const { setup } = step();
    const script = [
      `ln -s ${victim} /abs; ln -s ../../../../../../../..${victim} /rel; ln -s / /root`,
      `calls chown /abs 5 5 , chown /rel 5 5 , chown ${victim} 5 5 , chown /root${victim} 5 5 , chown /proc/self/fd/0/../..${victim} 5 5 , chown /proc/self/root/..${victim} 5 5 , chown /proc/self/fd/../../..${victim} 5 5`,
      `mkdir -p /in/etc; ln -s ${victim} /in/etc/abs; calls chroot /in , chown /etc/abs 5 5 , chown /../../etc/abs 5 5 , lchown /etc/abs 5 6`,
    ].join('\n');
    const out = outputOf({ ...setup, mounts: [['proc', '/proc']] }, script)
      .trim()
      .split('\n');
    assert.equal(
      out,
      [
        ...Array.from({ length: 4 }, () => 'chown: ENOENT'),
        'chown: ENOTDIR',
        'chown: ENOENT',
        'chown: ENOENT',
        'chroot: 0',
        'chown: ENOENT',
        'chown: ENOENT',
        'lchown: 0',
      ].map((line, i) => (i === 4 ? (out[4] ?? line) : line)),
    );
    assert.match(out[4] ?? '', /^chown: E(NOENT|NOTDIR|ACCES)$/);
    const raced = outputOf(step().setup, `calls-race /a ${victim} 3000`);
    assert.match(raced, /^\d+ of 3000 calls$/m);
    assert.ok(hasNoRecord(victim));
  });

  test(`${user.name}: ten thousand chowns, from several processes at once`, () => {
    const { upper, setup } = step();
    outputOf(
      { ...setup, mounts: [['bind', '/dev', '/dev', 'recursive,dev']] },
      'mkdir /d; cd /d; seq 10000 | xargs touch; for i in 1 2 3 4; do find . -name "*$i" | xargs chown $i:$i & done; wait; find . -name "*[5-90]" | xargs chown 9:9',
    );
    const records = execFileSync('getfattr', ['--absolute-names', '-R', '-d', '-m', 'user.tsrun', join(upper, 'd')], {
      encoding: 'latin1',
      maxBuffer: 1 << 26,
    });
    assert.is(records.match(/owner="9:9"/g)?.length, 6000);
    for (const i of [1, 2, 3, 4]) assert.is(records.match(new RegExp(`owner="${i}:${i}"`, 'g'))?.length, 1000);
  });

  test(`${user.name}: the launcher's end in the middle leaves no process`, async () => {
    const { setup } = step();
    const marker = `marker${process.pid}${user.uid}`;
    const plan = makePlan({ unshare: 'mount,pid', env: ['PATH=/bin'], file: '/bin/sh', ...setup }, [
      'sh',
      '-c',
      `touch /f; echo ready; while :; do chown 5 /f; chown 6 /f; done # ${marker}`,
    ]);
    const child = startBytes(encodePlan(plan), user);
    await once(child.stdout as Readable, 'data');
    const ended = Promise.all([once(child, 'exit'), once(child.stdout as Readable, 'close')]);
    child.kill('SIGKILL');
    await ended;
    assert.not.match(execFileSync('ps', ['-eo', 'args'], { encoding: 'latin1' }), new RegExp(marker));
  });

  test(`${user.name}: signals and the exit status pass as without it`, () => {
    assert.is(shell(step().setup, 'chown 5 /etc/passwd; exit 7').status, 7);
    assert.is(shell(step().setup, 'chown 5 /etc/passwd; kill -TERM $$').signal, 'SIGTERM');
  });

  test(`${user.name}: without a notifier everything is said to have worked, and belongs to root`, () => {
    const { upper, table, setup } = step();
    const result = shell(
      { ...setup, wrapper: [helperProgram('deny'), 'ENOSYS', 'seccomp', '--'] },
      'touch /a; chown 33:34 /a; calls mknod /dev 0x2180 0x103 , setgid 5 , setxattr /a user.x v 1 0; stat -c %u:%g /a',
    );
    assert.is(result.err, '');
    assert.is(result.out, 'mknod: 0\nsetgid: 0\nsetxattr: 0\n0:0\n');
    assert.ok(hasNoRecord(join(upper, 'a')));
    assert.is(readFileSync(table, 'latin1'), '');
  });

  test(`${user.name}: calls that other places refuse are not missed`, () => {
    const { upper, table, setup } = step();
    const refused = ['openat2', 'open_tree', 'move_mount', 'mount_setattr', 'close_range', 'process_vm_readv', 'fsconfig'];
    const wrapper = [helperProgram('deny'), 'ENOSYS', ...refused, '--'];
    assert.is(
      outputOf({ ...setup, wrapper }, 'touch /a; chown 33:34 /a; ln -s a /l; chown -h 5:6 /l; calls chown 1 1 1'),
      'chown: EFAULT\n',
    );
    assert.is(recordOf(join(upper, 'a')), '33:34');
    assert.equal(tableOf(table), ['5:6']);
  });

  test(`${user.name}: in several ids only devices are recorded`, () => {
    const { op, upper, place } = uppers(user);
    const setup: Setup = {
      user,
      userns: [several(user), ['image_directory', image], op],
      settle: [['owners', join(place, 'table'), 'devices']],
    };
    assert.is(
      outputOf(
        setup,
        'mknod /null c 1 3; chown 5:6 /null; stat -c %u:%g /null; touch /a; chown 33 /a; calls setresuid 33 33 33 , setresuid 0 0 0',
      ),
      '5:6\nsetresuid: 0\nsetresuid: EPERM\n',
    );
    assert.is(recordOf(join(upper, 'null')), '0:0 c 1:3');
    assert.ok(hasNoRecord(join(upper, 'a')));
  });

  test(`${user.name}: in a user namespace below ids are its own`, () => {
    const { upper, setup } = step();
    assert.is(
      outputOf({ ...setup, mounts: [['proc', '/proc']] }, 'touch /a /b; calls unshare 0x10000000 , chown /a 7 7 , chown /b -1 -1'),
      'unshare: 0\nchown: EINVAL\nchown: 0\n',
    );
    assert.ok(hasNoRecord(join(upper, 'a')));
  });
}

test.run();
