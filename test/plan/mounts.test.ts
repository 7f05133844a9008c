import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isWithin } from '../../src/util/paths.ts';
import { closed, device, directory, link } from '../helpers/machine.ts';
import { codeOf, envOf, errorOf, fileAt, mountedAt, noticesOf, only, opsOf, planned } from '../helpers/planning.ts';

const test = suite('mounts');

test('by default /proc /sys /dev /tmp /var/tmp and the home are there', () => {
  const run = planned('exec IMG p');
  assert.is(mountedAt(run, '/proc'), '/proc recursive');
  assert.is(mountedAt(run, '/sys'), '/sys recursive,optional');
  assert.is(mountedAt(run, '/dev'), '/dev recursive,dev');
  assert.is(mountedAt(run, '/tmp'), '/tmp recursive,optional');
  assert.is(mountedAt(run, '/var/tmp'), '/var/tmp recursive,optional');
  assert.is(mountedAt(run, '/home/me'), '/home/me recursive');
});

test('mounts come parents first', () => {
  const run = planned('exec -B /a/b/c:/x/y/z,/a:/x IMG p', { files: { '/a/b/c/f': '' } });
  const targets = run.ops.flatMap((op) => (op.op === 'bind' ? [op.target] : []));
  assert.ok(targets.includes('/x/y/z') && targets.includes('/x'));
  targets.forEach((target, at) => {
    assert.not(
      targets.slice(at + 1).some((later) => isWithin(target, later)),
      target,
    );
  });
});

test('an image whose /var/tmp is a link to /tmp gets /tmp only', () => {
  for (const target of ['/tmp', '../tmp']) {
    const run = planned('exec IMG p', { facts: { tree: { '/tmp': 'd', '/var': 'd', '/var/tmp': `l${target}` } } });
    assert.is(mountedAt(run, '/var/tmp'), undefined, target);
    assert.ok(mountedAt(run, '/tmp'));
  }
});

test('a home through a symbolic link is there at both paths', () => {
  const run = planned('exec IMG p', {
    files: { '/u': link('/gpfs/u'), '/gpfs/u/me': directory(0o700, 1000) },
    env: { HOME: '/u/me' },
    cwd: '/gpfs/u/me',
  });
  assert.is(mountedAt(run, '/u/me'), '/u/me recursive');
  assert.is(mountedAt(run, '/gpfs/u/me'), '/gpfs/u/me recursive');
  assert.is(envOf(run)['HOME'], '/u/me');
});

test('without HOME the account says where the home is', () => {
  const files = { '/etc/passwd': 'me:x:1000:1000::/home/other:/bin/sh\n', '/home/other': directory() };
  assert.is(envOf(planned('exec IMG p', { env: { HOME: '' }, files, cwd: '/tmp' }))['HOME'], '/home/other');
  assert.is(envOf(planned('exec IMG p', { env: { HOME: 'relative' }, files, cwd: '/tmp' }))['HOME'], '/home/other');
});

test('a home that does not exist becomes an empty one in memory, with a line', () => {
  const run = planned('exec IMG p', { env: { HOME: '/nonexistent' }, cwd: '/tmp' });
  assert.is(mountedAt(run, '/nonexistent'), 'tmpfs');
  assert.match(noticesOf(run).join(), /home \/nonexistent is not there/);
});

test('a home that does not exist in a directory of the host stays as it is there, with a line', () => {
  const missing = (command: string, home: string) =>
    planned(command, { env: { HOME: home }, cwd: '/', files: { '/scratch': directory() } });
  for (const [command, home] of [
    ['exec IMG p', '/tmp/none/me'],
    ['exec -B /scratch IMG p', '/scratch/none/me'],
    ['exec -c -B /scratch IMG p', '/scratch/none/me'],
  ] as const) {
    const run = missing(command, home);
    assert.is(mountedAt(run, home), undefined, command);
    assert.match(noticesOf(run).join(), /home .* is not there$/);
  }
  assert.is(mountedAt(missing('exec -c IMG p', '/tmp/none/me'), '/tmp/none/me'), 'tmpfs');
});

test('the home / is not mounted', () => {
  const run = planned('exec IMG p', { env: { HOME: '/' }, cwd: '/tmp' });
  assert.is(mountedAt(run, '/'), undefined);
  assert.is(envOf(run)['HOME'], '/');
});

test("a home in a system directory does not hide the image's", () => {
  const run = planned('exec IMG p', { env: { HOME: '/usr/local' }, files: { '/usr/local/x': '' }, cwd: '/tmp' });
  assert.is(mountedAt(run, '/usr/local'), undefined);
});

test('--no-home leaves the home an empty directory', () => {
  const run = planned('exec --no-home IMG p', { cwd: '/tmp' });
  assert.is(mountedAt(run, '/home/me'), undefined);
  assert.equal(
    opsOf(run, 'directory').map((op) => op.target),
    ['/home/me'],
  );
});

test('--home SRC:DST is mounted at DST and HOME names it', () => {
  const run = planned('exec --home /data/h:/home/x IMG p', { files: { '/data/h/f': '' }, cwd: '/tmp' });
  assert.is(mountedAt(run, '/home/x'), '/data/h recursive');
  assert.is(mountedAt(run, '/home/me'), undefined);
  assert.is(envOf(run)['HOME'], '/home/x');
  assert.match(fileAt(run, '/etc/passwd') ?? '', /^me:x:1000:1000:Me Myself:\/home\/x:/m);
});

test('--home with a relative source starts at the current directory', () => {
  assert.is(mountedAt(planned('exec --home h IMG p', { files: { '/place/h/f': '' }, cwd: '/place' }), '/place/h'), '/place/h recursive');
});

test('--home that is missing or no directory is an error', () => {
  assert.match(
    errorOf(() => planned('exec --home /nope IMG p')),
    /cannot mount \/nope on \/nope: source does not exist/,
  );
  assert.match(
    errorOf(() => planned('exec --home /f IMG p', { files: { '/f': '' } })),
    /not a directory/,
  );
});

test('a bind shows source at target, read-only where asked', () => {
  const run = planned('exec -B /data:/mnt/data:ro IMG p', { files: { '/data/x': '' } });
  assert.is(mountedAt(run, '/mnt/data'), '/data ro,recursive');
});

test('a bind without target is there at its own path; a relative one from the current directory', () => {
  assert.is(mountedAt(planned('exec -B /data IMG p', { files: { '/data/x': '' } }), '/data'), '/data recursive');
  assert.is(mountedAt(planned('exec -B sub/../d IMG p', { files: { '/place/d/x': '' }, cwd: '/place' }), '/place/d'), '/place/d recursive');
});

test('a missing source is named, with target, cause and flag', () => {
  assert.match(
    errorOf(() => planned('exec -B /nope:/mnt IMG p')),
    /cannot mount \/nope on \/mnt: source does not exist \| .*-B.*mkdir -p \/nope/,
  );
  assert.is(
    codeOf(() => planned('exec -B /secret/x:/mnt IMG p', { files: { '/secret': closed(directory(0o700)), '/secret/x': '' } })),
    'E_BIND_SOURCE',
  );
});

test('at one target the last bind wins, and replaces a default mount too', () => {
  const run = planned('exec -B /a:/mnt,/b:/mnt -B /a:/tmp IMG p', { files: { '/a/x': '', '/b/x': '' } });
  assert.is(mountedAt(run, '/mnt'), '/b recursive');
  assert.is(mountedAt(run, '/tmp'), '/a recursive');
  assert.is(opsOf(run, 'bind').filter((op) => op.target === '/tmp').length, 1);
});

test('a bind of / needs a target', () => {
  assert.match(
    errorOf(() => planned('exec -B / IMG p')),
    /nothing can be shown at \/ itself/,
  );
  assert.is(mountedAt(planned('exec -B /:/host IMG p'), '/host'), '/ recursive');
});

test('what was asked for in this call, and its directory, is told apart from what other calls have as well', () => {
  const files = { '/data/x': '', '/etc/tsrun/config.yaml': 'bind: [/data:/config]\n' };
  const own = planned('exec -B /data:/a IMG p', { files, cwd: '/scratch/x' }).ops.flatMap((op) =>
    (op.op === 'bind' || op.op === 'bind_cwd') && op.flags.includes('own') ? [op.target] : [],
  );
  assert.equal(own.toSorted(), ['/a', '/scratch/x']);
});

test('devices that are bound work as devices', () => {
  assert.is(mountedAt(planned('exec -B /dev/null:/x IMG p'), '/x'), '/dev/null recursive,dev');
});

test('--no-mount leaves default mounts out by name or path', () => {
  const run = planned('exec --no-mount tmp,dev,/etc/hosts IMG p');
  for (const path of ['/tmp', '/var/tmp', '/dev', '/etc/hosts']) assert.is(mountedAt(run, path), undefined, path);
  assert.ok(mountedAt(run, '/proc'));
  assert.is(
    codeOf(() => planned('exec --no-mount temp IMG p')),
    'E_USAGE',
  );
});

test('--pid gives a new /proc and --ipc new queues', () => {
  const run = planned('exec --pid --ipc IMG p', { files: { '/dev/mqueue': directory() } });
  assert.is(mountedAt(run, '/proc'), 'proc');
  assert.is(mountedAt(run, '/dev/mqueue'), 'mqueue');
  assert.equal(only(run, 'unshare').flags, ['mount', 'pid', 'ipc']);
});

test('nothing but mount namespaces is new unless asked', () => {
  assert.equal(only(planned('exec IMG p'), 'unshare').flags, ['mount']);
});

test('--contain: home, /tmp and /var/tmp are empty, /dev is minimal', () => {
  const run = planned('exec -c IMG p');
  for (const path of ['/home/me', '/tmp', '/var/tmp', '/dev', '/dev/shm']) assert.is(mountedAt(run, path), 'tmpfs', path);
  assert.is(mountedAt(run, '/dev/pts'), 'devpts');
  for (const name of ['null', 'zero', 'full', 'random', 'urandom', 'tty'])
    assert.is(mountedAt(run, `/dev/${name}`), `/dev/${name} optional,dev`);
  assert.equal(
    opsOf(run, 'symlink')
      .map((op) => op.target)
      .toSorted(),
    ['/dev/fd', '/dev/ptmx', '/dev/stderr', '/dev/stdin', '/dev/stdout'],
  );
  assert.is(mountedAt(run, '/dev/console'), undefined);
});

test('what is mounted on a tmpfs of the run finds its place made, behind the tmpfs and before the mount', () => {
  const run = planned('exec -c -B /data/f:/tmp/a/b/f,/data:/home/me/data IMG p', { files: { '/data/f': '' } });
  const order = run.ops
    .filter((op) => 'target' in op && (isWithin(op.target, '/tmp') || isWithin(op.target, '/home/me')))
    .map((op) => `${op.op} ${'target' in op ? op.target : ''}`);
  assert.equal(
    order.filter((each) => each.includes('/tmp')),
    ['tmpfs /tmp', 'directory /tmp/a', 'directory /tmp/a/b', 'file /tmp/a/b/f', 'bind /tmp/a/b/f'],
  );
  assert.equal(
    order.filter((each) => each.includes('/home')),
    ['tmpfs /home/me', 'directory /home/me/data', 'bind /home/me/data'],
  );
});

test('nothing is made in directories of the host', () => {
  const run = planned('exec -c -B /data:/tmp -B /data/f:/tmp/f IMG p', { files: { '/data/f': '' } });
  assert.equal(
    run.ops.filter((op) => (op.op === 'directory' || op.op === 'file') && isWithin(op.target, '/tmp')),
    [],
  );
});

test('--contain leaves config binds out and keeps those that were asked for', () => {
  const files = { '/etc/tsrun/config.yaml': 'bind: [/gpfs]', '/gpfs/x': '', '/data/x': '', '/env/x': '' };
  const run = planned('exec -c -B /data IMG p', { files, env: { APPTAINER_BIND: '/env' } });
  assert.is(mountedAt(run, '/gpfs'), undefined);
  assert.ok(mountedAt(run, '/data'));
  assert.ok(mountedAt(run, '/env'));
});

test('--containall adds namespaces and a clean environment', () => {
  const run = planned('exec -C IMG p', { env: { FOO: 'x', TERM: 'xterm' } });
  assert.equal(only(run, 'unshare').flags, ['mount', 'pid', 'ipc']);
  assert.is(mountedAt(run, '/proc'), 'proc');
  assert.is(envOf(run)['FOO'], undefined);
  assert.is(envOf(run)['TERM'], 'xterm');
});

test('--writable-tmpfs makes the root writable', () => {
  assert.equal(only(planned('exec --writable-tmpfs IMG p'), 'root').flags, ['writable']);
  assert.equal(only(planned('exec IMG p'), 'root').flags, []);
});

test('--hostname gives a name, its own /etc/hostname and a line in /etc/hosts', () => {
  const run = planned('exec --hostname box IMG p');
  assert.equal(only(run, 'unshare').flags, ['mount', 'uts']);
  assert.is(only(run, 'hostname').name, 'box');
  assert.is(fileAt(run, '/etc/hostname'), 'box\n');
  assert.match(fileAt(run, '/etc/hosts') ?? '', /127\.0\.0\.1 localhost\n127\.0\.1\.1\tbox\n/);
  assert.is(
    codeOf(() => planned('exec --hostname a/b IMG p')),
    'E_USAGE',
  );
});

test('resolv.conf and hosts are shown as files of the host', () => {
  const run = planned('exec IMG p');
  assert.is(mountedAt(run, '/etc/resolv.conf'), '/etc/resolv.conf optional');
  assert.is(mountedAt(run, '/etc/hosts'), '/etc/hosts optional');
});

test('a resolv.conf that is a link, here or in the image, is copied', () => {
  const onHost = planned('exec IMG p', {
    files: { '/etc/resolv.conf': link('../run/systemd/resolve/stub.conf'), '/run/systemd/resolve/stub.conf': 'nameserver 127.0.0.53\n' },
  });
  assert.is(fileAt(onHost, '/etc/resolv.conf'), 'nameserver 127.0.0.53\n');
  assert.is(mountedAt(onHost, '/etc/resolv.conf'), undefined);
  const inImage = planned('exec IMG p', { facts: { tree: { '/etc': 'd', '/etc/resolv.conf': 'l../run/x' } } });
  assert.is(fileAt(inImage, '/etc/resolv.conf'), 'nameserver 192.0.2.1\n');
});

test('the time zone is mounted; over a link of the image a file is put first', () => {
  assert.is(mountedAt(planned('exec IMG p'), '/etc/localtime'), '/etc/localtime ro,optional');
  const run = planned('exec IMG p', { facts: { tree: { '/etc': 'd', '/etc/localtime': 'l/usr/share/zoneinfo/Etc/UTC' } } });
  assert.is(fileAt(run, '/etc/localtime'), '');
  assert.is(mountedAt(planned('exec IMG p', { files: { '/etc/localtime': undefined } }), '/etc/localtime'), undefined);
});

test('no_new_privs is always set, after the root is left', () => {
  const names = planned('exec IMG p').ops.map((op) => op.op);
  assert.ok(names.indexOf('no_new_privs') > names.indexOf('pivot'));
});

test('a socket can be bound on a path of the image', () => {
  assert.is(
    mountedAt(planned('exec -B /dev/null:/opt/x:ro IMG p', { files: { '/dev/null': device() } }), '/opt/x'),
    '/dev/null ro,recursive,dev',
  );
});

test('a contained program on a terminal finds it as /dev/console', () => {
  const run = planned('exec -c IMG p', { terminal: true, files: { '/proc/self/fd/0': link('/dev/pts/3'), '/dev/pts/3': device() } });
  assert.is(mountedAt(run, '/dev/console'), '/dev/pts/3 optional,dev');
  assert.is(mountedAt(planned('exec IMG p', { terminal: true }), '/dev/console'), undefined);
});

test('contained message queues do not need the mount of the host', () => {
  assert.is(mountedAt(planned('exec -C IMG p', { files: { '/proc/sys/fs/mqueue': directory() } }), '/dev/mqueue'), 'mqueue');
  assert.is(mountedAt(planned('exec -C IMG p'), '/dev/mqueue'), undefined);
});

test('a source with ~ or $ in it gets the hint that only shells expand them', () => {
  const told = (command: string) => errorOf(() => planned(command, { cwd: '/home/me' }));
  assert.match(told('exec -B ~/x:/y IMG p'), /source does not exist.*expanded by the shell only/s);
  assert.match(told('exec -B /scratch/$USER IMG p'), /expanded by the shell only/);
  assert.match(told('exec -B /none IMG p'), /mkdir -p \/none/);
});

test('a bind over the directory of homes takes the home away, where it has no place for it', () => {
  const run = planned('exec -B /data:/home IMG p', { cwd: '/', files: { '/data': directory() } });
  assert.is(mountedAt(run, '/home'), '/data recursive');
  assert.is(mountedAt(run, '/home/me'), '/home/me recursive,optional');
  assert.is(mountedAt(planned('exec -B /home IMG p', { cwd: '/' }), '/home/me'), '/home/me recursive');
  assert.is(
    mountedAt(planned('exec -B /data:/home/me IMG p', { cwd: '/', files: { '/data': directory() } }), '/home/me'),
    '/data recursive',
  );
});

test.run();
