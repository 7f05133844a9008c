/** Recipes built as the ordinary user on a base of busybox: what the end-to-end tests of `tsrun build OUT RECIPE` share. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import * as assert from 'uvu/assert';
import { environmentOf, loginEnvironment, makeBusyboxTree, type Ran, run, scratch, tsrun, tsrunOk, tsrunPath } from './product.ts';
import { type TestUser, testUser } from './user.ts';

export type Environment = Readonly<Record<string, string>>;

/** The ids of /etc/subuid; what `env` says is one id. */
export const RANGES = { TSRUN_BUILD_IDS: 'ranges' };

/** A command line → one that runs it. */
export type Around = (words: readonly string[]) => readonly string[];

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
  /** Builds a recipe, or that of a context, into `place`. */
  readonly build: (source: string, out: string, args?: readonly string[], more?: Environment) => Ran;
  /**
   * The same in a place where the kernel refuses every overlay: on two overlays already, which is as deep as it goes. Seen by this build alone; it
   * works in `under-NAME/d` of `place`.
   */
  readonly buildPlain: (name: string, source: string, out: string, args?: readonly string[], more?: Environment, around?: Around) => Ran;
  /** The same, not waited for; stderr is a pipe. */
  readonly start: (source: string, out: string, args?: readonly string[], more?: Environment) => ChildProcess;
  /** What a command says in an image of `place`. */
  readonly inside: (out: string, ...command: readonly string[]) => string;
  /** Of each entry below a path of an image: mode, owner, path. */
  readonly listing: (out: string, path: string) => readonly string[];
  /** @throws AssertionError when the build of `out`, which has ended, has left anything */
  readonly assertClean: (out: string) => void;
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
  const words = (source: string, out: string, args: readonly string[]) => ['build', '--force', ...args, join(place, out), source];
  const directoryOf = (source: string): string => (statSync(source).isDirectory() ? source : dirname(source));
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
    build: (source, out, args = [], more = {}) => tsrun(words(source, out, args), { env: { ...env, ...more }, cwd: directoryOf(source) }),
    buildPlain: (name, source, out, args = [], more = {}, around = (command) => command) => {
      const under = join(place, `under-${name}`);
      const here = join(place, `plain-${name}`);
      for (const part of ['a', 'b', 'c', 'd', 'e', 'one']) mkdirSync(join(under, part), { recursive: true });
      mkdirSync(here, { recursive: true });
      own(under);
      own(here);
      const mounts = [
        `mount -t overlay none -o lowerdir=${under}/a,upperdir=${under}/b,workdir=${under}/c ${under}/one`,
        `mount -t overlay none -o xino=on,lowerdir=${under}/one,upperdir=${under}/d,workdir=${under}/e ${here}`,
        `exec setpriv --reuid ${user.uid} --regid ${user.gid} --clear-groups -- "$@"`,
      ];
      const command = around([tsrunPath, ...words(source, out, args)]);
      return run('unshare', ['-m', 'sh', '-ec', mounts.join(' && '), 'sh', ...command], {
        as: 'root',
        env: { ...loginEnvironment('user'), ...env, ...more, TSRUN_TMPDIR: here },
        cwd: directoryOf(source),
      });
    },
    start: (source, out, args = [], more = {}) =>
      spawn(tsrunPath, words(source, out, args), {
        cwd: directoryOf(source),
        env: environmentOf({ env: { ...env, ...more } }),
        stdio: ['ignore', 'ignore', 'pipe'],
        uid: user.uid,
        gid: user.gid,
      }),
    inside: (out, ...command) => tsrunOk(['exec', '--containall', '--pwd', '/', join(place, out), ...command], { env }),
    listing: (out, path) =>
      tsrunOk(['image', 'ls', join(place, out), path], { env })
        .trim()
        .split('\n')
        .map((line) => line.replace(/^(\S+)\s+(\d+)\s+(\d+).*?Z (.*)$/, '$1 $2:$3 $4')),
    assertClean: (out) => {
      for (const ids of existsSync(join(space, 'build')) ? readdirSync(join(space, 'build')) : []) {
        assert.equal(readdirSync(join(space, 'build', ids, 'begun')), [], `left in begun of ${ids}`);
        assert.equal(readdirSync(join(space, 'build', ids, 'keys')), [], `left in keys of ${ids}`);
      }
      assert.equal(
        readdirSync(place).filter((name) => name.startsWith('.') && name.includes(out)),
        [],
      );
      assert.not.match(readFileSync('/proc/self/mounts', 'utf8'), new RegExp(space));
    },
  };
};

/** @throws Error unless it ended well */
export const ok = (ran: Ran): Ran => {
  if (ran.status !== 0) throw new Error(`status ${ran.status} ${ran.signal ?? ''}\n${ran.stdout}${ran.stderr}`);
  return ran;
};

/** Says all that stood on the terminal. Arguments: prompt, input, command. */
const PTY = `
import os, pty, sys
prompt, typed, command = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
said, sent = b'', False
while True:
    try:
        part = os.read(fd, 65536)
    except OSError:
        break
    if not part:
        break
    said += part
    if not sent and prompt in said:
        os.write(fd, typed)
        sent = True
os.write(1, said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

/** A command on a terminal of its own, where `typed` is typed once it has written `prompt`; what stood there is on stdout. */
export const onTerminal = (prompt: string, typed: string, command: readonly string[]): readonly string[] => [
  ...['python3', '-c', PTY, prompt, typed],
  ...command,
];
