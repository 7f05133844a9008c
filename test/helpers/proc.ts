/** Programs in tests: run to their end, or started and watched. Nothing here waits by the clock; limits only end what hangs. */
import { type ChildProcess, spawn } from 'node:child_process';

/** What the program, run unbuilt, needs of the test's own environment. */
export const forNode = (): Record<string, string> => ({
  PATH: process.env['PATH'] ?? '',
  NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? '',
});

export type RunOptions = {
  readonly cwd?: string;
  /** The whole environment; the test's own when absent. */
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string | Uint8Array;
  /** 60 by default; then the program is killed and the promise rejects. */
  readonly limitSeconds?: number;
};

/** Streams as text; `status` is null when a signal ended the program. */
export type RunResult = {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
};

const started = new Set<ChildProcess>();
let watching = false;

const track = (child: ChildProcess): void => {
  if (!watching) process.on('exit', killStarted);
  watching = true;
  started.add(child);
  child.on('exit', () => started.delete(child));
};

const killStarted = (): void => {
  for (const child of started) child.kill('SIGKILL');
};

/** Runs a program to its end. Rejects when it cannot be started or does not end in time; any exit status resolves. */
export const run = (argv: readonly string[], options: RunOptions = {}): Promise<RunResult> =>
  new Promise((resolve, reject) => {
    const { cwd, env, input, limitSeconds = 60 } = options;
    const child = spawn(argv[0] ?? '', argv.slice(1), { cwd, env: env ?? process.env, stdio: ['pipe', 'pipe', 'pipe'] });
    track(child);
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    // A program that does not read its input closes the pipe; its exit status tells the rest.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    const texts = () => ({ stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${argv.join(' ')} did not end in ${limitSeconds} s: ${JSON.stringify(texts())}`));
    }, limitSeconds * 1000);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      resolve({ status, signal, ...texts() });
    });
  });

/** Runs a program that has to succeed and returns its standard output. */
export const must = async (argv: readonly string[], options: RunOptions = {}): Promise<string> => {
  const result = await run(argv, options);
  if (result.status !== 0) throw new Error(`${argv.join(' ')}: ${result.status ?? result.signal}\n${result.stdout}${result.stderr}`);
  return result.stdout;
};

export type Running = {
  readonly pid: number;
  /** Resolves with everything written so far (both streams) as soon as it matches; rejects when the program ends before. */
  readonly until: (pattern: RegExp) => Promise<string>;
  readonly output: () => string;
  readonly ended: Promise<{ readonly status: number | null; readonly signal: NodeJS.Signals | null }>;
  /** Sends the signal (TERM by default) and waits for the end. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<void>;
};

/** Starts a program that goes on in the background; it is killed when the test process ends. */
export const start = (argv: readonly string[], options: Pick<RunOptions, 'cwd' | 'env'> = {}): Running => {
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  track(child);
  let text = '';
  const waiting = new Set<() => void>();
  const more = (chunk: Buffer | string): void => {
    text += chunk.toString();
    for (const check of waiting) check();
  };
  child.stdout.on('data', more);
  child.stderr.on('data', more);
  child.on('error', (error) => more(`${error.message}\n`));
  let over = false;
  const ended = new Promise<{ status: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on('close', (status, signal) => {
      over = true;
      resolve({ status, signal });
      for (const check of waiting) check();
    });
  });
  const until = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        const found = pattern.test(text);
        if (!found && !over) return;
        waiting.delete(check);
        if (found) resolve(text);
        else reject(new Error(`${argv.join(' ')} ended without ${pattern}:\n${text}`));
      };
      waiting.add(check);
      check();
    });
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    child.kill(signal);
    await ended;
  };
  return { pid: child.pid ?? -1, until, output: () => text, ended, stop };
};
