/** Recipes built as the ordinary user on a base of busybox: what the end-to-end tests of `tsrun build OUT RECIPE` share. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { environmentOf, makeBusyboxTree, type Ran, scratch, tsrun, tsrunOk, tsrunPath } from './product.ts';
import { type TestUser, testUser } from './user.ts';

export type Environment = Readonly<Record<string, string>>;

/** The ids of /etc/subuid; what `env` says is one id. */
export const RANGES = { TSRUN_BUILD_IDS: 'ranges' };

export type Recipes = {
  readonly user: TestUser;
  /** All of it lies there, and is removed in the end. */
  readonly place: string;
  /** Where builds work. */
  readonly space: string;
  readonly base: string;
  readonly env: Environment;
  /** Gives a tree to the user. */
  readonly own: (path: string) => void;
  /** A directory with these files. */
  readonly context: (files: Readonly<Record<string, string>>) => string;
  /** Builds the recipe of a context into `place`. */
  readonly build: (directory: string, out: string, args?: readonly string[], more?: Environment) => Ran;
  /** The same, not waited for; stderr is a pipe. */
  readonly start: (directory: string, out: string, args?: readonly string[], more?: Environment) => ChildProcess;
  /** What a command says in an image of `place`. */
  readonly inside: (out: string, ...command: readonly string[]) => string;
};

/** @param change what else the base has */
export const recipesIn = (name: string, change: (base: string) => void = () => {}): Recipes => {
  const place = scratch(name);
  const user = testUser();
  const own = (path: string): void => {
    spawnSync('chown', ['-hR', `${user.uid}:${user.gid}`, path]);
  };
  const base = join(place, 'base');
  mkdirSync(base);
  makeBusyboxTree(base);
  change(base);
  own(base);
  const space = join(place, 'space');
  const env = { TSRUN_STORE: join(place, 'store'), TSRUN_TMPDIR: space, TSRUN_BUILD_IDS: 'single' };
  const words = (directory: string, out: string, args: readonly string[]): readonly string[] => [
    'build',
    '--force',
    ...args,
    join(place, out),
    directory,
  ];
  let count = 0;
  return {
    user,
    place,
    space,
    base,
    env,
    own,
    context: (files) => {
      const directory = join(place, `context-${++count}`);
      for (const [file, content] of Object.entries(files)) {
        const path = join(directory, file);
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, content);
      }
      own(directory);
      return directory;
    },
    build: (directory, out, args = [], more = {}) => tsrun(words(directory, out, args), { env: { ...env, ...more }, cwd: directory }),
    start: (directory, out, args = [], more = {}) =>
      spawn(tsrunPath, [...words(directory, out, args)], {
        cwd: directory,
        env: environmentOf({ env: { ...env, ...more } }),
        stdio: ['ignore', 'ignore', 'pipe'],
        uid: user.uid,
        gid: user.gid,
      }),
    inside: (out, ...command) => tsrunOk(['exec', '--containall', '--pwd', '/', join(place, out), ...command], { env }),
  };
};

/** @throws Error unless it ended well */
export const ok = (ran: Ran): Ran => {
  if (ran.status !== 0) throw new Error(`status ${ran.status} ${ran.signal ?? ''}\n${ran.stdout}${ran.stderr}`);
  return ran;
};
