/**
 * The planner gives the same answers wherever it runs: its bundle in QuickJS on invented machines, and the native program on this machine, each
 * compared with the same TypeScript in Node.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { type JSValueHandle, QuickJS } from 'quickjs-wasi';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CALLS } from '../../src/run/host-calls.ts';
import { engineHost, type HostAnswer, type HostCall } from '../../src/run/host-engine.ts';
import { nodeHost } from '../../src/run/host-node.ts';
import { failure, start } from '../../src/run/start.ts';
import { type Errno, type FileKind, failed, type Host, type Stat, wordsOf } from '../../src/util/host.ts';
import { directory, file, link, machine } from '../helpers/machine.ts';
import { type World, worldOf } from '../helpers/planning.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('one planner, several hosts');

const root = new URL('../../', import.meta.url).pathname;

test('the numbers of the host calls are those of native/host.def', () => {
  const definition = readFileSync(join(root, 'native/host.def'), 'utf8');
  const inC = Object.fromEntries([...definition.matchAll(/^CALL\((\d+), (\w+),/gm)].map(([, number, name]) => [name, Number(number)]));
  assert.equal(CALLS, inC);
});

// --- a Host as native/host.def describes it

const TYPES: Readonly<Record<FileKind, number>> = {
  file: 0o100000,
  directory: 0o40000,
  link: 0o120000,
  char: 0o20000,
  block: 0o60000,
  pipe: 0o10000,
  socket: 0o140000,
  other: 0,
};
const LETTERS: Readonly<Record<FileKind | 'unknown', string>> = {
  file: 'f',
  directory: 'd',
  link: 'l',
  char: 'c',
  block: 'b',
  pipe: 'p',
  socket: 's',
  other: '?',
  unknown: '?',
};

const statFields = (stat: Stat | Errno): HostAnswer => {
  if (failed(stat)) return stat;
  return [TYPES[stat.kind] + stat.mode, stat.uid, stat.gid, stat.size, stat.mtime, stat.ctime, stat.dev, stat.ino];
};

const callsOf = (host: Host): HostCall => {
  const byNumber: Readonly<Record<number, (a: string, b: number, c: number) => HostAnswer>> = {
    [CALLS.args]: () => host.args(),
    [CALLS.accounts]: (name) => host.accounts(name),
    [CALLS.getenv]: (name) => host.getenv(name) ?? -2,
    [CALLS.environ]: (words) => host.environ(words),
    [CALLS.getcwd]: () => host.getcwd(),
    [CALLS.ids]: () => {
      const { uid, euid, gid, egid, groups } = host.ids();
      return [uid, euid, gid, egid, ...groups];
    },
    [CALLS.uname]: () => ['Linux', host.hostname(), '6.1', host.machine()],
    [CALLS.self_exe]: () => host.selfExe(),
    [CALLS.isatty]: (descriptor) => (host.isTerminal(Number(descriptor) as 0 | 1 | 2) ? 1 : 0),
    [CALLS.stat]: (path) => statFields(host.stat(path)),
    [CALLS.lstat]: (path) => statFields(host.lstat(path)),
    [CALLS.same_file]: (one, other) => Number(host.sameFile(one, String(other))),
    [CALLS.find_line]: (text, field, value) => host.findLine(text, Number(field), String(value)),
    [CALLS.access]: (path, mode) => host.access(path, mode),
    [CALLS.statfs]: (path) => host.fileSystemType(path),
    [CALLS.readlink]: (path) => host.readlink(path),
    [CALLS.real_path]: (path) => host.realPath(path),
    [CALLS.readdir]: (path, limit) => {
      const entries = host.readdir(path, limit);
      return failed(entries) ? entries : entries.map((entry) => `${LETTERS[entry.kind]}${entry.name}`);
    },
    [CALLS.read]: (path, offset, limit) => host.read(path, offset, limit),
    [CALLS.open_keep]: (path) => host.openKeep(path),
    [CALLS.pread]: (handle, offset, length) => host.pread(Number(handle), offset, length),
    [CALLS.fstat]: (handle) => statFields(host.fstat(Number(handle))),
    [CALLS.unpack]: (handle, offset, layout) => host.unpack(Number(handle), offset, String(layout)),
    [CALLS.member]: (object, name) => host.member(object, String(name)),
    [CALLS.members]: (object, names) => host.members(object, String(names)),
    [CALLS.json]: (text, names) => host.json(text, String(names)),
    [CALLS.getent]: (database, key) => host.getent(database as 'passwd', String(key)),
    [CALLS.fnv64]: (text) => host.fnv64(text),
    [CALLS.log]: (line) => {
      host.log(line);
      return 0;
    },
  };
  return (number, ...[a = '', b = 0, c = 0]) => byNumber[number]?.(a as string, b as number, c as number) ?? -38;
};

/** Starts that between them take every way through the planner. */
const CORPUS: readonly [string, World][] = [
  ['exec IMG prog a b', {}],
  ['exec -B /data:/mnt:ro,/data -c --pid --ipc --hostname box IMG p', { files: { '/data/x': '', '/dev/mqueue': directory() } }],
  [
    'exec --env A=1,B=2 --env-file /f IMG p',
    { files: { '/f': 'X="caf\xc3\xa9"\n' }, env: { LANG: 'de_DE.UTF-8', PYTHONPATH: '/x', APPTAINERENV_Z: '\xff' }, terminal: true },
  ],
  ['run IMG x', { facts: { entrypoint: ['/bin/t'], workingDir: '/app', env: ['PATH=/bin'] }, env: { SLURM_JOB_ID: '1' } }],
  ['run IMG', { facts: { runscript: true, envScripts: ['90-environment.sh'] } }],
  ['shell IMG', { facts: { bash: '' } }],
  ['exec --nv IMG p', {}],
  ['exec --explain=json IMG p', {}],
  ['exec --explain --nv -C IMG p', {}],
  [
    'exec /img p',
    {
      files: { '/img/bin/sh': file('#!', 0o755), '/img/etc/passwd': 'root:x:0:0::/:\n', '/img/lib': link('usr/lib'), '/img/usr/lib/x': '' },
    },
  ],
  ['exec IMG p', { files: { '/etc/tsrun/config.yaml': 'bind: [/gpfs]\nenv: {A: "\xc3\xa9"}\nlinger: 3\n', '/gpfs/x': '' } }],
  ['exec IMG p', { files: { '/etc/tsrun/config.yaml': 'bin: [/gpfs]\n' } }],
  ['exec IMG p', { uid: 5000, getent: { 'passwd 5000': 'ada:x:5000:1000:Ada:/home/ada:/bin/sh\n' }, cwd: '/tmp', env: { HOME: '' } }],
  ['exec IMG p', { cwd: null }],
  ['exec -B /nope IMG p', {}],
  ['exec --biind /x IMG p', {}],
  ['exec docker://debian:12 p', {}],
  ['exec /nope p', {}],
  ['exec IMG p', { files: { '/dev/fuse': undefined }, cwd: '/data/x', env: { PWD: '/l/x' } }],
  ['build x y', {}],
];

test('the bundle in QuickJS answers as the same source does in Node', async () => {
  const { outputFiles } = await build({
    entryPoints: [join(root, 'src/planner.ts')],
    bundle: true,
    format: 'iife',
    target: 'es2022',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    write: false,
    logLevel: 'silent',
  });
  const bundle = outputFiles[0]?.text ?? '';
  const wasm = readFileSync(join(root, 'node_modules/quickjs-wasi/quickjs.wasm'));
  for (const [command, world] of CORPUS) {
    const words = command.split(' ').map((word) => (word === 'IMG' ? '/images/x.sqfs' : word));
    for (const input of ['', 'prepared']) {
      using vm = await QuickJS.create({ wasm });
      const calls = callsOf(worldOf(words, world));
      using door = vm.newFunction('__host', (...args: JSValueHandle[]) =>
        vm.hostToHandle(calls(...(args.map((arg) => vm.dump(arg)) as [number, ...string[]]))),
      );
      vm.setProp(vm.global, '__host', door);
      vm.evalCode(bundle).dispose();
      using answer = vm.evalCode(`tsrunStart(${JSON.stringify(input)})`);
      // Stacks differ between engines, so errors that show one are compared by what they say first.
      assert.is(answer.toString(), start(worldOf(words, world), input).join(','), command);
      const report = '0\0exec\x002\0run the program\0p: it is in no directory of PATH\0';
      using words2 = vm.evalCode(`tsrunFailure(${JSON.stringify(report)})`);
      assert.is(words2.toString(), failure(worldOf(words, world), report).join(','), command);
    }
  }
});

test('the answers of the host calls say all that a Host says', () => {
  for (const [command, world] of CORPUS) {
    const words = command.split(' ').map((word) => (word === 'IMG' ? '/images/x.sqfs' : word));
    assert.equal(start(engineHost({ __host: callsOf(worldOf(words, world)) }), ''), start(worldOf(words, world), ''), command);
  }
});

// --- this machine

const program = join(root, 'bin/tsrun');

test('the native program and Node see the same machine, read by read, and make the same plan', () => {
  if (!existsSync(program)) return skip('bin/tsrun is not built (make)');
  const scratch = mkdtempSync(join(tmpdir(), 'tsrun-hosts-'));
  try {
    mkdirSync(join(scratch, 'img/bin'), { recursive: true });
    mkdirSync(join(scratch, 'img/etc'));
    writeFileSync(join(scratch, 'img/bin/sh'), '#!/x\n');
    chmodSync(join(scratch, 'img/bin/sh'), 0o755);
    symlinkSync('/etc/passwd', join(scratch, 'img/etc/passwd'));
    const env = { PATH: '/usr/bin:/bin', HOME: scratch, TMPDIR: scratch, LD_LIBRARY_PATH: '/x', NODE_OPTIONS: '', 'NAME WITH SPACE': 'x' };
    const image = join(scratch, 'img');
    for (const line of [
      ['exec', image, 'p'],
      ['exec', '-c', '--nv', '-B', '/usr', image, 'p'],
      ['shell', '--pid', image],
      ['exec', '-B', '/nope', image, 'p'],
    ]) {
      const args = [line[0] ?? '', '--explain=json', ...line.slice(1)];
      const native = spawnSync(program, args, { env, cwd: scratch, encoding: 'latin1' });
      const before = process.cwd();
      process.chdir(scratch);
      const [kind, text, status] = start(nodeHost({ args: ['tsrun', ...args], environment: env }), '').flat();
      process.chdir(before);
      assert.is(native.status, Number(status), line.join(' '));
      // The one difference: Node's handles are descriptors, and entries of a directory may come in another order.
      const plain = (json: string): unknown =>
        JSON.parse(json, (key, value: unknown) =>
          key === 'handle'
            ? undefined
            : key === 'reads'
              ? (value as { call: string }[]).filter((read) => read.call !== 'isatty' && read.call !== 'open')
              : value,
        );
      if (kind === 'fail') assert.is(native.stderr, text);
      else assert.equal(plain(native.stdout), plain(String(text)), line.join(' '));
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});

test('Node finds the same answers for what is odd: pipes, devices, missing and unreadable things', () => {
  const host = nodeHost({ args: [] });
  assert.is(host.read('/nonexistent', 0, 10), -2);
  assert.is(host.read('/dev/zero', 0, 10), -95);
  assert.is(host.read('/', 0, 10), -21);
  assert.is(host.readlink('/'), -22);
  assert.equal(
    [host.realPath('/proc/self/../../etc/./passwd'), host.realPath('/'), host.realPath('/nonexistent')],
    ['/etc/passwd', '/', -2],
  );
  assert.is(host.readdir('/etc', 1), -75);
  assert.is(host.read('/etc/passwd', 0, 5 * 1024 * 1024), -22);
  assert.is(host.openKeep('/dev/null'), -95);
  assert.is(failed(host.getent('passwd', '0')), false);
  assert.is(host.getent('passwd', '4000000000'), -2);
  const proc = host.read('/proc/self/cgroup', 0, 1000);
  assert.ok(!failed(proc) && proc.includes(':'));
});

test('what the native program kept from Node is part of the environment again', () => {
  const host = nodeHost({ args: [], environment: { A: '1', TSRUN_HOST_ENV: 'LD_PRELOAD=/x%0Ay%25\nNODE_OPTIONS=%FF' } });
  assert.equal(host.environ(''), [0, 'A', '1', 0, 'LD_PRELOAD', '/x\ny%', 0, 'NODE_OPTIONS', '\xff']);
  assert.equal(host.environ(wordsOf(['X*', 'NODE', 'LD_*', 'LD_PRELOAD', 'NODE_*'])), [
    2,
    'LD_PRELOAD',
    '/x\ny%',
    4,
    'NODE_OPTIONS',
    '\xff',
  ]);
  assert.equal([host.getenv('NODE_OPTIONS'), host.getenv('TSRUN_HOST_ENV')], ['\xff', undefined]);
});

test('an invented machine follows links as Linux does', () => {
  const host = machine({ files: { '/a/b': link('../c'), '/c/d': 'x', '/abs': link('/a/b/d') } });
  assert.is(host.read('/abs', 0, 10), 'x');
  assert.is(host.read('/a/b/../c/d', 0, 10), 'x');
  assert.is(host.read('/c/d/e', 0, 10), -20);
});

test.run();
