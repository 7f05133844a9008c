/**
 * What a program says, line by line, through pipes as a shell makes them. Node's own are sockets, and nobody can open those by name: `echo > /dev/stderr`
 * would fail in a step.
 */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { StringDecoder } from 'node:string_decoder';

export type OnLine = (stream: 'stdout' | 'stderr', line: string) => void;

export type Outputs = {
  /** For spawn. */
  readonly stdio: readonly ['ignore', number, number];
  /** Once the program has them, or will not be started: from then on they are its own. */
  readonly handedOver: () => void;
  /** When all that have them have ended, and all they said was told. */
  readonly ended: Promise<unknown>;
};

export const openOutputs = (onLine: OnLine): Outputs => {
  const directory = mkdtempSync(join(tmpdir(), 'tsrun-pipes-'));
  try {
    const paths = [`${directory}/stdout`, `${directory}/stderr`] as const;
    // Whatever user a step has become: it may open what it may write to.
    execFileSync('mkfifo', ['-m', '666', ...paths]);
    const readers = paths.map((path) => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK));
    const [stdout, stderr] = paths.map((path) => openSync(path, constants.O_WRONLY)) as [number, number];
    const streams = readers.map((fd) => new Socket({ fd, readable: true, writable: false }));
    for (const [at, stream] of streams.entries()) eachLine(stream, (line) => onLine(at === 0 ? 'stdout' : 'stderr', line));
    return {
      stdio: ['ignore', stdout, stderr],
      handedOver: () => {
        for (const fd of [stdout, stderr]) closeSync(fd);
      },
      ended: Promise.all(streams.map((stream) => finished(stream, { writable: false }))),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

const MAX_LINE = 64 * 1024;

/** Lines as they come, without their ends; a line longer than 64 KiB in pieces. */
const eachLine = (stream: Readable, onLine: (line: string) => void): void => {
  const decoder = new StringDecoder('utf8');
  let held = '';
  stream.on('data', (chunk: Buffer) => {
    held += decoder.write(chunk);
    const lines = held.split('\n');
    held = lines.pop() ?? '';
    for (const line of lines) onLine(line);
    if (held.length > MAX_LINE) {
      onLine(held);
      held = '';
    }
  });
  stream.on('end', () => {
    held += decoder.end();
    if (held !== '') onLine(held);
  });
};

/** A program in a process group of its own, which is killed as a whole by `signal`. Resolves to its exit status (128: ended by a signal). */
export const runGroup = async (
  program: string,
  args: readonly string[],
  { signal, onLine, env }: { readonly signal: AbortSignal; readonly onLine: OnLine; readonly env?: NodeJS.ProcessEnv },
): Promise<number> => {
  const outputs = openOutputs(onLine);
  const child = spawn(program, args, { stdio: [...outputs.stdio], detached: true, ...(env === undefined ? {} : { env }) });
  outputs.handedOver();
  const kill = (): void => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  };
  signal.addEventListener('abort', kill, { once: true });
  const status = new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (ended) => resolve(ended ?? 128));
  }).finally(() => signal.removeEventListener('abort', kill));
  return (await Promise.all([status, outputs.ended]))[0];
};
