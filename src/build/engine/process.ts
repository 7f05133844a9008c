/**
 * A step's plan carried out: the native program takes the plan from descriptor 3 and becomes the step. Its lines are handed on as they come; when
 * the build is given up, the launcher is killed, and with it (a PID namespace of its own) all that the step has started.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { encodeAnswer } from '../../plan/encode.ts';
import type { Plan } from '../../plan/ops.ts';
import { TsrunError } from '../../util/errors.ts';
import { nativeProgram } from '../../util/native-program.ts';
import { gathered } from '../child-stream.ts';
import { type OnLine, openOutputs } from './outputs.ts';

/** The native program itself, as a step's plan names it: it needs nothing of the image. Descriptor 4 is open on it. */
export const TOOL = '/proc/self/fd/4';

const MAX_MESSAGE = 4000;

export type Running = {
  readonly signal: AbortSignal;
  readonly onLine: OnLine;
  /** In the terminal of the caller, for a person. */
  readonly terminal?: boolean | undefined;
};

/** How a step's program ended: its exit status, 128 + the number of the signal that ended it. */
export const runPlan = async (plan: Plan, { signal, onLine, terminal = false }: Running): Promise<number> => {
  const status = terminal ? await start(plan, ['inherit', 'inherit', 'inherit'], signal).ended : await told(plan, signal, onLine);
  signal.throwIfAborted();
  return status;
};

const told = async (plan: Plan, signal: AbortSignal, onLine: OnLine): Promise<number> => {
  const outputs = openOutputs(onLine);
  let child: Child;
  try {
    child = start(plan, outputs.stdio, signal);
  } finally {
    outputs.handedOver();
  }
  const [status] = await Promise.all([child.ended, outputs.ended]);
  return status;
};

/** What the tool writes in a tree. @throws TsrunError E_BUILD_TREE, when reading */
export async function* planOutput(plan: Plan, what: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const child = start(plan, ['ignore', 'pipe', 'pipe'], signal);
  const message = messageOf(child.stderr);
  try {
    yield* gathered(child.stdout as Readable);
    await finished(child.ended, message, what, signal);
  } finally {
    child.kill();
    await child.ended;
  }
}

/** Feeds the tool in a tree. @throws TsrunError E_BUILD_TREE, and what `input` throws */
export const feedPlan = async (plan: Plan, input: AsyncIterable<Uint8Array>, what: string, signal: AbortSignal): Promise<void> => {
  const child = start(plan, ['pipe', 'ignore', 'pipe'], signal);
  await feed(child, input, what, signal);
};

/** A role of the native program that says nothing but what is wrong. */
export const runRole = async (args: readonly string[], what: string, signal: AbortSignal | undefined): Promise<void> => {
  const child = startRole(args, ['ignore', 'ignore', 'pipe'], signal);
  await finished(child.ended, messageOf(child.stderr), what, signal);
};

const feed = async (child: Child, input: AsyncIterable<Uint8Array>, what: string, signal: AbortSignal): Promise<void> => {
  const message = messageOf(child.stderr);
  let failure: unknown;
  try {
    await pipeline(Readable.from(input, { objectMode: false }), child.stdin as NodeJS.WritableStream);
  } catch (error) {
    // Where the reader ended first, its own words are better.
    if (codeOf(error) !== 'EPIPE' && codeOf(error) !== 'ERR_STREAM_PREMATURE_CLOSE') {
      failure = error;
      child.kill();
    }
  }
  if (failure === undefined) return finished(child.ended, message, what, signal);
  await child.ended;
  throw failure;
};

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined);

const finished = async (ended: Promise<number>, message: () => string, what: string, signal: AbortSignal | undefined): Promise<void> => {
  const status = await ended;
  signal?.throwIfAborted();
  if (status !== 0)
    throw new TsrunError({ code: 'E_BUILD_TREE', what, why: message().replace(/^tsrun: /, '') || `ended with status ${status}` });
};

const messageOf = (stream: Readable | null): (() => string) => {
  let text = '';
  stream?.setEncoding('utf8').on('data', (part: string) => {
    text = (text + part).slice(0, MAX_MESSAGE);
  });
  return () => text.trim();
};

type Child = {
  readonly stdin: NodeJS.WritableStream | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  readonly ended: Promise<number>;
  readonly kill: () => void;
};

type Stdio = 'ignore' | 'inherit' | 'pipe' | number;

const start = (plan: Plan, stdio: readonly Stdio[], signal: AbortSignal): Child => {
  const bytes = Buffer.from(encodeAnswer({ kind: 'plan', plan }), 'latin1');
  const isTool = plan.ops.some((op) => op.op === 'exec' && op.file === TOOL);
  const tool = isTool ? openSync(nativeProgram(), 'r') : undefined;
  try {
    return spawned(
      ['@plan', '3', String(process.pid)],
      [...stdio, 'pipe', ...(tool === undefined ? [] : [tool])],
      signal,
      stdio[0] === 'inherit',
      bytes,
    );
  } finally {
    if (tool !== undefined) closeSync(tool);
  }
};

const startRole = (args: readonly string[], stdio: readonly Stdio[], signal: AbortSignal | undefined): Child =>
  spawned(args, stdio, signal, false, undefined);

/** Steps see the umask that Docker gives them; and no environment, which is the plan's to say. */
const STEP_UMASK = 0o022;

const spawned = (
  args: readonly string[],
  stdio: readonly Stdio[],
  signal: AbortSignal | undefined,
  terminal: boolean,
  plan: Uint8Array | undefined,
): Child => {
  signal?.throwIfAborted();
  const before = process.umask(STEP_UMASK);
  // A session of its own: the terminal's Ctrl-C is for the build, which then ends the step.
  const child = spawn(nativeProgram(), args, { stdio: [...stdio], detached: !terminal, env: {} });
  process.umask(before);
  const kill = (): void => {
    child.kill('SIGKILL');
  };
  signal?.addEventListener('abort', kill, { once: true });
  const ended = new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, name) => resolve(status ?? 128 + (name === null ? 0 : signalNumber(name))));
  }).finally(() => signal?.removeEventListener('abort', kill));
  // Whoever waits hears of it.
  ended.catch(() => undefined);
  if (plan !== undefined) {
    const pipe = child.stdio[3] as NodeJS.WritableStream;
    pipe.on('error', () => undefined);
    pipe.end(plan);
  }
  return { stdin: child.stdin, stdout: child.stdout, stderr: child.stderr, ended, kill };
};

const NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};

const signalNumber = (name: NodeJS.Signals): number => NUMBERS[name] ?? 0;
