/**
 * The product as its users have it: `bin/tsrun` run as an ordinary user, on images made for the test. Everything the tests make lies in
 * directories of their own that are removed when the test process ends.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { testUser } from './user.ts';

const top = resolve(import.meta.dirname, '../..');
export const tsrunPath = join(top, 'bin/tsrun');

export type RunOptions = {
  readonly as?: 'user' | 'root';
  readonly cwd?: string;
  /** Added to (or, with undefined, taken from) the small login environment of the test user. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string | Buffer;
};

export type Ran = {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
};

const scratchDirectories: string[] = [];
process.on('exit', () => {
  for (const directory of scratchDirectories) rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
});

/** A fresh directory that belongs to the test user. */
export const scratch = (name: string, parent = tmpdir()): string => {
  const directory = mkdtempSync(join(parent, `tsrun-${name}-`));
  scratchDirectories.push(directory);
  const user = testUser();
  chownSync(directory, user.uid, user.gid);
  chmodSync(directory, 0o755);
  return directory;
};

/** What a login shell would give; nothing of the tests' own environment leaks in. */
export const loginEnvironment = (as: 'user' | 'root'): Record<string, string> => {
  const user = testUser();
  const home = as === 'root' ? '/root' : user.home;
  const runtime = process.env['TSRUN_TEST_RUNTIME']; // see kernels.ts
  const name = as === 'root' ? 'root' : user.name;
  return {
    PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin',
    HOME: home,
    USER: name,
    LOGNAME: name,
    LANG: 'C.UTF-8',
    TSRUN_LINGER: '0',
    ...(runtime === undefined || as === 'root' ? {} : { XDG_RUNTIME_DIR: runtime }),
  };
};

export const environmentOf = (options: RunOptions): NodeJS.ProcessEnv => {
  const merged: NodeJS.ProcessEnv = loginEnvironment(options.as ?? 'user');
  for (const [name, value] of Object.entries(options.env ?? {})) {
    if (value === undefined) delete merged[name];
    else merged[name] = value;
  }
  return merged;
};

/** Runs any program as the test user (or root). */
export const run = (program: string, args: readonly string[], options: RunOptions = {}): Ran => {
  const user = testUser();
  const result: SpawnSyncReturns<Buffer> = spawnSync(program, args, {
    cwd: options.cwd ?? '/tmp',
    env: environmentOf(options),
    input: options.input ?? '',
    maxBuffer: 256 * 1024 * 1024,
    ...(options.as === 'root' ? {} : { uid: user.uid, gid: user.gid }),
  });
  if (result.error !== undefined) throw result.error;
  return {
    status: result.status,
    signal: result.signal,
    stdout: result.stdout.toString('latin1'),
    stderr: result.stderr.toString('latin1'),
  };
};

export const tsrun = (args: readonly string[], options: RunOptions = {}): Ran => run(tsrunPath, args, options);

/** Runs tsrun and insists on status 0; returns what it wrote to stdout. */
export const tsrunOk = (args: readonly string[], options: RunOptions = {}): string => {
  const ran = tsrun(args, options);
  if (ran.status !== 0) throw new Error(`tsrun ${args.join(' ')}: status ${ran.status} ${ran.signal ?? ''}\n${ran.stdout}${ran.stderr}`);
  return ran.stdout;
};

/** A small root file system: busybox with its commands as links, and an /etc like that of a distribution. */
export const makeBusyboxTree = (directory: string): string => {
  const busybox = '/bin/busybox';
  if (!existsSync(busybox)) throw new Error(`${busybox} is missing: install busybox-static`);
  for (const path of [
    'bin',
    'etc',
    'usr/bin',
    'usr/share/doc',
    'var/lib',
    'opt/tool',
    'root',
    'proc',
    'sys',
    'dev',
    'tmp',
    'var/tmp',
    'home',
    'srv',
  ]) {
    mkdirSync(join(directory, path), { recursive: true });
  }
  cpSync(busybox, join(directory, 'bin/busybox'));
  const applets = spawnSync(busybox, ['--list'], { encoding: 'utf8' }).stdout.trim().split('\n');
  for (const applet of applets) if (applet !== 'busybox') symlinkSync('busybox', join(directory, 'bin', applet));
  writeFileSync(join(directory, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n');
  writeFileSync(join(directory, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  writeFileSync(join(directory, 'etc/os-release'), 'ID=busybox\nVERSION_ID=1\nPRETTY_NAME="Busybox test image"\n');
  writeFileSync(join(directory, 'opt/tool/data.txt'), 'from the image\n');
  symlinkSync('../run/host/resolv.conf', join(directory, 'etc/resolv.conf'));
  return directory;
};

/** A SIF of the busybox tree, made by tsrun itself as the test user. */
export const makeBusyboxImage = (directory: string, change: (tree: string) => void = () => {}): string =>
  makeImageOf(directory, (tree) => {
    makeBusyboxTree(tree);
    change(tree);
  });

/** A SIF of the tree that `fill` makes in the directory it is given. */
export const makeImageOf = (directory: string, fill: (tree: string) => void): string => {
  const tree = join(directory, 'tree');
  mkdirSync(tree);
  fill(tree);
  const image = join(directory, 'image.sif');
  const tar = spawnSync('tar', ['-C', tree, '--owner=0', '--group=0', '--numeric-owner', '-cf', '-', '.'], {
    maxBuffer: 256 * 1024 * 1024,
  });
  const built = tsrun(['build', image, '-'], { input: tar.stdout, cwd: directory });
  if (built.status !== 0) throw new Error(`tsrun build: status ${built.status}\n${built.stderr}`);
  return image;
};

/** The busybox tree with the machine's own python3, its standard library and the shared libraries they need. */
export const makePythonTree = (directory: string): string => {
  makeBusyboxTree(directory);
  const program = realpathSync('/usr/bin/python3');
  const library = spawnSync(program, ['-c', 'import sysconfig; print(sysconfig.get_path("stdlib"))'], { encoding: 'utf8' }).stdout.trim();
  const copy = (path: string): void => cpSync(path, join(directory, path), { recursive: true, dereference: true });
  const needs = spawnSync('sh', ['-c', `ldd ${program} ${library}/lib-dynload/*.so | grep -o '/[^ ]*\\.so[^ ]*'`], {
    encoding: 'utf8',
  }).stdout.split('\n');
  for (const path of new Set([
    program,
    library,
    ...needs.filter((line) => line.startsWith('/') && !line.endsWith(':') && !line.includes('lib-dynload')),
  ]))
    copy(path);
  symlinkSync(program.slice('/usr/bin/'.length), join(directory, 'usr/bin/python3'));
  return directory;
};
