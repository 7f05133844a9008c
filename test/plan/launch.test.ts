import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeAnswer } from '../../src/plan/encode.ts';
import { explainFailure, parseFailure } from '../../src/plan/failure.ts';
import { OPS, type Op } from '../../src/plan/ops.ts';
import { engineHost, type HostCall } from '../../src/run/host-engine.ts';
import { failure, plan, start } from '../../src/run/start.ts';
import { warm } from '../../src/run/warm.ts';
import { isClean } from '../../src/util/paths.ts';
import { closed, directory, file, machine } from '../helpers/machine.ts';
import { only, opsOf, planned, type World, worldOf } from '../helpers/planning.ts';

const test = suite('answers for the launcher');

test('an image file is served over FUSE, by a scope', () => {
  const run = planned('exec IMG p', { env: { XDG_RUNTIME_DIR: '/run/user/1000' }, files: { '/run/user/1000': directory(0o700, 1000) } });
  const scope = only(run, 'scope');
  assert.is(scope.dir, '/run/user/1000/tsrun');
  assert.match(scope.key, /^[a-z0-9.-]{1,80}$/);
  assert.equal([scope.uid, scope.gid], [1000, 1000]);
  const image = only(run, 'image_mount');
  assert.equal([image.path, image.offset, image.size, image.handle], ['/images/x.sqfs', 0, 4096, 0]);
});

test('without a usable /dev/fuse it is extracted once, never into the home', () => {
  for (const files of [{ '/dev/fuse': undefined }, { '/dev/fuse': closed(file('')) }]) {
    const run = planned('exec IMG p', { files });
    assert.match(only(run, 'image_extracted').directory, /^\/tmp\/tsrun-1000\/extracted\/\d+-4096-/);
    assert.is(opsOf(run, 'scope').length, 0);
    assert.is(opsOf(run, 'userns').length, 1);
  }
  const chosen = planned('exec IMG p', { files: { '/dev/fuse': undefined }, env: { TSRUN_LOCAL: '/local/me' } });
  assert.match(only(chosen, 'image_extracted').directory, /^\/local\/me\/extracted\//);
});

test('a directory image has a user namespace of its own', () => {
  const run = planned('exec /img p', { files: { '/img/etc/x': '', '/img/bin/sh': file('#!', 0o755) } });
  assert.is(only(run, 'image_directory').path, '/img');
  assert.is(only(run, 'userns').uid, 1000);
});

test('ops come in the order of the contract', () => {
  const run = planned('exec --hostname h -B /data:/x IMG p', { files: { '/data/x': '' }, terminal: true, env: { PYTHONPATH: '/x' } });
  const names = run.ops.map((op) => op.op).filter((name, at, all) => name !== all[at - 1]);
  assert.equal(names.slice(0, 5), ['scope', 'image_mount', 'unshare', 'file', 'root']);
  assert.equal(names.slice(-8), ['pivot', 'hostname', 'no_new_privs', 'notice', 'chdir', 'env', 'arg', 'exec']);
});

const uncovered = (line: string, world: World = {}): string[] => opsOf(planned(line, world), 'uncovered').map((op) => op.target);

test('programs of the image are seen without the overlay, before anything is mounted over them', () => {
  assert.equal(uncovered('exec IMG p'), ['/usr', '/opt']);
  assert.ok(opsOf(planned('exec IMG p'), 'uncovered').every((op) => op.why.includes('cheaper without the overlay')));
});

test('what is written to the image goes through the overlay, everywhere', () => {
  assert.equal(uncovered('exec --writable-tmpfs IMG p'), []);
});

test('a link of the image, or what it does not have, is not uncovered', () => {
  assert.equal(uncovered('exec IMG p', { facts: { tree: { '/opt': 'lusr/opt', '/usr': 'd', '/usr/opt': 'd' } } }), ['/usr']);
  assert.equal(uncovered('exec IMG p', { facts: { tree: { '/bin': 'd' } } }), []);
});

test('a usual start asks the file systems of home, image and current directory at most eight times', () => {
  const run = planned('exec IMG p', { cwd: '/data/run', files: { '/data/run': directory() }, env: { PWD: '/data/run' } });
  const counted = run.machine.calls.filter((call) => /(pread|fstat) \d| \/home\/me| \/home$| \/images| \/data| \.$/.test(call));
  assert.ok(counted.length <= 8, counted.join('\n'));
});

const strings = (answer: string): string[] => answer.split('\0').slice(0, -1);

test('an encoded plan is version, ops with their fields in order, and an end', () => {
  const ops: Op[] = [
    { op: 'bind', source: '/a', target: '/b', flags: ['ro', 'recursive'], why: 'x' },
    { op: 'tmpfs', target: '/t', mode: 0o1777, size: 0, why: 'x' },
    { op: 'pivot', why: 'x' },
  ];
  assert.equal(strings(encodeAnswer({ kind: 'plan', plan: { ops } })), [
    'plan',
    '1',
    'bind',
    '/a',
    '/b',
    'ro,recursive',
    'tmpfs',
    '/t',
    '1023',
    '0',
    'pivot',
    'end',
  ]);
});

test('other answers have the forms the contract names', () => {
  assert.equal(strings(encodeAnswer({ kind: 'print', text: 'x\n', status: 0 })), ['print', 'x\n', '0']);
  assert.equal(strings(encodeAnswer({ kind: 'fail', text: 'a\0b', status: 125 })), ['fail', 'a?b', '125']);
  // The engine hands out bytes only.
  assert.equal(strings(encodeAnswer({ kind: 'fail', text: 'a\u2026\xe9', status: 125 })), ['fail', 'a?\xe9', '125']);
  assert.equal(strings(encodeAnswer({ kind: 'node' })), ['node', '']);
  assert.equal(strings(encodeAnswer({ kind: 'prepare', args: ['__prepare', 'x'] })), ['prepare', '', '__prepare', 'x', 'end']);
});

test('a field that would break the encoding is a mistake of ours and never leaves', () => {
  const encode = (op: Op) => () => encodeAnswer({ kind: 'plan', plan: { ops: [op] } });
  assert.throws(encode({ op: 'arg', text: 'a\0b', why: '' }), /without NUL/);
  assert.throws(encode({ op: 'chdir', path: '/a/../b', why: '' }), /clean path/);
  assert.throws(encode({ op: 'bind', source: '', target: '/a', flags: [], why: '' }), /empty/);
  assert.throws(encode({ op: 'tmpfs', target: '/a', mode: -1, size: 0, why: '' }), /no number/);
});

/** Words a command line may be made of, sensible and not. */
const WORDS = [
  '-B',
  '/data:/x/../y//z',
  '/data:/tmp/a',
  '-c',
  '-C',
  '--pid',
  '--home',
  '/data:/home/q/.',
  '--pwd',
  '/a/./b//',
  '--no-home',
  '--nv',
  '--writable-tmpfs',
  '--env',
  'A=1',
  '--hostname',
  'h',
  '--bind=/data,/data:/etc/hosts:ro',
  '-e',
  '--no-mount',
  'tmp,home',
  '-q',
  '--ipc',
];

test('no plan ever holds a target that is not absolute and clean, whatever is asked', () => {
  const cwd = fc.constantFrom('/', '/data', '/home/me', '/tmp/x', '/opt/y/z', '/proc/1', null);
  const home = fc.constantFrom('/home/me', '/home/me/', '//home//me', '/', '', 'x', '/data/../data', '/nope', '/usr');
  let plans = 0;
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...WORDS), { maxLength: 8 }), cwd, home, (words, where, HOME) => {
      const world: World = { cwd: where, env: { HOME, TMPDIR: '/data/./t' }, files: { '/data/t/x': '' } };
      let ops: readonly Op[];
      try {
        ops = planned(['exec', ...words, 'IMG', 'p'], world).ops;
      } catch (error) {
        assert.ok((error as { code?: string }).code?.startsWith('E_'), String(error));
        return;
      }
      plans++;
      for (const op of ops) {
        for (const [name, kind] of Object.entries(OPS[op.op])) {
          if (kind === 'T') assert.ok(isClean(String(op[name as keyof Op])), JSON.stringify(op));
        }
      }
      assert.ok(encodeAnswer({ kind: 'plan', plan: { ops } }).endsWith('end\0'));
    }),
    { numRuns: 400 },
  );
  assert.ok(plans > 50, `${plans} plans`);
});

test('what is not exec, run or shell is for the full program', () => {
  assert.equal(strings(start(machine({ args: ['tsrun', 'build', 'x'] }), '')), ['node', '']);
});

test('a failure is one text with code and hint, and status 125', () => {
  const [kind, text = '', status] = strings(start(machine({ args: ['tsrun', 'exec', '/nope', 'x'] }), ''));
  assert.equal([kind, status], ['fail', '125']);
  assert.is(text, 'tsrun: cannot use image /nope: there is no such file (E_IMAGE_MISSING)\nhint: check the path\n');
});

test('terminal controls in names are shown as question marks', () => {
  const [, text = ''] = strings(start(machine({ args: ['tsrun', 'exec', '/\x1b[31mx', 'p'] }), ''));
  assert.match(text, /\/\?\[31mx/);
});

test('a mistake of tsrun itself is said to be one', () => {
  const broken = { ...machine({ args: ['tsrun', 'exec', '/x', 'p'] }), ids: () => JSON.parse('x') };
  const [, text = '', status] = strings(start(broken, ''));
  assert.match(text, /internal error.*E_INTERNAL.*please report/s);
  assert.is(status, '125');
});

test('what has to be fetched is asked for once', () => {
  const world = worldOf('exec docker://debian:12 p');
  assert.equal(strings(start(world, '')), ['prepare', '', '__prepare', 'docker://debian:12', 'end']);
  assert.equal(strings(start(world, 'prepared'))[0], 'fail');
});

test('the warm-up start is a plan', () => {
  const door = { __host: (): number => -38 };
  assert.is(
    warm(
      engineHost((number, ...words) => (door as { __host: HostCall }).__host(number, ...words)),
      door,
    ),
    '',
  );
});

// --- explain

const explained = (form: string): string => {
  const answer = plan(
    worldOf(`exec ${form} -B /data:/mnt:ro /images/x.sqfs p`, { files: { '/data/x': '' }, env: { TSRUN_NV: '0', FOO: 'bar' } }),
    '',
  );
  assert.is(answer.kind, 'print');
  return answer.kind === 'print' ? answer.text : '';
};

test('--explain shows request, image, plan, environment and reads, each with its reason', () => {
  const text = explained('--explain');
  for (const part of [/^request\n/, /\nimage\n/, /\nplan\n/, /\nenvironment\n/, /\nreads\n/]) assert.match(text, part);
  assert.match(text, /bind +\/data:\/mnt:ro +command line \(-B\)/);
  assert.match(text, /nv +false +TSRUN_NV/);
  assert.match(text, /bind +source=\/data target=\/mnt flags=ro,recursive +-B/);
  assert.match(text, /FOO=bar +host/);
  assert.match(text, /stat +\/data +directory/);
  assert.match(text, /Debian GNU\/Linux 12, amd64, glibc 2\.36/);
});

test('--explain=json is the same as data', () => {
  const data = JSON.parse(explained('--explain=json')) as {
    plan: Op[];
    reads: unknown[];
    request: { verb: string };
    given: { origin: string }[];
  };
  assert.is(data.request.verb, 'exec');
  assert.ok(data.plan.some((op) => op.op === 'bind' && op.target === '/mnt' && op.why === '-B'));
  assert.ok(data.reads.length > 5);
  assert.ok(data.given.some((each) => each.origin === 'TSRUN_NV'));
});

test('--debug prints the plan and runs it', () => {
  const host = worldOf('exec --debug /images/x.sqfs p');
  assert.is(plan(host, '').kind, 'plan');
  assert.ok(host.logged.some((line) => line.includes('image_mount')));
});

// --- failures of the launcher

const PLAN: Op[] = [
  { op: 'bind', source: '/data', target: '/mnt', flags: [], why: '-B' },
  { op: 'chdir', path: '/w', why: 'the current directory' },
  { op: 'bind_cwd', target: '/w', flags: [], why: 'the current directory' },
  { op: 'image_mount', handle: 0, path: '/x.sif', offset: 0, size: 1, why: '' },
  { op: 'bind', source: '/more', target: '/mnt/a/b', flags: [], why: '-B' },
];
const told = (index: number, op: string, errno: number, step: string, detail: string, files: Record<string, string> = {}) =>
  explainFailure(machine({ files }), { ops: PLAN }, parseFailure(`${index}\0${op}\0${errno}\0${step}\0${detail}\0`));

const BUILD: Op[] = [
  { op: 'userns_ranges', newuidmap: '/usr/bin/newuidmap', newgidmap: '/usr/bin/newgidmap', uidMap: '0 1 1', gidMap: '0 1 1', why: '' },
  { op: 'upper', directory: '/u', work: '/w', why: '' },
];

test('a failing build step: ranges and overlay are named', () => {
  const of = (text: string) => explainFailure(machine({}), { ops: BUILD }, parseFailure(text));
  const ranges = of('0\0userns_ranges\x001\0enter a user namespace\0/usr/bin/newuidmap cannot write the uid_map "0 1 1": not allowed\0');
  assert.is(ranges.code, 'E_SUBUID');
  assert.match(ranges.message, /newuidmap cannot write the uid_map "0 1 1": not allowed/);
  const overlay = of('2\0root\x0022\0make the root\0an overlay that keeps what is written in /u\0');
  assert.is(overlay.code, 'E_OVERLAY');
  assert.match(overlay.message, /written in \/u: /);
  assert.is(of('2\0unshare\x002\0merge the layers\0/u\0').code, 'E_OVERLAY');
});

const FAILURES: readonly [string, Parameters<typeof told>, string, RegExp, number][] = [
  [
    'a source that vanished',
    [0, 'bind', 2, 'find the source', '/data'],
    'E_BIND_SOURCE',
    /cannot mount \/data on \/mnt: source does not exist/,
    125,
  ],
  ['a source out of reach', [0, 'bind', 13, 'find the source', '/data'], 'E_BIND_SOURCE', /may not reach/, 125],
  [
    'a target below another mount',
    [0, 'bind', 2, 'open the target', '/mnt'],
    'E_BIND_TARGET',
    /cannot mount \/data on \/mnt: the target is missing/,
    125,
  ],
  [
    'a target that a bind lacks',
    [4, 'bind', 2, 'open the target', '/mnt/a/b'],
    'E_BIND_TARGET',
    /\/data is shown at \/mnt, and has no a\/b/,
    125,
  ],
  [
    'a directory on a file',
    [0, 'bind', 20, 'prepare the target', '/mnt is not a directory, what is to be mounted on it is one'],
    'E_BIND_TARGET',
    /the target is a file, the source a directory/,
    125,
  ],
  ['a file in the way', [0, 'bind', 20, 'prepare the target', '/mnt/x (at /mnt)'], 'E_BIND_TARGET', /a part of the target is a file/, 125],
  [
    'a current directory that the image has too',
    [2, 'bind_cwd', 17, 'prepare the target', '/w'],
    'E_CWD',
    /cannot start in \/w: the image has its own/,
    125,
  ],
  ['a closed current directory', [2, 'bind_cwd', 13, 'find the source', 'the working directory'], 'E_CWD', /you may not look into it/, 125],
  ['an option behind the image', [0, 'exec', 2, 'run the program', '--pwd: there is no such file'], 'E_NOT_FOUND', /cannot run --pwd/, 127],
  [
    'a file on a directory',
    [0, 'bind', 21, 'prepare the target', '/mnt is a directory'],
    'E_BIND_TARGET',
    /the target is a directory/,
    125,
  ],
  ['a read-only parent', [0, 'bind', 30, 'prepare the target', '/mnt'], 'E_BIND_TARGET', /read-only/, 125],
  [
    'a directory to start in that is not there',
    [1, 'chdir', 2, 'enter the directory', '/w'],
    'E_CWD',
    /cannot start in \/w: there is no such directory/,
    125,
  ],
  ['a current directory that vanished', [2, 'bind_cwd', 2, 'find the source', '.'], 'E_CWD', /does not exist any more/, 125],
  [
    'a command that is not there',
    [9, 'exec', 2, 'run the program', 'foo: it is in no directory of PATH (/bin)'],
    'E_NOT_FOUND',
    /cannot run foo: it is in no directory of PATH/,
    127,
  ],
  [
    'a command that may not be executed',
    [9, 'exec', 13, 'run the program', '/x: it is not executable'],
    'E_NOT_EXECUTABLE',
    /cannot run \/x: it is not executable/,
    126,
  ],
  [
    'a program for another machine',
    [9, 'exec', 8, 'run the program', '/x: it is a program for aarch64, this machine is x86_64'],
    'E_NOT_EXECUTABLE',
    /aarch64/,
    126,
  ],
  [
    'too many arguments',
    [9, 'exec', 7, 'run the program', '/x: its arguments and environment are longer than the kernel takes'],
    'E_LAUNCH',
    /longer than the kernel takes/,
    125,
  ],
  ['a full disk', [3, 'image_extracted', 28, 'extract the image', '/tmp/x'], 'E_NO_SPACE', /no space left/, 125],
  ['a used-up quota', [3, 'image_extracted', 122, 'extract the image', '/tmp/x'], 'E_NO_SPACE', /quota/, 125],
  ['no memory', [3, 'image_mount', 12, 'read the image', 'x'], 'E_NO_MEMORY', /out of memory/, 125],
  ['FUSE that does not work', [3, 'image_mount', 19, 'use FUSE', '/dev/fuse'], 'E_FUSE', /cannot mount \/x\.sif/, 125],
  [
    'an image that is damaged',
    [3, 'image_mount', 22, 'read the image', 'superblock: bad block size'],
    'E_IMAGE_READ',
    /superblock: bad block size/,
    125,
  ],
  [
    'an image server that may not make a user namespace',
    [3, 'image_mount', 1, 'create a user namespace', 'unshare'],
    'E_USERNS',
    /cannot create a user namespace: the kernel refuses it/,
    125,
  ],
  [
    'a server that ended',
    [3, 'image_mount', 5, 'reach the image server', 'it died while starting'],
    'E_SERVER',
    /it died while starting/,
    125,
  ],
  [
    'a server that hung up',
    [3, 'image_mount', 104, 'reach the image server', 'it ended each time when it was asked'],
    'E_SERVER',
    /it ended each time when it was asked: the connection was cut/,
    125,
  ],
  [
    'a runtime directory of somebody else',
    [3, 'scope', 1, 'use the runtime directory', '/tmp/tsrun-1 belongs to user 0'],
    'E_RUNTIME_DIR',
    /belongs to user 0/,
    125,
  ],
  [
    'a damaged image, met wherever it is',
    [9, 'file', 117, 'make', '/etc/passwd: /etc'],
    'E_IMAGE_READ',
    /cannot read the image \/x\.sif: its data is damaged/,
    125,
  ],
  ['a bind source whose storage fails', [0, 'bind', 5, 'find the source', '/data'], 'E_BIND_SOURCE', /\/data/, 125],
  ['a hidden /proc', [9, 'proc', 1, 'mount', 'proc on /proc'], 'E_MOUNT', /\/proc around is hidden/, 125],
  ['an old kernel', [9, 'root', 22, 'make the root', 'overlay'], 'E_MOUNT', /overlay/, 125],
  ['something unforeseen', [9, 'mqueue', 99, 'mount', 'mqueue'], 'E_LAUNCH', /cannot mount: mqueue: error 99/, 125],
];
for (const [what, failed, code, text, status] of FAILURES) {
  test(`failure: ${what}`, () => {
    const error = told(...failed);
    assert.is(error.code, code);
    assert.match(error.message, text);
    assert.is(error.exitCode, status);
  });
}

test('failure: user namespaces that are switched off name the switch and the command', () => {
  const error = told(9, 'userns', 1, 'enter a user namespace', 'make one', { '/proc/sys/kernel/unprivileged_userns_clone': '0\n' });
  assert.is(error.code, 'E_USERNS');
  assert.match(error.hint ?? '', /an administrator has to run: .*unprivileged_userns_clone=1/);
  assert.is(told(9, 'unshare', 28, 'make namespaces', 'unshare').code, 'E_USERNS');
  assert.match(told(9, 'scope', 1, 'create a user namespace', 'unshare').why, /the kernel refuses/);
});

test('failure: the words come from the plan that was made in the same process', () => {
  const host = worldOf('exec -B /data:/mnt /images/x.sqfs p', { files: { '/data/x': '' } });
  const ops = strings(start(host, ''));
  assert.is(ops[0], 'plan');
  const planOps = plan(host, '');
  const index = planOps.kind === 'plan' ? planOps.plan.ops.findIndex((op) => op.op === 'bind' && op.target === '/mnt') : -1;
  const [kind, text = '', status] = strings(failure(host, `${index}\0bind\x002\0find the source\0/data\0`));
  assert.equal([kind, status], ['fail', '125']);
  assert.match(text, /cannot mount \/data on \/mnt: source does not exist \(E_BIND_SOURCE\)\nhint: .*-B/);
});

test('texts of the planner are ASCII, since what leaves it is bytes', () => {
  const top = join(import.meta.dirname, '../../src');
  for (const folder of ['plan', 'request', 'facts', 'run', 'image', 'store', 'sif', 'util']) {
    for (const name of readdirSync(join(top, folder)).filter((each) => each.endsWith('.ts'))) {
      const lines = readFileSync(join(top, folder, name), 'utf8').split('\n');
      const wide = lines.filter((line) => !/^\s*(\/\/|\/?\*)/.test(line) && /[^\0-\x7f]/.test(line.replace(/\s\/\/ .*$/, '')));
      assert.equal(wide, [], `${folder}/${name}`);
    }
  }
});

test.run();
