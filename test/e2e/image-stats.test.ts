/** `tsrun image stats`: what the image servers of a user say about themselves. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { ServerStats } from '../../src/cli/image-stats.ts';
import { environmentOf, makeBusyboxImage, run, scratch, tsrun, tsrunOk, tsrunPath } from '../helpers/product.ts';
import { testUser } from '../helpers/user.ts';

const test = suite('image stats');
const place = scratch('image-stats');
/** A program that reads next to nothing of itself. */
const longBytes = 1_500_000;
const image = makeBusyboxImage(place, (tree) => {
  const start = '#!/bin/sh\necho ready; read end; exit 0\n';
  writeFileSync(join(tree, 'opt/long'), start + randomBytes(longBytes).toString('hex').slice(start.length, longBytes), { mode: 0o755 });
});

/** A runtime directory of its own, so that only this test's servers are there. */
const ownRuntime = (name: string): string => {
  const runtime = join(place, name);
  mkdirSync(runtime, { mode: 0o700 });
  run('/bin/chown', [String(testUser().uid), runtime], { as: 'root' });
  return runtime;
};

const statsOf = (runtime: string): readonly ServerStats[] =>
  (JSON.parse(tsrunOk(['image', 'stats', '--json'], { env: { XDG_RUNTIME_DIR: runtime } })) as { servers: ServerStats[] }).servers.filter(
    ({ directory }) => directory === `${runtime}/tsrun`,
  );

/** A run that has said "ready", and ends when told. */
const waitingRun = async (runtime: string, args: readonly string[]): Promise<{ end: () => Promise<number | null> }> => {
  const child = spawn(tsrunPath, ['exec', image, ...args], {
    env: environmentOf({ env: { XDG_RUNTIME_DIR: runtime } }),
    uid: testUser().uid,
    gid: testUser().gid,
    cwd: '/tmp',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
  let text = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      text += chunk;
      if (text.endsWith('ready\n')) resolve();
    });
    child.on('exit', () => reject(new Error(text)));
  });
  const end = (): Promise<number | null> => {
    child.stdin.end('\n');
    return ended;
  };
  return { end };
};

test('requests, cache and memory of a server that is there; the same as a table', async () => {
  const runtime = ownRuntime('one');
  const waiting = await waitingRun(runtime, ['sh', '-c', 'cat /opt/tool/data.txt; ls -l /etc >/dev/null; echo ready; read end']);
  const [server, ...more] = statsOf(runtime);
  assert.is(more.length, 0);
  assert.is(server?.images.length, 1);
  const stats = server?.images[0] as NonNullable<typeof server>['images'][0];
  assert.is(stats.name, image);
  assert.is(stats.runs, 1);
  assert.is(stats.failed, 0);
  assert.is(stats.replaced, 0);
  for (const [name, value] of Object.entries({ lookup: stats.lookup, read: stats.read, readdir: stats.readdir }))
    assert.ok(value > 0, `${name} ${value}`);
  assert.ok(stats.bytes > 700_000 && stats.cache > 10_000 && stats.hits > stats.loads && stats.loads > 2, JSON.stringify(stats));
  assert.ok((stats.resident ?? 0) > 100_000 && (stats.resident ?? 0) < 32e6, `resident ${stats.resident}`);

  const shown = tsrunOk(['image', 'stats'], { env: { XDG_RUNTIME_DIR: runtime } });
  const table = shown.slice(shown.indexOf(`server ${server?.key}`));
  assert.match(table, /^server \S+ in \S+\/one\/tsrun \(process \d+, \d+\.\d MB\)\n {2}RUNS {2}LOOKUP .*RESTARTS {2}ERRORS\n/);
  assert.match(table, new RegExp(`^ +1 .* MB +\\d+ %.* ${image}$`, 'm'));

  assert.is(await waiting.end(), 0);
});

test('the program of the first run of an image is asked for before it is started, also where it reads little of it', async () => {
  const bytesOf = async (name: string, ...args: readonly string[]): Promise<number> => {
    const runtime = ownRuntime(name);
    const waiting = await waitingRun(runtime, args);
    const bytes = statsOf(runtime)[0]?.images[0]?.bytes ?? 0;
    assert.is(await waiting.end(), 0);
    return bytes;
  };
  const beside = await bytesOf('beside', 'sh', '-c', '/opt/long');
  const started = await bytesOf('started', '/opt/long');
  assert.ok(started > beside + 500_000, `${started} bytes, and ${beside} when the shell starts it`);
});

test('without a server it says so, and a socket that was left behind is none', () => {
  const runtime = ownRuntime('none');
  const left = join(runtime, 'tsrun');
  mkdirSync(left, { mode: 0o700 });
  run('/bin/chown', [String(testUser().uid), left], { as: 'root' });
  const bind = 'import socket,sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(sys.argv[1])';
  for (const protocol of [2, 3, 4, 5, 6, 7]) assert.is(run('/usr/bin/python3', ['-c', bind, join(left, `old.${protocol}.sock`)]).status, 0);
  assert.equal(statsOf(runtime), []);
});

test('a directory of somebody else is refused', () => {
  const runtime = ownRuntime('foreign');
  mkdirSync(join(runtime, 'tsrun'), { mode: 0o755 });
  const ran = tsrun(['image', 'stats'], { env: { XDG_RUNTIME_DIR: runtime } });
  assert.is(ran.status, 125);
  assert.match(ran.stderr, /cannot look for image servers in .*foreign\/tsrun: it belongs to somebody else/);
});

test.run();
