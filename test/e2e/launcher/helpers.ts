/**
 * Runs plans made by hand through `tsrun @plan`, as root or as an ordinary user, in an image that is a directory with one static program
 * (test/native/payload/payload.c) in it.
 */

import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, closeSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PLAN_VERSION } from '../../../src/plan/ops.ts';
import { testUser } from '../../helpers/user.ts';

export type Op = readonly (string | number | Buffer)[];

const top = join(import.meta.dirname, '../../..');
/** The program under test; another build of it (with sanitizers, say) by TSRUN_TEST_BIN. */
export const tsrun = process.env['TSRUN_TEST_BIN'] ?? join(top, 'bin/tsrun');

const PLAN_FD = 3;
/** Nothing of the tests' own environment, but what a build with sanitizers is told. */
const environment = { PATH: process.env['PATH'], ASAN_OPTIONS: process.env['ASAN_OPTIONS'] };

export const encode = (strings: readonly (string | number | Buffer)[]): Buffer =>
  Buffer.concat(strings.flatMap((one) => [Buffer.isBuffer(one) ? one : Buffer.from(String(one)), Buffer.from([0])]));

export const encodePlan = (ops: readonly Op[]): Buffer => encode(['plan', PLAN_VERSION, ...ops.flat(), 'end']);

/** Compiled once per change of the source. */
export const helperProgram = (name: 'payload' | 'deny' | 'calls' | 'race', ...flags: readonly string[]): string => {
  const source = join(top, `test/native/payload/${name}.c`);
  const program = join(top, `build/test/${name}${flags.join('')}`);
  if (!existsSync(program) || statSync(program).mtimeMs < statSync(source).mtimeMs) {
    mkdirSync(join(top, 'build/test'), { recursive: true });
    const fresh = `${program}.${process.pid}`;
    execFileSync('cc', ['-std=gnu11', '-O1', '-Wall', '-Wextra', '-Werror', '-static', '-pthread', ...flags, '-o', fresh, source]);
    execFileSync('mv', ['-f', fresh, program]);
  }
  return program;
};

const scratch: string[] = [];
process.on('exit', () => {
  for (const path of scratch) rmSync(path, { recursive: true, force: true });
});

/** A directory that everyone can look into, removed at the end of the test file. */
export const scratchDirectory = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'tsrun-e2e-'));
  chmodSync(path, 0o755);
  scratch.push(path);
  return path;
};

/** An image: /bin/payload and the directories given. */
export const makeImage = (...directories: readonly string[]): string => {
  const image = scratchDirectory();
  for (const directory of ['bin', ...directories]) mkdirSync(join(image, directory), { recursive: true });
  copyFileSync(helperProgram('payload'), join(image, 'bin/payload'));
  chmodSync(join(image, 'bin/payload'), 0o755);
  return image;
};

export type User = { readonly name: string; readonly uid: number; readonly gid: number };

export const ordinary: User = testUser();
export const root: User = { name: 'root', uid: 0, gid: 0 };
/** Whom tests run as: the ordinary user always, root where the tests are root's. */
export const users: readonly User[] = process.getuid?.() === 0 ? [ordinary, root] : [ordinary];

export type Setup = {
  readonly image?: string;
  readonly user?: User;
  readonly userns?: readonly Op[];
  readonly unshare?: string;
  readonly skeleton?: readonly Op[];
  readonly root?: Op;
  readonly mounts?: readonly Op[];
  readonly settle?: readonly Op[];
  readonly env?: readonly string[];
  readonly file?: string;
  /** Words before tsrun on the command line. */
  readonly wrapper?: readonly string[];
  readonly cwd?: string;
  /** Descriptors given to tsrun from 4 on. */
  readonly fds?: readonly number[];
  readonly input?: string;
};

export const makePlan = (setup: Setup, args: readonly string[]): readonly Op[] => {
  const user = setup.user ?? ordinary;
  return [
    ...(setup.userns ?? [
      ['userns', user.uid, user.gid],
      ['image_directory', setup.image ?? ''],
    ]),
    ['unshare', setup.unshare ?? 'mount'],
    ...(setup.skeleton ?? []),
    setup.root ?? ['root', '', 0],
    ...(setup.mounts ?? []),
    ['pivot'],
    ...(setup.settle ?? []),
    ...(setup.env ?? []).map((each): Op => ['env', each]),
    ...args.map((each): Op => ['arg', each]),
    ['exec', setup.file ?? '/bin/payload'],
  ];
};

export type Result = { readonly status: number | null; readonly signal: string | null; readonly out: string; readonly err: string };

const planFile = (bytes: Buffer): number => {
  const path = join(scratchDirectory(), 'plan');
  writeFileSync(path, bytes);
  return openSync(path, 'r');
};

export const runBytes = (bytes: Buffer, setup: Setup = {}): Result => {
  const user = setup.user ?? ordinary;
  const fd = planFile(bytes);
  const words = [...(setup.wrapper ?? []), tsrun, '@plan', String(PLAN_FD)];
  const done = spawnSync(words[0] ?? tsrun, words.slice(1), {
    uid: user.uid,
    gid: user.gid,
    cwd: setup.cwd ?? '/',
    env: environment,
    stdio: ['pipe', 'pipe', 'pipe', fd, ...(setup.fds ?? [])],
    input: setup.input ?? '',
    timeout: 60_000,
    encoding: 'latin1',
  });
  closeSync(fd);
  if (done.error !== undefined) throw done.error;
  return { status: done.status, signal: done.signal, out: done.stdout, err: done.stderr };
};

/** Runs the payload's verbs (words separated by spaces, "," between verbs) in the image of `setup`. */
export const payload = (setup: Setup, verbs: string): Result =>
  runBytes(encodePlan(makePlan(setup, ['payload', ...verbs.split(' ')])), setup);

/** The same, failing with what tsrun said when it did not get to the payload. */
export const output = (setup: Setup, verbs: string): string => {
  const result = payload(setup, verbs);
  if (result.err !== '') throw new Error(`stderr: ${result.err}`);
  return result.out;
};

/** Starts without waiting. Standard output is a pipe. */
export const startPayload = (setup: Setup, verbs: string): ChildProcess => {
  const user = setup.user ?? ordinary;
  const fd = planFile(encodePlan(makePlan(setup, ['payload', ...verbs.split(' ')])));
  const child = spawn(tsrun, ['@plan', String(PLAN_FD)], {
    uid: user.uid,
    gid: user.gid,
    cwd: '/',
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit', fd],
  });
  closeSync(fd);
  return child;
};
