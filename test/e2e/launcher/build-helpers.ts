/** Images and plans of build steps: busybox's applets as programs, a place to write to, namespaces of several ids. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import {
  encodePlan,
  helperProgram,
  makePlan,
  type Op,
  type Result,
  runBytes,
  type Setup,
  scratchDirectory,
  tsrun,
  type User,
} from './helpers.ts';

/** An image that has busybox's applets as its programs. */
export const busyboxImage = (...directories: readonly string[]): string => {
  const image = scratchDirectory();
  for (const directory of ['bin', ...directories]) mkdirSync(join(image, directory), { recursive: true });
  copyFileSync('/bin/busybox', join(image, 'bin/busybox'));
  for (const applet of [
    'sh',
    'cat',
    'ls',
    'stat',
    'mkdir',
    'rm',
    'chmod',
    'chown',
    'touch',
    'id',
    'mv',
    'cp',
    'ln',
    'true',
    'find',
    'seq',
    'wc',
    'mount',
    'sed',
  ])
    execFileSync('ln', ['-s', 'busybox', join(image, 'bin', applet)]);
  copyFileSync(helperProgram('payload'), join(image, 'bin/payload'));
  copyFileSync(helperProgram('calls'), join(image, 'bin/calls'));
  copyFileSync(helperProgram('race'), join(image, 'bin/calls-race'));
  return image;
};

export const ownedDirectory = (user: User): string => {
  const path = scratchDirectory();
  chownSync(path, user.uid, user.gid);
  return path;
};

/** upper and work, owned by the user. */
export const uppers = (user: User): { readonly upper: string; readonly op: Op; readonly place: string } => {
  const place = ownedDirectory(user);
  const upper = join(place, 'upper');
  for (const path of [upper, join(place, 'work')]) {
    mkdirSync(path);
    chownSync(path, user.uid, user.gid);
  }
  return { place, upper, op: ['upper', upper, join(place, 'work')] };
};

/** The lines "NAME:FIRST:COUNT" of /etc/subuid. */
export const ranges = (file: string, user: User): readonly [first: number, count: number] | undefined => {
  const line = readFileSync(file, 'latin1')
    .split('\n')
    .find((one) => one.startsWith(`${user.name}:`));
  const [, first, count] = (line ?? '').split(':').map(Number);
  return first === undefined || count === undefined ? undefined : [first, count];
};

export const several = (user: User): Op => {
  if (user.uid === 0) return ['userns_ranges', '', '', '0 0 65536', '0 0 65536'];
  const uids = ranges('/etc/subuid', user);
  const gids = ranges('/etc/subgid', user);
  if (uids === undefined || gids === undefined) throw new Error(`${user.name} has no ranges in /etc/subuid and /etc/subgid`);
  return [
    'userns_ranges',
    '/usr/bin/newuidmap',
    '/usr/bin/newgidmap',
    `0 ${user.uid} 1 1 ${uids.join(' ')}`,
    `0 ${user.gid} 1 1 ${gids.join(' ')}`,
  ];
};

export const shell = (setup: Setup, script: string): Result =>
  runBytes(
    encodePlan(makePlan({ unshare: 'mount,pid', env: ['PATH=/bin'], file: '/bin/sh', ...setup }, ['sh', '-e', '-c', script])),
    setup,
  );

export const outputOf = (setup: Setup, script: string): string => {
  const result = shell(setup, script);
  assert.is(result.err, '');
  assert.is(result.status, 0);
  return result.out;
};

export const tree = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: 'latin1' })
    .map((name) => (lstatSync(join(directory, name)).isCharacterDevice() ? `${name} deleted` : name))
    .sort();

/** As the user would have it from an unpacked image: its own. */
export const ownImage = (user: User): string => {
  const image = busyboxImage('etc', 'proc', 'data/sub', 'gone');
  writeFileSync(join(image, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\n');
  writeFileSync(join(image, 'data/sub/file'), 'file\n');
  execFileSync('chown', ['-R', `${user.uid}:${user.gid}`, image]);
  chmodSync(join(image, 'etc'), 0o751);
  utimesSync(join(image, 'etc'), 1_000_000_000, 1_000_000_000);
  return image;
};

/** Starts without waiting; standard output is a pipe. */
export const startBytes = (bytes: Buffer, user: User): ChildProcess => {
  const path = join(scratchDirectory(), 'plan');
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r');
  const child = spawn(tsrun, ['@plan', '3'], { uid: user.uid, gid: user.gid, cwd: '/', env: {}, stdio: ['ignore', 'pipe', 'inherit', fd] });
  closeSync(fd);
  return child;
};
