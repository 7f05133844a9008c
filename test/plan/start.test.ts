import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { directory, link } from '../helpers/machine.ts';
import { codeOf, envOf, errorOf, mountedAt, noticesOf, only, planned, type World } from '../helpers/planning.ts';

const test = suite('where the program starts');

const starts = (command: string, world: World): string => only(planned(command, world), 'chdir').path;

test('the root stays the root', () => {
  assert.is(starts('exec IMG p', { cwd: '/' }), '/');
});

test('a directory in the home is visible with the home', () => {
  const run = planned('exec IMG p', { cwd: '/home/me/work', files: { '/home/me/work': directory() } });
  assert.is(only(run, 'chdir').path, '/home/me/work');
  assert.is(mountedAt(run, '/home/me/work'), undefined);
});

test('a directory elsewhere is shown at its own path', () => {
  const run = planned('exec IMG p', { cwd: '/data/run1' });
  assert.is(mountedAt(run, '/data/run1'), 'bind_cwd');
  assert.is(mountedAt(run, '/data'), undefined);
  assert.is(only(run, 'chdir').path, '/data/run1');
});

test('below a directory that the image has, only the directory itself is shown', () => {
  for (const cwd of ['/opt/mine/x', '/srv/x', '/usr/share/thing', '/var/spool/x']) {
    const run = planned('exec IMG p', { cwd });
    assert.is(mountedAt(run, cwd), 'bind_cwd', cwd);
    assert.is(only(run, 'chdir').path, cwd);
  }
});

for (const cwd of ['/opt', '/usr', '/etc', '/usr/local', '/opt/conda', '/var/lib', '/bin']) {
  test(`in ${cwd}, which the image has too, it is an error that names --pwd`, () => {
    assert.match(
      errorOf(() => planned('exec IMG p', { cwd })),
      /cannot start in .*--pwd/,
    );
    assert.is(
      codeOf(() => planned('exec IMG p', { cwd })),
      'E_CWD',
    );
  });
}

for (const cwd of ['/mnt', '/srv', '/home', '/data', '/scratch/x']) {
  test(`${cwd} is shown, since images have nothing of their own there`, () => {
    assert.is(mountedAt(planned('exec IMG p', { cwd }), cwd), 'bind_cwd');
  });
}

for (const cwd of ['/proc/sys', '/sys/class', '/dev/shm', '/tmp/x', '/var/tmp/y', '/proc', '/dev']) {
  test(`${cwd} is visible with the default mounts`, () => {
    const run = planned('exec IMG p', { cwd });
    assert.is(only(run, 'chdir').path, cwd);
    assert.not.ok(run.ops.some((op) => op.op === 'bind_cwd'));
  });
}

test('with a process list of its own /proc stays, a process of the host does not', () => {
  assert.is(starts('exec --pid IMG p', { cwd: '/proc' }), '/proc');
  assert.is(
    codeOf(() => planned('exec --pid IMG p', { cwd: '/proc/77' })),
    'E_CWD',
  );
});

test('a directory hidden under another bind is an error that names the bind', () => {
  const text = errorOf(() => planned('exec -B /other:/data IMG p', { cwd: '/data/x', files: { '/other/f': '' } }));
  assert.match(text, /cannot start in \/data\/x: it is hidden: \/other is shown at \/data \(-B\).*--pwd/);
});

test('a bind that shows the same directory hides nothing', () => {
  const run = planned('exec -B /data IMG p', { cwd: '/data/x', files: { '/data/x': directory() } });
  assert.is(only(run, 'chdir').path, '/data/x');
  assert.not.ok(run.ops.some((op) => op.op === 'bind_cwd'));
});

test('a deleted directory is an error that names --pwd, and with --pwd it does not matter', () => {
  assert.match(
    errorOf(() => planned('exec IMG p', { cwd: null })),
    /does not exist any more.*--pwd/,
  );
  assert.is(starts('exec --pwd /opt IMG p', { cwd: null }), '/opt');
});

test('a relative path needs a current directory', () => {
  assert.is(
    codeOf(() => planned('exec --pwd / -B x IMG p', { cwd: null })),
    'E_CWD',
  );
});

test('--pwd chooses, absolute and cleaned, and the current directory is still shown', () => {
  const run = planned('exec --pwd /opt//x/../y IMG p', { cwd: '/data/x' });
  assert.is(only(run, 'chdir').path, '/opt/y');
  assert.is(envOf(run)['PWD'], '/opt/y');
  assert.is(mountedAt(run, '/data/x'), 'bind_cwd');
  assert.is(
    codeOf(() => planned('exec --pwd x IMG p')),
    'E_USAGE',
  );
});

test('--pwd works where the current directory cannot be shown', () => {
  assert.is(starts('exec --pwd /opt IMG p', { cwd: '/opt' }), '/opt');
  assert.is(starts('exec --pwd /mnt -B /other:/data IMG p', { cwd: '/data/x', files: { '/other/f': '' } }), '/mnt');
});

test('contained programs start in their home', () => {
  const run = planned('exec -c IMG p', { cwd: '/data/x' });
  assert.is(only(run, 'chdir').path, '/home/me');
  assert.is(mountedAt(run, '/data/x'), undefined);
});

test('contained, the current directory counts where it was bound, and / stays /', () => {
  assert.is(starts('exec -c -B /data IMG p', { cwd: '/data/x', files: { '/data/x': directory() } }), '/data/x');
  assert.is(starts('exec -c IMG p', { cwd: '/' }), '/');
});

test('left out with --no-mount cwd it is an error, if nothing else shows it', () => {
  assert.match(
    errorOf(() => planned('exec --no-mount cwd IMG p', { cwd: '/data/x' })),
    /left out with --no-mount.*--pwd/,
  );
  assert.is(starts('exec --no-mount cwd IMG p', { cwd: '/tmp/x' }), '/tmp/x');
  assert.is(
    codeOf(() => planned('exec --no-mount proc IMG p', { cwd: '/proc/1' })),
    'E_CWD',
  );
});

const LINKED = { '/u': link('/gpfs/u'), '/gpfs/u/me/work': directory() };

test("PWD keeps the caller's spelling where it works inside too", () => {
  const run = planned('exec IMG p', { cwd: '/gpfs/u/me/work', env: { HOME: '/u/me', PWD: '/u/me/work' }, files: LINKED });
  assert.is(only(run, 'chdir').path, '/gpfs/u/me/work');
  assert.is(envOf(run)['PWD'], '/u/me/work');
});

test('another spelling of the current directory is shown too', () => {
  const run = planned('exec IMG p', { cwd: '/gpfs/u/me/work', env: { PWD: '/u/me/work' }, files: LINKED });
  assert.is(mountedAt(run, '/gpfs/u/me/work'), 'bind_cwd');
  assert.is(mountedAt(run, '/u/me/work'), 'bind_cwd');
  assert.is(envOf(run)['PWD'], '/u/me/work');
});

test('a PWD that is wrong, or that the image has something else at, becomes the real path', () => {
  assert.is(
    envOf(planned('exec IMG p', { cwd: '/data/x', env: { PWD: '/data/y' }, files: { '/data/x': directory(), '/data/y': directory() } }))[
      'PWD'
    ],
    '/data/x',
  );
  assert.is(
    envOf(planned('exec IMG p', { cwd: '/data/x', env: { PWD: '/opt/x' }, files: { '/data/x': directory(), '/opt/x': link('/data/x') } }))[
      'PWD'
    ],
    '/data/x',
  );
});

test("run starts in the image's working directory and says so on a terminal; exec and shell do not", () => {
  const world = { cwd: '/data/x', facts: { workingDir: '/app', cmd: ['./start'] }, terminal: true };
  const run = planned('run IMG', world);
  assert.is(only(run, 'chdir').path, '/app');
  assert.match(noticesOf(run).join(), /started in \/app.*--pwd "\$PWD"/);
  assert.is(mountedAt(run, '/data/x'), 'bind_cwd');
  assert.is(starts('exec IMG p', world), '/data/x');
  assert.is(starts('shell IMG', world), '/data/x');
  assert.is(starts('run --pwd /data/x IMG', world), '/data/x');
  assert.equal(noticesOf(planned('run IMG', { ...world, terminal: false })), []);
});

test('a working directory of / says nothing, and a runscript starts where the caller is', () => {
  assert.is(starts('run IMG', { cwd: '/data/x', facts: { workingDir: '/', cmd: ['x'] } }), '/data/x');
  assert.is(starts('run IMG', { cwd: '/data/x', facts: { workingDir: '/app', runscript: true } }), '/data/x');
});

test('run of an image with a working directory needs no current one', () => {
  assert.is(starts('run IMG', { cwd: null, facts: { workingDir: '/app', cmd: ['x'] } }), '/app');
});

test('deep in a system directory the launcher is told that the image may have nothing there', () => {
  const flags = (cwd: string, command = 'exec IMG p', world: World = {}) =>
    only(planned(command, { cwd, ...world }), 'bind_cwd').flags.join();
  assert.is(flags('/usr/lib/x86_64-linux-gnu'), 'recursive,own,absent');
  assert.is(flags('/opt/mine/x'), 'recursive,own,absent');
  assert.is(flags('/srv/x/y'), 'recursive,own');
  assert.is(flags('/scratch/x'), 'recursive,own');
});

test('a current directory that nobody starts in may be left out', () => {
  const flags = (command: string, world: World = {}) => only(planned(command, { cwd: '/scratch/x', ...world }), 'bind_cwd').flags.join();
  assert.is(flags('exec --pwd /opt IMG p'), 'recursive,own,optional');
  assert.is(flags('run IMG', { facts: { workingDir: '/app', cmd: ['p'] } }), 'recursive,own,optional');
});

test.run();
