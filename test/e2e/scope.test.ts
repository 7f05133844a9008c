/** A scope's server as many runs meet it: one, however many come at once; it outlives whoever started it; its end is the last run's end. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { allProcesses, nameOf } from '../helpers/processes.ts';
import { environmentOf, makeBusyboxImage, run, scratch, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { runtimeIn, until } from '../helpers/servers.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('scope');
const place = scratch('scope');
const image = makeBusyboxImage(place);
const user = testUser();
const isRoot = process.getuid?.() === 0;

/** WIRE_DIR_FD of native/server_wire.h. */
const RUNTIME_FD = 4;

/** Servers whose runtime directory this is, zombies apart. */
const serversOf = (runtime: string): number[] =>
  allProcesses()
    .filter((pid) => nameOf(pid) === 'tsrun-server')
    .filter((pid) => {
      try {
        const [own, its] = [statSync(join(runtime, 'tsrun')), statSync(`/proc/${pid}/fd/${RUNTIME_FD}`)];
        return own.dev === its.dev && own.ino === its.ino;
      } catch {
        return false;
      }
    });

type Run = { readonly child: ChildProcess; readonly text: () => string; readonly end: Promise<number | NodeJS.Signals | null> };

const start = (runtime: string, script: string): Run => {
  const child = spawn(tsrunPath, ['exec', image, 'sh', '-c', script], {
    env: environmentOf({ env: { XDG_RUNTIME_DIR: runtime } }),
    uid: user.uid,
    gid: user.gid,
    cwd: '/tmp',
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (text += chunk));
  child.stdin?.on('error', () => {});
  return { child, text: () => text, end: new Promise((resolve) => child.on('close', (status, signal) => resolve(status ?? signal))) };
};

const runtimeOf = (name: string): string => runtimeIn(place, name);

const MANY = 256;
const SCRIPT = 'echo ready $(readlink /proc/self/ns/user); read line; cat /opt/tool/data.txt';
const isReady = (each: Run): boolean => each.text().startsWith('ready ') && each.text().endsWith('\n');

test(`${MANY} runs that come at once have one server, one user namespace and one image mount; the last one's end is its end`, async () => {
  if (!isRoot) return skip('needs root to look into the server');
  const runtime = runtimeOf('at-once');
  const runs = Array.from({ length: MANY }, () => start(runtime, SCRIPT));
  await until(() => runs.every(isReady), 'all run');
  assert.is(serversOf(runtime).length, 1);
  assert.is(new Set(runs.map((each) => each.text())).size, 1, 'one user namespace');
  const [socket = ''] = readdirSync(join(runtime, 'tsrun')).filter((name) => name.endsWith('.sock'));
  const told = JSON.parse(run(tsrunPath, ['@server-statistics', join(runtime, 'tsrun'), socket.replace(/\.\d+\.sock$/, '')]).stdout);
  assert.equal(
    told.images.map((each: { readonly runs: number }) => each.runs),
    [MANY],
  );
  // Whoever started it is among those that go first.
  for (const each of runs.slice(0, MANY / 2)) each.child.kill('SIGKILL');
  for (const each of runs.slice(0, MANY / 2)) assert.is(await each.end, 'SIGKILL');
  assert.is(serversOf(runtime).length, 1);
  for (const each of runs.slice(MANY / 2)) each.child.stdin?.end('\n');
  for (const each of runs.slice(MANY / 2)) {
    assert.is(await each.end, 0);
    assert.match(each.text(), /from the image\n$/);
  }
  await until(() => serversOf(runtime).length === 0, 'the server has ended');
  assert.equal(readdirSync(join(runtime, 'tsrun')), []);
});

test('whoever starts the server may die at any moment: the others take over', async () => {
  if (!isRoot) return skip('needs root to look into the server');
  for (let round = 0; round < 12; round++) {
    const runtime = runtimeOf(`starter-${round}`);
    const starter = start(runtime, SCRIPT);
    const others = Array.from({ length: 8 }, () => start(runtime, SCRIPT));
    // A little later each time, so at different steps.
    for (let turn = 0; turn < round * 4; turn++) await new Promise((resolve) => setImmediate(resolve));
    starter.child.kill('SIGKILL');
    await until(() => others.every(isReady), 'the others run');
    assert.is(serversOf(runtime).length, 1);
    for (const each of others) each.child.stdin?.end('\n');
    for (const each of others) assert.is(await each.end, 0, each.text());
    await until(() => serversOf(runtime).length === 0, 'the server has ended');
  }
});

test('a server that is killed while runs wait for it is replaced by one of them', async () => {
  if (!isRoot) return skip('needs root to find the server');
  for (let round = 0; round < 6; round++) {
    const runtime = runtimeOf(`killed-${round}`);
    const runs = Array.from({ length: 16 }, () => start(runtime, SCRIPT));
    await until(() => serversOf(runtime).length > 0 || runs.some(isReady), 'a server');
    for (const pid of serversOf(runtime)) process.kill(pid, 'SIGKILL');
    await until(() => runs.every((each) => isReady(each) || each.child.exitCode !== null), 'all run');
    for (const each of runs) each.child.stdin?.end('\n');
    for (const each of runs) assert.is(await each.end, 0, each.text());
    await until(() => serversOf(runtime).length === 0, 'no server');
  }
});

test('runs of other groups, and of another PID namespace, have scopes of their own', () => {
  if (!isRoot) return skip('needs root to change groups');
  const runtime = runtimeOf('groups');
  // So long that the server is there for the next one: another scope is not one that began anew.
  const env = { XDG_RUNTIME_DIR: runtime, TSRUN_LINGER: '60' };
  const as = (groups: string, before: readonly string[] = []): string => {
    const [program = '', ...args] = [...before, 'setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, groups];
    const ran = run(program, [...args, tsrunPath, 'exec', image, 'readlink', '/proc/self/ns/user'], { env, as: 'root' });
    assert.is(ran.status, 0, ran.stderr);
    return ran.stdout;
  };
  const plain = tsrunOk(['exec', image, 'readlink', '/proc/self/ns/user'], { env });
  assert.is(as('--clear-groups'), plain, 'the linger time keeps a scope for the next run');
  assert.is.not(as('--groups=4242'), plain);
  assert.is.not(as('--clear-groups', ['unshare', '--pid', '--fork', '--mount-proc']), plain);
});

test.run();
