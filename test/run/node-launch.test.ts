/** Without an engine in the native program the planner runs in Node, and the run is the same. Needs bin/tsrun. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { skip } from '../helpers/skip.ts';

const test = suite('launching from Node');

const top = new URL('../../', import.meta.url).pathname;
const program = join(top, 'bin/tsrun');
const busybox = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path));
const scratch = mkdtempSync(join(tmpdir(), 'tsrun-node-launch-'));
const image = join(scratch, 'img');

test.before(() => {
  for (const name of ['bin', 'etc', 'tmp', 'proc', 'dev', 'sys']) mkdirSync(join(image, name), { recursive: true });
  if (busybox !== undefined) cpSync(busybox, join(image, 'bin/busybox'));
  symlinkSync('busybox', join(image, 'bin/sh'));
});

test.after(() => rmSync(scratch, { recursive: true, force: true }));

const MAIN = `
import { launchFromNode } from ${JSON.stringify(join(top, 'src/run/node-launch.ts'))};
const [program, ...args] = process.argv.slice(1);
process.exitCode = await launchFromNode({ program, args, prepare: async (asked) => { console.log(asked.join(' ')); return 9; } }) ?? 77;
`;

const launch = (...args: string[]): { status: number | null; stdout: string; stderr: string; pid: number } => {
  const env = { PATH: '/usr/bin:/bin', HOME: scratch, TMPDIR: scratch, FOO: 'bar' };
  const { status, stdout, stderr, pid } = spawnSync(process.execPath, ['--input-type=module', '-e', MAIN, '--', program, ...args], {
    env,
    cwd: scratch,
    encoding: 'utf8',
  });
  return { status, stdout, stderr, pid };
};

const ready = (): boolean => {
  if (existsSync(program) && busybox !== undefined) return true;
  skip(busybox === undefined ? 'busybox is not installed (busybox-static)' : 'bin/tsrun is not built (make)');
  return false;
};

test('the program takes the place of Node: pid, status, arguments, environment, directory', () => {
  if (!ready()) return;
  const ran = launch('exec', image, '/bin/sh', '-c', 'echo $$ "$FOO" "$1"; pwd; exit 7', 'x', 'a b');
  assert.is(ran.stderr, '');
  assert.is(ran.stdout, `${ran.pid} bar a b\n${scratch}\n`);
  assert.is(ran.status, 7);
});

test('nothing is left behind: no plan file, no descriptor', () => {
  if (!ready()) return;
  const open = launch('exec', image, '/bin/sh', '-c', 'for fd in /proc/$$/fd/*; do /bin/busybox readlink "$fd"; done; echo end')
    .stdout.trim()
    .split('\n');
  assert.ok(open.includes('end'));
  assert.equal(
    open.filter((target) => target.includes(scratch) || target.includes('tsrun')),
    [],
  );
  assert.equal(
    readdirSync(scratch).filter((name) => name.startsWith('tsrun-plan')),
    [],
  );
});

test('errors, explanations and foreign verbs end as they should', () => {
  assert.match(launch('exec', '/nope', 'x').stderr, /E_IMAGE_MISSING/);
  assert.is(launch('exec', '/nope', 'x').status, 125);
  assert.match(launch('exec', '--explain', image, 'x').stdout, /^request\n/);
  assert.is(launch('build', 'x').status, 77);
});

test('a failure of the launcher still says what failed, if in plainer words', () => {
  if (!ready()) return;
  const ran = launch('exec', image, '/nope');
  assert.match(ran.stderr, /\/nope/);
  assert.is(ran.status, 127);
});

test('what has to be prepared is done here, and its failure is the end', () => {
  const ran = launch('exec', 'docker://localhost:1/x:1', 'p');
  assert.is(ran.stdout, '__prepare docker://localhost:1/x:1\n');
  assert.is(ran.status, 9);
});

test.run();
