/**
 * exec, run and shell where the native program has no engine in it: the same planner in Node, then the native program carries out the plan in the
 * place of this process. Slower, never different.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeAnswer } from '../plan/encode.ts';
import type { Answer } from '../plan/ops.ts';
import { EXIT_TSRUN } from '../util/errors.ts';
import { nodeHost } from './host-node.ts';
import { failureOf, plan } from './start.ts';

export type NodeLaunch = {
  /** The native program, absolute. */
  readonly program: string;
  /** Arguments of the command: `exec …`. */
  readonly args: readonly string[];
  /** Does what a "prepare" answer asks for, in this process; its exit status. */
  readonly prepare: (args: readonly string[]) => Promise<number>;
};

/** Reads the plan from descriptor 3, whose file has no name any more when the program starts. */
const HAND_OVER = 'exec 3<"$2" && rm -rf "$1" && shift 2 && exec "$@" @plan 3';

/**
 * Plans and starts the run; the program takes this process's place, so there is no return from success.
 * @returns the exit status of a failure or of printed text; null: the command is none of exec, run and shell.
 */
export const launchFromNode = async ({ program, args, prepare }: NodeLaunch): Promise<number | null> => {
  const host = nodeHost({ args: ['tsrun', ...args] });
  let answer = tryPlan(() => plan(host, ''));
  if (answer.kind === 'prepare') {
    const status = await prepare(answer.args);
    if (status !== 0) return status;
    answer = tryPlan(() => plan(host, 'prepared'));
  }
  switch (answer.kind) {
    case 'node':
      return null;
    case 'print':
    case 'fail':
      writeSync(answer.kind === 'print' ? 1 : 2, Buffer.from(answer.text, 'latin1'));
      return answer.status;
    case 'prepare':
      writeSync(2, 'tsrun: internal error: asked twice to prepare the same run (E_INTERNAL)\n');
      return EXIT_TSRUN;
    case 'plan':
      return handOver(program, encodeAnswer(answer));
  }
};

const tryPlan = (work: () => Answer): Answer => {
  try {
    return work();
  } catch (error) {
    return failureOf(error);
  }
};

const handOver = (program: string, answer: string): number => {
  const directory = mkdtempSync(join(tmpdir(), 'tsrun-plan-'));
  const path = join(directory, 'plan');
  try {
    const descriptor = openSync(path, 'wx', 0o600);
    writeSync(descriptor, Buffer.from(answer, 'latin1'));
    closeSync(descriptor);
    const words = ['sh', '-c', HAND_OVER, 'sh', directory, path, program];
    // Node's own descriptors close on exec; only a shell can give the program one that does not.
    if (process.execve !== undefined) process.execve('/bin/sh', words, process.env as Record<string, string>);
    const { status, signal } = spawnSync('/bin/sh', words.slice(1), { stdio: 'inherit' });
    if (signal !== null) process.kill(process.pid, signal);
    return status ?? EXIT_TSRUN;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};
