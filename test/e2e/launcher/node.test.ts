/** What is not a run is Node's: found beside the program, started without the host's library and module paths. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ordinary, scratchDirectory, tsrun } from './helpers.ts';

const test = suite('launcher: Node');

const program = `
process.stdout.write(JSON.stringify({ args: process.argv.slice(2), env: process.env }));
if (process.argv.includes('status')) process.exit(Number(process.argv.at(-1)));
if (process.argv.includes('signal')) process.kill(process.pid, process.argv.at(-1));
`;

/** A place with tsrun, Node and, instead of the full program, one that tells what it was given. */
const installed = (layout: 'release' | 'source tree'): string => {
  const top = scratchDirectory();
  const machine = process.arch === 'arm64' ? 'arm64' : 'x64';
  const [node, main] =
    layout === 'release' ? ['lib/node/bin/node', 'lib/cli/main.js'] : [`node_modules/node-linux-${machine}/bin/node`, 'build/cli/main.js'];
  for (const path of ['bin/tsrun', node, main]) mkdirSync(join(top, path, '..'), { recursive: true });
  copyFileSync(tsrun, join(top, 'bin/tsrun'));
  symlinkSync(process.execPath, join(top, node));
  writeFileSync(join(top, main), program);
  return top;
};

const run = (top: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
  const home = scratchDirectory();
  const done = spawnSync(join(top, 'bin/tsrun'), args, {
    uid: ordinary.uid,
    gid: ordinary.gid,
    cwd: '/',
    encoding: 'latin1',
    env: { HOME: home, PATH: '/bin', ...env },
  });
  return { status: done.status, signal: done.signal, err: done.stderr, told: done.stdout === '' ? undefined : JSON.parse(done.stdout) };
};

for (const layout of ['release', 'source tree'] as const) {
  test(`${layout}: other commands are Node's, with all their arguments`, () => {
    const result = run(installed(layout), ['inspect', '--json', 'a b', '', '\u00e9']);
    assert.equal([result.status, result.err], [0, '']);
    assert.equal(result.told.args, ['inspect', '--json', 'a b', '', '\u00c3\u00a9']);
  });
}

test('its exit status and signals are Node’s own', () => {
  const top = installed('release');
  assert.is(run(top, ['inspect', 'status', '3']).status, 3);
  assert.is(run(top, ['inspect', 'signal', 'SIGTERM']).signal, 'SIGTERM');
});

test('what has to be fetched before a run is fetched by Node, whose failure is the run’s', () => {
  const top = installed('release');
  writeFileSync(join(top, 'lib/cli/main.js'), 'console.error(process.argv.slice(2, 4).join(" ")); process.exit(7);');
  const result = run(top, ['exec', 'docker://127.0.0.1:1/none:1', 'true']);
  assert.is(result.status, 7);
  assert.match(result.err, /docker:\/\/127\.0\.0\.1:1\/none:1\n$/);
  writeFileSync(join(top, 'lib/cli/main.js'), 'process.kill(process.pid, "SIGKILL")');
  const killed = run(top, ['exec', 'docker://127.0.0.1:1/none:1', 'true']);
  assert.ok(killed.status === 137 || killed.signal === 'SIGKILL');
});

test('what the host sets for its own programs reaches the full program as data only', () => {
  const host = { LD_LIBRARY_PATH: '/opt/x:/opt/y z%\n', LD_PRELOAD: '/none.so', NODE_OPTIONS: '--require /none.js', NODE_PATH: '/modules' };
  const { status, told } = run(installed('release'), ['inspect'], { ...host, OTHER: 'stays', TSRUN_HOST_ENV: 'stale' });
  assert.is(status, 0);
  for (const name of Object.keys(host)) assert.is(told.env[name], undefined, name);
  assert.is(told.env.OTHER, 'stays');
  const lines = (told.env.TSRUN_HOST_ENV as string).split('\n');
  assert.equal(Object.fromEntries(lines.map((line) => decodeURIComponent(line).split(/=(.*)/s).slice(0, 2))), host);
});

test('without such variables the list is empty', () => {
  assert.is(run(installed('release'), ['inspect']).told.env.TSRUN_HOST_ENV, '');
});

test('a missing Node is named', () => {
  const top = installed('release');
  rmSync(join(top, 'lib/node'), { recursive: true });
  const result = run(top, ['inspect']);
  assert.is(result.status, 125);
  assert.is(
    result.err,
    `tsrun: cannot start Node: lib/node/bin/node does not lie beside ${top}/bin/tsrun: No such file or directory (E_NODE)\n`,
  );
});

test.run();
