import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeAnswer } from '../../src/plan/encode.ts';
import { OPS, type Op } from '../../src/plan/ops.ts';
import { engineHost } from '../../src/run/host-engine.ts';
import { plan, start } from '../../src/run/start.ts';
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
  assert.equal(names.slice(-9), ['pivot', 'hostname', 'no_new_privs', 'notice', 'chdir', 'environ', 'env', 'arg', 'exec']);
});

const uncovered = (line: string, world: World = {}): string[] => opsOf(planned(line, world), 'uncovered').map((op) => op.target);

test('programs of the image are seen without the overlay, before anything is mounted over them', () => {
  assert.equal(uncovered('exec IMG p'), ['/usr', '/opt']);
  assert.ok(opsOf(planned('exec IMG p'), 'uncovered').every((op) => op.why.includes('cheaper without the overlay')));
});

test('languages that ask of each file whether it is a terminal are answered by the overlay', () => {
  for (const program of ['python3', '/usr/bin/python3.11', '/opt/venv/bin/ipython', 'perl'])
    assert.equal(uncovered(`exec IMG ${program} x`), []);
  assert.equal(uncovered('exec IMG pip'), ['/usr', '/opt']);
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
    '4',
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

test('each op is sent with its fields in the order of the contract', () => {
  for (const [name, fields] of Object.entries(OPS)) {
    if (name === 'env') continue;
    const op = { op: name, why: 'x', ...Object.fromEntries(Object.keys(fields).map((field) => [field, field])) } as unknown as Op;
    const sent = strings(encodeAnswer({ kind: 'plan', plan: { ops: [op] } }));
    assert.equal(sent.slice(2, -1), [name, ...Object.keys(fields)]);
  }
});

test('the environment is sent as an op for each variable', () => {
  const variables = new Map(['A', 'B'].map((name) => [name, { value: name.toLowerCase(), why: 'x' }]));
  const sent = strings(encodeAnswer({ kind: 'plan', plan: { ops: [{ op: 'env', variables, why: 'x' }] } }));
  assert.equal(sent, ['plan', '4', 'env', 'A=a', 'env', 'B=b', 'end']);
});

test('other answers have the forms the contract names', () => {
  assert.equal(strings(encodeAnswer({ kind: 'print', text: 'x\n', status: 0 })), ['print', 'x\n', '0']);
  assert.equal(strings(encodeAnswer({ kind: 'fail', text: 'a\0b', status: 125 })), ['fail', 'a?b', '125']);
  // The engine hands out bytes only.
  assert.equal(strings(encodeAnswer({ kind: 'fail', text: 'a\u2026\xe9', status: 125 })), ['fail', 'a?\xe9', '125']);
  assert.equal(strings(encodeAnswer({ kind: 'node' })), ['node', '']);
  assert.equal(strings(encodeAnswer({ kind: 'prepare', args: ['__prepare', 'x'] })), ['prepare', '', '__prepare', 'x', 'end']);
});

test('a field that would break the encoding is refused', () => {
  const sent = (op: Op) => encodeAnswer({ kind: 'plan', plan: { ops: [op] } });
  assert.ok(sent({ op: 'arg', text: 'a b', why: '' }).endsWith('\0a b\0end\0'));
  assert.throws(() => sent({ op: 'arg', text: 'a\0b', why: '' }), /holds a NUL/);
  assert.throws(() => sent({ op: 'file', target: '/a', mode: 0o644, content: '\0', why: '' }), /holds a NUL/);
  assert.throws(() => sent({ op: 'bind', source: '/a', target: '/b\0pivot\0end', flags: [], why: '' }), /holds a NUL/);
  assert.throws(() => encodeAnswer({ kind: 'prepare', args: ['a\0b'] }), /holds a NUL/);
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
      assert.match(encodeAnswer({ kind: 'plan', plan: { ops } }), /\0end\0$/);
    }),
    { numRuns: 400 },
  );
  assert.ok(plans > 50, `${plans} plans`);
});

test('what is not exec, run or shell is for the full program', () => {
  assert.equal(start(machine({ args: ['tsrun', 'build', 'x'] }), '').flat(), ['node', '']);
});

test('a failure is one text with code and hint, and status 125', () => {
  const [kind, text = '', status] = start(machine({ args: ['tsrun', 'exec', '/nope', 'x'] }), '').flat();
  assert.equal([kind, status], ['fail', 125]);
  assert.is(text, 'tsrun: cannot use image /nope: there is no such file (E_IMAGE_MISSING)\nhint: check the path\n');
});

test('terminal controls in names are shown as question marks', () => {
  const [, text = ''] = start(machine({ args: ['tsrun', 'exec', '/\x1b[31mx', 'p'] }), '').flat();
  assert.match(String(text), /\/\?\[31mx/);
});

test('a mistake of tsrun itself is said to be one', () => {
  const broken = { ...machine({ args: ['tsrun', 'exec', '/x', 'p'] }), ids: () => JSON.parse('x') };
  const [, text = '', status] = start(broken, '').flat();
  assert.match(String(text), /internal error.*E_INTERNAL.*please report/s);
  assert.is(status, 125);
});

test('what has to be fetched is asked for once', () => {
  const world = worldOf('exec docker://debian:12 p');
  assert.equal(start(world, '').flat(), ['prepare', '', '__prepare', 'docker://debian:12', 'end']);
  assert.is(start(world, 'prepared').flat()[0], 'fail');
});

test('the warm-up start is a plan', () => {
  const global: Parameters<typeof warm>[1] = { __host: () => -38, tsrunStart: (input) => start(host, input) };
  const host = engineHost(global);
  assert.is(warm(host, global), '');
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
  assert.match(text, /bind +source=\/data target=\/mnt flags=ro,recursive,own +-B/);
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
