import { closeSync, mkdirSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  encodePlan,
  makeImage,
  makePlan,
  type Op,
  ordinary,
  output,
  payload,
  runBytes,
  type Setup,
  scratchDirectory,
  tsrun,
  users,
} from './helpers.ts';

const test = suite('launcher: every op');
const image = makeImage('proc', 'tmp', 'etc', 'dev', 'data');
writeFileSync(join(image, 'etc/passwd'), 'image\n');
const source = scratchDirectory();
writeFileSync(join(source, 'file'), 'content\n');
mkdirSync(join(source, 'sub'));

for (const user of users) {
  const setup: Setup = { image, user };

  test(`${user.name}: the payload sees the image as / and its own ids`, () => {
    assert.is(output(setup, 'ls / , ids , cwd'), `bin data dev etc proc tmp \nuid ${user.uid} gid ${user.gid}\n/\n`);
  });

  test(`${user.name}: the host's tree is gone, also by ..`, () => {
    assert.is(output(setup, 'ls /.. , ls ../../..'), 'bin data dev etc proc tmp \n'.repeat(2));
    const mounts = output({ ...setup, unshare: 'mount,pid', mounts: [['proc', '/proc']] }, 'cat /proc/self/mountinfo')
      .trim()
      .split('\n');
    assert.equal(
      mounts.map((line) => line.split(' ')[4]),
      ['/', '/proc'],
    );
  });

  test(`${user.name}: the root is read-only, nosuid, nodev`, () => {
    assert.is(
      output(setup, 'write /etc/passwd x , mkdir /new , unlink /bin/payload'),
      'write: /etc/passwd: EROFS\nmkdir: /new: EROFS\nunlink: /bin/payload: EROFS\n',
    );
    assert.match(output(setup, 'flags /'), /^\/ ro nosuid nodev size/);
  });

  test(`${user.name}: content is made in the skeleton and hides the image's`, () => {
    const skeleton: readonly Op[] = [
      ['file', '/etc/passwd', 0o640, 'mine\n'],
      ['file', '/etc/empty', 0o400, ''],
      ['directory', '/opt/site/modules', 0o1770],
      ['symlink', '/etc/link', 'passwd'],
    ];
    assert.is(output({ ...setup, skeleton }, 'cat /etc/link , readlink /etc/link'), 'mine\npasswd\n');
    assert.is(
      output({ ...setup, skeleton }, 'stat /etc/passwd /etc/empty /opt/site /opt/site/modules'),
      [
        `/etc/passwd 100640 ${user.uid} ${user.gid} 5`,
        `/etc/empty 100400 ${user.uid} ${user.gid} 0`,
        `/opt/site 040755 ${user.uid} ${user.gid} 60`,
        `/opt/site/modules 041770 ${user.uid} ${user.gid} 40\n`,
      ].join('\n'),
    );
  });

  test(`${user.name}: content keeps any byte but NUL`, () => {
    const content = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1));
    assert.is(output({ ...setup, skeleton: [['file', '/etc/bytes', 0o644, content]] }, 'cat /etc/bytes'), content.toString('latin1'));
  });

  test(`${user.name}: bind shows files and directories, nosuid and nodev`, () => {
    const mounts: readonly Op[] = [
      ['bind', source, '/data', ''],
      ['bind', join(source, 'file'), '/etc/passwd', 'ro'],
    ];
    assert.is(output({ ...setup, mounts }, 'ls /data , cat /etc/passwd'), 'file sub \ncontent\n');
    assert.match(output({ ...setup, mounts }, 'flags /data'), /^\/data rw nosuid nodev/);
    assert.is(output({ ...setup, mounts }, 'write /etc/passwd x'), 'write: /etc/passwd: EROFS\n');
  });

  test(`${user.name}: ro and recursive reach the mounts below`, () => {
    const mounts: readonly Op[] = [['bind', '/dev', '/data', 'ro,recursive,dev']];
    assert.match(output({ ...setup, mounts }, 'flags /data /data/shm'), /^\/data ro nosuid size.*\n\/data\/shm ro nosuid( nodev)? size/);
    assert.is(output({ ...setup, mounts }, 'write /data/shm/x y'), 'write: /data/shm/x: EROFS\n');
  });

  test(`${user.name}: devices work only with dev`, () => {
    assert.is(output({ ...setup, mounts: [['bind', '/dev', '/dev', 'recursive,dev']] }, 'write /dev/null x'), 'written\n');
    assert.is(output({ ...setup, mounts: [['bind', '/dev', '/dev', 'recursive']] }, 'write /dev/null x'), 'write: /dev/null: EACCES\n');
  });

  test(`${user.name}: the host's root can be bound whole, without the launcher's own mounts in it`, () => {
    const out = output(
      { ...setup, mounts: [['bind', '/', '/data', 'recursive,ro']] },
      `exists /data${image}/bin /data/skeleton /data/scratch /data/root/.image`,
    );
    assert.match(out, /^\/data\S+ yes\n\/data\/skeleton ENOENT\n/);
  });

  test(`${user.name}: an optional bind is left out when its source is not there`, () => {
    const mounts: readonly Op[] = [
      ['bind', '/no/such/place', '/data', 'optional'],
      ['bind', join(source, 'file', 'x'), '/data', 'optional'],
    ];
    assert.is(output({ ...setup, mounts }, 'ls /data'), '\n');
    const result = payload({ ...setup, mounts: [['bind', '/no/such/place', '/data', '']] }, 'true');
    assert.is(result.status, 125);
    assert.is(result.err, 'tsrun: cannot find the source: /no/such/place: No such file or directory (E_LAUNCH)\n');
  });

  test(`${user.name}: the working directory is bound by itself, not by its path`, () => {
    const mounts: readonly Op[] = [['bind_cwd', '/data', '']];
    assert.is(output({ ...setup, mounts, cwd: source, settle: [['chdir', '/data']] }, 'cwd , ls .'), '/data\nfile sub \n');
  });

  test(`${user.name}: a removed working directory gets an error that says so, or is left out`, () => {
    const gone = join(scratchDirectory(), 'gone');
    mkdirSync(gone);
    const wrapper = ['sh', '-c', `cd ${gone} && rmdir ${gone} && exec "$@"`, 'sh'];
    // The directory is removed by root, before the launcher starts as the user.
    const drop = user.uid === 0 ? [] : ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
    const run = (flags: string): ReturnType<typeof runBytes> => {
      mkdirSync(gone, { recursive: true });
      return runBytes(encodePlan(makePlan({ ...setup, mounts: [['bind_cwd', '/data', flags]] }, ['payload', 'cwd'])), {
        user: { name: 'root', uid: 0, gid: 0 },
        wrapper: [...wrapper, ...drop],
      });
    };
    if (process.getuid?.() === 0) {
      const refused = run('');
      assert.is(refused.status, 125);
      assert.match(refused.err, /the working directory: it has been removed/);
      assert.equal(run('optional'), { status: 0, signal: null, out: '/\n', err: '' });
    }
    rmSync(gone, { recursive: true, force: true });
    const left = payload({ ...setup, cwd: source, mounts: [['bind_cwd', '/data', 'ro']] }, 'write /data/file x');
    assert.is(left.out, 'write: /data/file: EROFS\n');
  });

  test(`${user.name}: tmpfs has mode and size, and takes content after the root`, () => {
    const mounts: readonly Op[] = [
      ['tmpfs', '/tmp', 0o1777, 1 << 20],
      ['directory', '/tmp/a/b', 0o700],
      ['file', '/tmp/a/f', 0o600, 'text'],
      ['symlink', '/tmp/l', '/etc'],
      ['bind', source, '/tmp/a/b', 'ro'],
    ];
    assert.is(
      output({ ...setup, mounts }, 'ls /tmp , ls /tmp/a/b , cat /tmp/a/f , echo . , write /tmp/x y , flags /tmp'),
      'a l \nfile sub \ntext.\nwritten\n/tmp rw nosuid nodev size 1048576\n',
    );
    assert.match(output({ ...setup, mounts }, 'stat /tmp /tmp/a/b/file'), /^\/tmp 041777 /);
  });

  test(`${user.name}: content after the root cannot be made on the read-only root`, () => {
    const result = payload({ ...setup, mounts: [['file', '/etc/late', 0o644, 'x']] }, 'true');
    assert.is(result.status, 125);
    assert.match(result.err, /\/etc\/late: Read-only file system/);
  });

  test(`${user.name}: a writable root takes writes that nobody else sees, up to its size`, () => {
    const writable: Setup = { ...setup, root: ['root', 'writable', 1 << 20], user };
    assert.is(output(writable, 'write /new x , exists /new , flags /'), 'written\n/new yes\n/ rw nosuid nodev size 1048576\n');
    assert.is(output(setup, 'exists /new'), '/new ENOENT\n');
  });

  test(`${user.name}: proc, sysfs, devpts and mqueue are the run's own`, () => {
    const own: Setup = {
      ...setup,
      unshare: 'mount,pid,ipc,uts,net',
      mounts: [
        ['proc', '/proc'],
        ['sysfs', '/sys'],
        ['tmpfs', '/dev', 0o755, 65536],
        ['directory', '/dev/pts', 0o755],
        ['devpts', '/dev/pts'],
        ['directory', '/dev/mqueue', 0o755],
        ['mqueue', '/dev/mqueue'],
      ],
      settle: [['hostname', 'box.example']],
    };
    assert.is(
      output(own, 'pids , ps , hostname , ls /sys/class/net , ls /dev/pts'),
      'pid 2 ppid 1 pgid 0 sid 0\nliving 2 zombies 0\nbox.example\nlo \nptmx \n',
    );
    assert.is.not(hostname(), 'box.example');
  });

  test(`${user.name}: no_new_privs is set when asked`, () => {
    assert.is(output(setup, 'nnp'), 'no_new_privs 0\n');
    assert.is(output({ ...setup, settle: [['no_new_privs']] }, 'nnp'), 'no_new_privs 1\n');
  });

  test(`${user.name}: a notice is one line on stderr, and only when all went well before it`, () => {
    const said = payload({ ...setup, settle: [['notice', 'variables were left out']] }, 'true');
    assert.equal([said.status, said.err], [0, 'variables were left out\n']);
    const unsaid = payload(
      {
        ...setup,
        settle: [
          ['chdir', '/none'],
          ['notice', 'variables were left out'],
        ],
      },
      'true',
    );
    assert.equal([unsaid.status, unsaid.err], [125, 'tsrun: cannot enter the directory: /none: No such file or directory (E_LAUNCH)\n']);
  });

  test(`${user.name}: environment and arguments are exactly those of the plan`, () => {
    const args = ['payload', 'env', ',', 'echo', '', 'a b', '$HOME', '\xff\n'];
    const env: readonly Op[] = [
      ['env', 'A='],
      ['env', 'A=again'],
      ['env', Buffer.from('B=\xff\n=', 'latin1')],
    ];
    const ops = makePlan(setup, []).slice(0, -1);
    const bytes = encodePlan([...ops, ...env, ...args.map((each): Op => ['arg', Buffer.from(each, 'latin1')]), ['exec', '/bin/payload']]);
    assert.equal(runBytes(bytes, setup), { status: 0, signal: null, out: 'A=\nA=again\nB=\xff\n=\n\na b\n$HOME\n\xff\n\n', err: '' });
  });
}

test('an answer that is no plan is printed, with its status', () => {
  const text = (...strings: readonly (string | number)[]) => Buffer.from(`${strings.join('\0')}\0`);
  assert.equal(runBytes(text('print', 'hello\n', 0)), { status: 0, signal: null, out: 'hello\n', err: '' });
  assert.equal(runBytes(text('fail', 'no\n', 77)), { status: 77, signal: null, out: '', err: 'no\n' });
});

test('what is no answer at all is refused', () => {
  const result = runBytes(Buffer.from('plan\x004\0launch\0end\0'));
  assert.equal([result.status, result.err], [125, "tsrun: cannot read the plan: op 0: unknown op 'launch': Protocol error (E_PLAN)\n"]);
});

test('a source that is a link is bound as what it points to', () => {
  const link = join(scratchDirectory(), 'link');
  symlinkSync(source, link);
  assert.is(output({ image, user: ordinary, mounts: [['bind', link, '/data', '']] }, 'ls /data'), 'file sub \n');
});

test('a run inside a run, three deep', () => {
  // The second takes the first one's root, with the mounts in it, for its image: no overlay can be made of that.
  const inside = (depth: number): Buffer => {
    if (depth === 0)
      return encodePlan(makePlan({ image, unshare: 'mount,pid', mounts: [['proc', '/proc']] }, ['payload', 'ls', '/', ',', 'pids']));
    const mounts: readonly Op[] = [
      ['bind', '/proc', '/proc', 'recursive'],
      ['bind', '/tmp', '/tmp', 'recursive'],
      ['bind', depth === 2 ? tsrun : '/tsrun', '/tsrun', ''],
    ];
    return encodePlan(makePlan({ image: depth === 2 ? image : '/', mounts, file: '/tsrun' }, ['tsrun', '@plan', String(6 - depth)]));
  };
  const fds = [1, 0].map((depth) => {
    const path = join(scratchDirectory(), 'plan');
    writeFileSync(path, inside(depth));
    return openSync(path, 'r');
  });
  const result = runBytes(inside(2), { fds });
  for (const fd of fds) closeSync(fd);
  assert.equal(result, { status: 0, signal: null, out: 'bin data dev etc proc tmp \npid 2 ppid 1 pgid 0 sid 0\n', err: '' });
});

test('three hundred binds', () => {
  const mounts = Array.from({ length: 300 }, (_, i): Op => ['bind', source, `/many/${i}`, 'ro']);
  assert.is(output({ image, mounts }, 'ls /many/0 , ls /many/299'), 'file sub \n'.repeat(2));
});

test.run();
