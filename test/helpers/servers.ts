/** Runs that stay until they are told to go, and the image server's processes behind them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { childrenOf, field, nameOf, neighboursOf } from './processes.ts';
import { environmentOf, type RunOptions, tsrunOk, tsrunPath } from './product.ts';
import { testUser } from './user.ts';

const user = testUser();

/** The processes of the payload's scope, by their names in its user namespace: the server, the one that serves, the one that fetches. 0: it is not there. */
export const processesOf = (payload: number): { readonly server: number; readonly serving: number; readonly fetching: number } => {
  const mine = neighboursOf(payload);
  const named = (name: string): number => mine.find((pid) => nameOf(pid) === name) ?? 0;
  return { server: named('tsrun-server'), serving: named('tsrun-image'), fetching: named('tsrun-fetch') };
};

/** The process that serves the only image of a server. */
export const servingOf = (server: number): number | undefined => childrenOf(server).find((pid) => nameOf(pid) === 'tsrun-image');

/** A runtime directory of its own in `place`: with it each test has servers of its own, and nobody else's are killed. */
export const runtimeIn = (place: string, name: string): string => {
  const runtime = join(place, name);
  if (!existsSync(runtime)) {
    mkdirSync(runtime, { mode: 0o700 });
    if (process.getuid?.() === 0) chownSync(runtime, user.uid, user.gid);
  }
  return runtime;
};

export type Staying = ChildProcess & { readonly text: () => string };

/** A run of `sh -c script` that resolves when it has said "ready"; the script then waits for a line of its standard input. `before`: words before tsrun's. */
export const startStaying = async (runtime: string, words: readonly string[], before: readonly string[] = []): Promise<Staying> => {
  const [program = '', ...args] = [...before, tsrunPath, 'exec', ...words];
  const child = spawn(program, args, {
    env: environmentOf({ env: { XDG_RUNTIME_DIR: runtime } }),
    // Words before are root's: they may become the user in their own way.
    ...(before[0] === 'setpriv' ? {} : { uid: user.uid, gid: user.gid }),
    cwd: '/tmp',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let text = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on('data', (chunk) => {
      text += chunk;
      if (text.includes('ready\n')) resolve();
    });
    child.on('exit', () => reject(new Error(`ended early: ${text}`)));
  });
  return Object.assign(child, { text: () => text });
};

/** A run of the test user under strace, which writes to `trace`. With `inject` it can stop the run at a step. */
export const startTraced = (trace: string, inject: readonly string[], words: readonly string[], options: RunOptions): Staying => {
  const child = spawn('strace', ['-o', trace, ...inject, tsrunPath, ...words], {
    env: environmentOf(options),
    uid: user.uid,
    gid: user.gid,
    cwd: options.cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('latin1').on('data', (chunk) => (text += chunk));
  return Object.assign(child, { text: () => text });
};

/** Ends the only server of a runtime directory as nothing that ends by itself does. */
export const killServer = async (env: NonNullable<RunOptions['env']>): Promise<void> => {
  const { pid } = JSON.parse(tsrunOk(['image', 'stats', '--json'], { env })).servers[0];
  process.kill(pid, 'SIGKILL');
  await until(() => field(pid, 'Name') === undefined, 'the server has ended');
};

export const endOf = (child: ChildProcess): Promise<number | null> =>
  child.exitCode !== null ? Promise.resolve(child.exitCode) : new Promise((resolve) => child.on('exit', resolve));

export const until = async (fact: () => boolean, what = ''): Promise<void> => {
  for (const end = Date.now() + 60_000; !fact(); ) {
    if (Date.now() > end) throw new Error(`it did not come true within 60 s: ${what || fact}`);
    await new Promise((resolve) => setTimeout(resolve, 10)); // what is waited for needs the processors
  }
};
