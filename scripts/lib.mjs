// What the scripts share. Plain JavaScript for any Node >= 18, without a dependency: they run before node_modules exists.
import { spawnSync } from 'node:child_process';
import * as os from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const isRoot = process.getuid?.() === 0;

/** For make; Node before 18.14 only knows the number of processors. */
export const makeJobs = `-j${os.availableParallelism?.() ?? os.cpus().length}`;

/** The pinned Node 24 and the npm tools come first, however the script was started. */
export const environment = { ...process.env, PATH: join(root, 'node_modules', '.bin') + delimiter + process.env.PATH };

/** A reason to end that is told to the user as it is, without a stack. */
export class Stop extends Error {}

export const say = (text) => process.stderr.write(`${text}\n`);

/** Runs a program with the terminal's own output; returns its exit status (1 when killed or not found). */
export const runShown = (program, args, options = {}) => {
  const result = spawnSync(program, args, { cwd: root, env: environment, stdio: ['ignore', 'inherit', 'inherit'], ...options });
  return result.status ?? 1;
};

/** Runs a program and keeps its output, both streams together as text. */
export const runQuiet = (program, args, options = {}) => {
  const result = spawnSync(program, args, {
    cwd: root,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 256 << 20,
    ...options,
  });
  const trouble = result.error === undefined ? '' : `${program}: ${result.error.message}\n`;
  return { status: result.status ?? 1, output: trouble + (result.stdout ?? '') + (result.stderr ?? '') };
};

/** Runs a program that has to succeed; its output is shown only when it does not. */
export const must = (what, program, args, options = {}) => {
  const { status, output } = runQuiet(program, args, options);
  if (status === 0) return output;
  throw new Stop(`${output.trimEnd()}\n${what} failed: ${program} ${args.join(' ')} (exit status ${status})`);
};

export const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`;

/** Ends the script with the text of a Stop, or with the stack of anything unexpected. */
export const main = async (work) => {
  try {
    process.exitCode = (await work()) ?? 0;
  } catch (error) {
    say(error instanceof Stop ? error.message : String(error?.stack ?? error));
    process.exitCode = 1;
  }
};
