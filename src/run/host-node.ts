/** The machine as Node shows it, for the library, for tests and for builds without the engine. The same answers as native/host.c gives. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { hostname, machine } from 'node:os';
import { isatty } from 'node:tty';
import { findLine } from '../facts/identity.ts';
import { fnv64 } from '../util/fnv.ts';
import { type DirectoryEntry, EINVAL, EIO, EISDIR, type Errno, failed, type Host, type Ids, type Stat } from '../util/host.ts';
import { jsonMember, jsonMembers, jsonMemberTexts } from '../util/json-members.ts';
import { printableLine } from '../util/printable.ts';
import { sizeOfLayout, unpack } from '../util/unpack.ts';
import { accountsIn, environWith, kindOfMode } from './host-calls.ts';

const EOVERFLOW = -75;
const ENOTSUP = -95;
const ENOSYS = -38;
const ENOENT = -2;
const ENODATA = -61;
const READ_MAX = 4 * 1024 * 1024;
const GETENT_MS = 5000;

const toBytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');
const toPath = (bytes: string): Buffer => Buffer.from(bytes, 'latin1');

const errnoOf = (error: unknown): Errno => {
  const errno = (error as NodeJS.ErrnoException).errno;
  return typeof errno === 'number' && errno < 0 ? errno : EIO;
};

const attempt = <T>(work: () => T): T | Errno => {
  try {
    return work();
  } catch (error) {
    return errnoOf(error);
  }
};

const time = (nanoseconds: bigint): string => {
  // Towards minus infinity, as the kernel counts times before 1970.
  const rest = ((nanoseconds % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return `${(nanoseconds - rest) / 1_000_000_000n}.${String(rest).padStart(9, '0')}`;
};

const toStat = (stat: fs.BigIntStats): Stat => ({
  kind: kindOfMode(Number(stat.mode)),
  mode: Number(stat.mode) & 0o7777,
  uid: Number(stat.uid),
  gid: Number(stat.gid),
  size: Number(stat.size),
  mtime: time(stat.mtimeNs),
  ctime: time(stat.ctimeNs),
  dev: String(stat.dev),
  ino: String(stat.ino),
});

const kindOfEntry = (entry: fs.Dirent<Buffer>): DirectoryEntry['kind'] => {
  if (entry.isFile()) return 'file';
  if (entry.isDirectory()) return 'directory';
  if (entry.isSymbolicLink()) return 'link';
  if (entry.isCharacterDevice()) return 'char';
  if (entry.isBlockDevice()) return 'block';
  if (entry.isFIFO()) return 'pipe';
  return entry.isSocket() ? 'socket' : 'unknown';
};

/** Regular files, and directories where they will do; pipes only as the user's shell passes them. Devices are not even opened. */
const openPlain = (path: string, directoryToo: boolean): number => {
  const stat = fs.statSync(toPath(path));
  const refuse = (errno: Errno): never => {
    throw Object.assign(new Error(`cannot open ${path}`), { errno });
  };
  if (stat.isDirectory() && !directoryToo) refuse(EISDIR);
  const fromShell = path.startsWith('/dev/fd/') || path.startsWith('/proc/self/fd/');
  if (!stat.isFile() && !stat.isDirectory() && !(stat.isFIFO() && fromShell)) refuse(ENOTSUP);
  return fs.openSync(toPath(path), 'r');
};

/** @param position null: from where a pipe is. */
const readUpTo = (descriptor: number, position: number | null, limit: number): string => {
  const chunks: Buffer[] = [];
  let total = 0;
  while (total < limit) {
    const chunk = Buffer.allocUnsafe(Math.min(limit - total, 65_536));
    const got = fs.readSync(descriptor, chunk, 0, chunk.length, position === null ? null : position + total);
    if (got === 0) break;
    chunks.push(chunk.subarray(0, got));
    total += got;
  }
  return Buffer.concat(chunks).toString('latin1');
};

/** The kernel's own list: process.getgroups() adds the effective group. */
const supplementaryGroups = (): readonly number[] => {
  const line = /^Groups:(.*)$/m.exec(fs.readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '';
  return line
    .split(/\s+/)
    .filter((word) => word !== '')
    .map(Number);
};

/** The native program keeps these from Node itself and hands them over: NAME=value lines, percent-encoded. */
const handedOver = (environment: NodeJS.ProcessEnv): [string, string][] => {
  const text = environment['TSRUN_HOST_ENV'] ?? '';
  const lines = text === '' ? [] : text.split('\n');
  return lines.map((line) => {
    const entry = line.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
    const equals = entry.indexOf('=');
    return [entry.slice(0, equals), entry.slice(equals + 1)];
  });
};

const environOf = (environment: NodeJS.ProcessEnv): ReadonlyMap<string, string> => {
  const own = Object.entries(environment).filter(([name]) => name !== 'TSRUN_HOST_ENV');
  return new Map([...own.map(([name, value = '']): [string, string] => [toBytes(name), toBytes(value)]), ...handedOver(environment)]);
};

export type NodeHostOptions = {
  /** argv of the command, the program's own name first. */
  readonly args: readonly string[];
  /** Default: the process's own, with what the native program kept from Node. */
  readonly environment?: NodeJS.ProcessEnv;
};

const readPlain = (path: string, offset: number, limit: number): string => {
  const descriptor = openPlain(path, false);
  try {
    return readUpTo(descriptor, fs.fstatSync(descriptor).isFIFO() ? null : offset, limit);
  } finally {
    fs.closeSync(descriptor);
  }
};

/** '' where it cannot be read, or is too long to be looked through. */
const accountText = (path: string): string => {
  const text = attempt(() => readPlain(path, 0, READ_MAX));
  return failed(text) || text.length === READ_MAX ? '' : text;
};

const idsOfProcess = (): Ids => ({
  uid: process.getuid?.() ?? 0,
  euid: process.geteuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
  egid: process.getegid?.() ?? 0,
  groups: supplementaryGroups(),
});

export const nodeHost = ({ args, environment = process.env }: NodeHostOptions): Host => ({
  args: () => args.map(toBytes),
  getenv: (name) => environOf(environment).get(name),
  environ: (words) => environWith(environOf(environment), words),
  getcwd: () => attempt(() => toBytes(process.cwd())),
  ids: idsOfProcess,
  accounts: (name) => accountsIn(accountText('/etc/passwd'), accountText('/etc/group'), idsOfProcess(), name),
  findLine: (text, field, value) => findLine(text, field, value)?.join(':') ?? ENOENT,
  machine: () => machine(),
  hostname: () => toBytes(hostname()),
  selfExe: () => attempt(() => fs.readlinkSync('/proc/self/exe', 'latin1')),
  isTerminal: (descriptor) => isatty(descriptor),
  stat: (path) => attempt(() => toStat(fs.statSync(toPath(path), { bigint: true }))),
  lstat: (path) => attempt(() => toStat(fs.lstatSync(toPath(path), { bigint: true }))),
  sameFile: (one, other) => {
    const found = attempt(() => [one, other].map((path) => fs.statSync(toPath(path), { bigint: true })));
    return !failed(found) && found[0]?.dev === found[1]?.dev && found[0]?.ino === found[1]?.ino;
  },
  access: (path, mode) =>
    attempt<Errno | 0>(() => {
      fs.accessSync(toPath(path), mode);
      return 0;
    }),
  fileSystemType: (path) => attempt(() => Number(fs.statfsSync(toPath(path)).type)),
  readlink: (path) => attempt(() => fs.readlinkSync(toPath(path), 'latin1')),
  realPath: (path) => attempt(() => fs.realpathSync.native(toPath(path), 'latin1')),
  readdir: (path, limit) =>
    attempt<readonly DirectoryEntry[] | Errno>(() => {
      const entries = fs.readdirSync(toPath(path), { withFileTypes: true, encoding: 'buffer' });
      return entries.length > limit
        ? EOVERFLOW
        : entries.map((entry) => ({ kind: kindOfEntry(entry), name: entry.name.toString('latin1') }));
    }),
  read: (path, offset, limit) => attempt<string | Errno>(() => (limit > READ_MAX ? EINVAL : readPlain(path, offset, limit))),
  openKeep: (path) => attempt(() => openPlain(path, true)),
  pread: (handle, offset, length) => attempt(() => readUpTo(handle, offset, length)),
  fstat: (handle) => attempt(() => toStat(fs.fstatSync(handle, { bigint: true }))),
  unpack: (handle, offset, layout) => {
    const size = sizeOfLayout(layout);
    const bytes = attempt(() => readUpTo(handle, offset, size));
    return failed(bytes) ? bytes : bytes.length < size ? ENODATA : unpack(bytes, layout);
  },
  isLauncher: false,
  getent: (database, key) => {
    const { status, stdout, error } = spawnSync('getent', [database, key], {
      encoding: 'latin1',
      timeout: GETENT_MS,
      env: { PATH: '/usr/bin:/bin' },
    });
    if (error !== undefined) return (error as NodeJS.ErrnoException).code === 'ENOENT' ? ENOSYS : EIO;
    return status === 0 ? stdout : ENOENT;
  },
  json: jsonMembers,
  member: jsonMember,
  members: jsonMemberTexts,
  fnv64,
  log: (line) => {
    fs.writeSync(2, Buffer.from(`${printableLine(line)}\n`, 'latin1'));
  },
});
