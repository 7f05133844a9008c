/**
 * The ways to have the tree as a program's root, each with the same start around it: a directory, the image mounted by the kernel, by squashfuse, and by tsrun. All
 * run as the ordinary user. Peers are entered with bubblewrap, whose start costs about as much as tsrun's.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { environmentOf, tsrunPath } from '../../test/helpers/product.ts';
import { testUser } from '../../test/helpers/user.ts';
import type { Data } from './data.ts';
import { TIMER } from './data.ts';

export type Side = {
  readonly name: string;
  /** The command that runs `words` with the tree as its root. */
  readonly enter: (words: readonly string[]) => readonly string[];
  readonly env: () => Readonly<Record<string, string>>;
  /** Everything anew, nothing read yet: mounted again, and no server left. Not timed, except for what tsrun does when it is started. */
  readonly renew: () => void;
  readonly end: () => void;
};

/** What the import benchmarks run. */
export const IMPORT = [
  '/usr/bin/python3',
  '-I',
  '-B',
  '-c',
  'import numpy, scipy.linalg, scipy.sparse, scipy.optimize, scipy.stats',
] as const;

export type Place = { readonly data: Data; readonly scratch: string };

const user = testUser();

/** Its scratch directory goes with the process; so does what is mounted below it, however the process ends. */
export const makePlace = (data: Data, name: string): Place => {
  const scratch = mkdtempSync(`/tmp/tsrun-bench-${name}-`);
  execFileSync('chmod', ['755', scratch]);
  process.on('exit', () => {
    for (const mount of ['kernel', 'squashfuse']) spawnSync('umount', ['-q', join(scratch, mount)]);
    rmSync(scratch, { recursive: true, force: true });
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));
  return { data, scratch };
};

const bubblewrap = (root: string, words: readonly string[]): readonly string[] => [
  '/usr/bin/bwrap',
  ...['--ro-bind', root, '/', '--dev-bind', '/dev', '/dev', '--proc', '/proc', '--ro-bind', '/sys', '/sys', '--bind', '/tmp', '/tmp'],
  ...words,
];

export const directory = ({ data }: Place): Side => ({
  name: 'directory',
  enter: (words) => bubblewrap(data.tree, words),
  env: () => ({}),
  renew: () => {},
  end: () => {},
});

export const kernelSquash = ({ data, scratch }: Place): Side => {
  const at = join(scratch, 'kernel');
  const unmount = (): void => void spawnSync('umount', [at]);
  return {
    name: 'kernel SquashFS',
    enter: (words) => bubblewrap(at, words),
    env: () => ({}),
    renew: () => {
      unmount();
      mkdirSync(at, { recursive: true });
      execFileSync('mount', ['-t', 'squashfs', '-o', `loop,ro,offset=${data.offset}`, data.image, at]);
    },
    end: unmount,
  };
};

/** Served by root, so that fusermount is not needed. Undefined where it is not installed. */
export const squashfuse = ({ data, scratch }: Place): Side | undefined => {
  if (!existsSync('/usr/bin/squashfuse_ll')) return undefined;
  const at = join(scratch, 'squashfuse');
  const unmount = (): void => void spawnSync('umount', [at]);
  return {
    name: 'squashfuse_ll',
    enter: (words) => bubblewrap(at, words),
    env: () => ({}),
    renew: () => {
      unmount();
      mkdirSync(at, { recursive: true });
      execFileSync('/usr/bin/squashfuse_ll', ['-o', `offset=${data.offset},allow_other`, data.image, at]);
    },
    end: unmount,
  };
};

/** Its servers' sockets lie in a directory of its own, so a new directory is a new server. */
export const tsrun = ({ data, scratch }: Place, image = data.image, name = 'tsrun'): Side => {
  let runtime = '';
  return {
    name,
    enter: (words) => [tsrunPath, 'exec', image, ...words],
    env: () => ({ XDG_RUNTIME_DIR: runtime, TSRUN_LINGER: '5' }),
    renew: () => {
      runtime = mkdtempSync(join(scratch, 'run-'));
      chownSync(runtime, user.uid, user.gid);
    },
    end: () => {},
  };
};

export const leave = (place: Place, sides: readonly Side[]): void => {
  for (const side of sides) side.end();
  rmSync(place.scratch, { recursive: true, force: true });
};

/** Nothing of any file is in memory any more: written back first, so that it can be dropped. Loop devices and what lies behind them included. */
export const dropCaches = (): void => {
  execFileSync('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
};

const environment = (side: Side): NodeJS.ProcessEnv => environmentOf({ env: side.env() });

const asUser = (words: readonly string[], side: Side): string => {
  const [program = '', ...args] = words;
  const ran = spawnSync(program, args, {
    uid: user.uid,
    gid: user.gid,
    cwd: '/tmp',
    env: environment(side),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (ran.status !== 0) throw new Error(`${side.name}: ${words.join(' ')}: ${ran.status} ${ran.error ?? ''}${ran.stderr}${ran.stdout}`);
  return ran.stdout;
};

/** As spawn_times.c prints it: the command's number, nanoseconds, and CPU times. */
const secondsOf = (line: string): number => Number(line.split(' ')[1]) / 1e9;

/** Seconds of `command` within one start, right after one that is not counted. */
export const timeWithin = (side: Side, command: readonly string[]): number =>
  secondsOf(asUser(side.enter([TIMER, '1', '2', '--', ...command]), side));

const timeOfLast = (place: Place, side: Side, command: readonly string[], times: number): number =>
  secondsOf(asUser([join(place.data.tree, TIMER), '1', `${times}`, '--', ...side.enter(command)], side));

/** Seconds of the whole: the start of tsrun, its server and its mount too. */
export const timeOfAll = (place: Place, side: Side, command: readonly string[]): number => timeOfLast(place, side, command, 1);

/** The same of one that comes right after another, which is not counted. */
export const timeOfAllAgain = (place: Place, side: Side, command: readonly string[]): number => timeOfLast(place, side, command, 2);

/** What it prints. */
export const outputOf = (side: Side, command: readonly string[]): string => asUser(side.enter(command), side);

/** Seconds until the last of `count` runs of the whole, started at once in the memory cgroup `group`, has ended. */
export const timeOfMany = async (side: Side, command: readonly string[], count: number, group: string): Promise<number> => {
  const drop = ['setpriv', '--reuid', String(user.uid), '--regid', String(user.gid), '--init-groups'];
  const words = ['-c', `echo 0 >${group}/cgroup.procs; exec "$@"`, 'sh', ...drop, ...side.enter(command)];
  const env = environment(side);
  const begin = performance.now();
  await Promise.all(
    Array.from({ length: count }, () => {
      const child = spawn('/bin/sh', words, { cwd: '/tmp', env, stdio: 'ignore' });
      return new Promise<void>((done, fail) =>
        child.on('exit', (status) => (status === 0 ? done() : fail(new Error(`${side.name}: ${words.join(' ')}: ${status}`)))),
      );
    }),
  );
  return (performance.now() - begin) / 1000;
};
