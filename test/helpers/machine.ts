/**
 * Invented machines: a Host in a few lines.
 *
 *     machine({ files: { '/data/x': 'text', '/u': link('/gpfs/u'), '/gpfs/u/me': directory() }, env: { HOME: '/u/me' }, cwd: '/data' })
 *
 * Directories above what is named are there too. Every call is counted, so that tests can say what a start may cost.
 */

import { findLine } from '../../src/facts/identity.ts';
import { accountsIn, environWith } from '../../src/run/host-calls.ts';
import { fnv64 } from '../../src/util/fnv.ts';
import {
  type DirectoryEntry,
  EACCES,
  EINVAL,
  EISDIR,
  ELOOP,
  ENOENT,
  ENOTDIR,
  type Errno,
  type FileKind,
  failed,
  type Host,
  type Stat,
} from '../../src/util/host.ts';
import { jsonMember, jsonMembers, jsonMemberTexts } from '../../src/util/json-members.ts';
import { sizeOfLayout, unpack } from '../../src/util/unpack.ts';

export type Entry = {
  readonly kind: FileKind;
  readonly text: string;
  readonly mode: number;
  readonly uid: number;
  /** Nobody but root may look at it. */
  readonly closed: boolean;
};

export const file = (text: string, mode = 0o644): Entry => ({ kind: 'file', text, mode, uid: 0, closed: false });
export const directory = (mode = 0o755, uid = 0): Entry => ({ kind: 'directory', text: '', mode, uid, closed: false });
export const link = (text: string): Entry => ({ kind: 'link', text, mode: 0o777, uid: 0, closed: false });
export const device = (): Entry => ({ kind: 'char', text: '', mode: 0o666, uid: 0, closed: false });
export const socket = (): Entry => ({ kind: 'socket', text: '', mode: 0o666, uid: 0, closed: false });
export const closed = (entry: Entry): Entry => ({ ...entry, closed: true });

export type Tree = Readonly<Record<string, string | Entry>>;

export type MachineOptions = {
  readonly files?: Tree;
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** null: it was deleted. */
  readonly cwd?: string | null;
  readonly uid?: number;
  readonly gid?: number;
  readonly groups?: readonly number[];
  readonly terminal?: boolean;
  readonly arch?: string;
  /** Answers of getent by "database key". */
  readonly getent?: Readonly<Record<string, string>>;
  /** File system magic by path; others are tmpfs. */
  readonly fileSystems?: Readonly<Record<string, number>>;
  readonly isLauncher?: boolean;
};

export type Machine = Host & {
  /** "call path" of every question, in order. */
  readonly calls: string[];
  readonly logged: string[];
};

const TMPFS = 0x01021994;

const parentsOf = (path: string): string[] => {
  const parents: string[] = [];
  for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) parents.push(path.slice(0, at));
  return parents;
};

const treeOf = (files: Tree): Map<string, Entry> => {
  const tree = new Map<string, Entry>([['/', directory()]]);
  for (const [path, entry] of Object.entries(files)) {
    for (const parent of parentsOf(path)) if (!tree.has(parent)) tree.set(parent, directory());
    tree.set(path, typeof entry === 'string' ? file(entry) : entry);
  }
  return tree;
};

export const machine = (options: MachineOptions = {}): Machine => {
  const { args = ['tsrun'], env = {}, cwd = '/', uid = 1000, gid = 1000, groups = [1000], terminal = false, arch = 'x86_64' } = options;
  const tree = treeOf(options.files ?? {});
  const numbers = new Map([...tree.keys()].map((path, at) => [path, at + 100]));
  const variables = new Map(Object.entries(env));
  const calls: string[] = [];
  const logged: string[] = [];
  const kept: string[] = [];

  /** The path behind `path`; `follow` says whether a link at the end counts too. */
  const walk = (path: string, follow: boolean): string | Errno => {
    const left = (path.startsWith('/') ? path : `${cwd ?? '/'}/${path}`)
      .split('/')
      .filter((part) => part !== '' && part !== '.')
      .reverse();
    let at = '/';
    for (let links = 0; left.length > 0; ) {
      const part = left.pop() ?? '';
      const here = tree.get(at);
      if (here?.kind !== 'directory') return ENOTDIR;
      if (here.closed && uid !== 0) return EACCES;
      if (part === '..') {
        at = at.slice(0, Math.max(1, at.lastIndexOf('/')));
        continue;
      }
      const next = at === '/' ? `/${part}` : `${at}/${part}`;
      const entry = tree.get(next);
      if (entry === undefined) return ENOENT;
      if (entry.kind !== 'link' || (left.length === 0 && !follow)) {
        at = next;
        continue;
      }
      if (++links > 40) return ELOOP;
      left.push(
        ...entry.text
          .split('/')
          .filter((each) => each !== '' && each !== '.')
          .reverse(),
      );
      if (entry.text.startsWith('/')) at = '/';
    }
    return at;
  };

  const find = (path: string, follow = true): { readonly at: string; readonly entry: Entry } | Errno => {
    const at = walk(path, follow);
    const entry = failed(at) ? undefined : tree.get(at);
    return failed(at) ? at : entry === undefined ? ENOENT : { at, entry };
  };

  const statOf = (path: string, follow: boolean): Stat | Errno => {
    const found = find(path, follow);
    if (failed(found)) return found;
    const { at, entry } = found;
    return {
      kind: entry.kind,
      mode: entry.mode,
      uid: entry.uid,
      gid: 0,
      size: entry.text.length,
      mtime: '1700000000.000000000',
      ctime: '1700000000.000000000',
      dev: '8',
      ino: String(numbers.get(at) ?? 0),
    };
  };

  const open = (path: string): { readonly at: string; readonly entry: Entry } | Errno => {
    const found = find(path);
    if (failed(found)) return found;
    return found.entry.closed && uid !== 0 ? EACCES : found;
  };

  const ids = { uid, euid: uid, gid, egid: gid, groups };
  const textAt = (path: string): string => {
    const found = open(path);
    return failed(found) ? '' : found.entry.text;
  };

  const asked = <T>(call: string, about: string, answer: T): T => {
    calls.push(`${call} ${about}`);
    return answer;
  };

  return {
    calls,
    logged,
    args: () => args,
    getenv: (name) => variables.get(name),
    environ: (words) => environWith(variables, words),
    getcwd: () => (cwd === null ? ENOENT : cwd),
    ids: () => ids,
    accounts: (name) => asked('accounts', name, accountsIn(textAt('/etc/passwd'), textAt('/etc/group'), ids, name)),
    machine: () => arch,
    hostname: () => 'node1',
    selfExe: () => '/opt/tsrun/bin/tsrun',
    isTerminal: () => terminal,
    stat: (path) => asked('stat', path, statOf(path, true)),
    lstat: (path) => asked('lstat', path, statOf(path, false)),
    sameFile: (one, other) => {
      const [here, there] = [one, other].map((path) => asked('stat', path, statOf(path, true)));
      return !failed(here) && !failed(there) && here?.dev === there?.dev && here?.ino === there?.ino;
    },
    access: (path) => {
      const found = asked('access', path, open(path));
      return failed(found) ? found : 0;
    },
    fileSystemType: (path) => asked('statfs', path, options.fileSystems?.[path] ?? TMPFS),
    readlink: (path) => {
      const found = asked('readlink', path, find(path, false));
      if (failed(found)) return found;
      return found.entry.kind === 'link' ? found.entry.text : EINVAL;
    },
    realPath: (path) => asked('realpath', path, walk(path, true)),
    readdir: (path, limit): readonly DirectoryEntry[] | Errno => {
      const found = asked('readdir', path, open(path));
      if (failed(found)) return found;
      if (found.entry.kind !== 'directory') return ENOTDIR;
      const start = found.at === '/' ? '/' : `${found.at}/`;
      const names = [...tree.keys()].filter((each) => each !== '/' && each.startsWith(start) && !each.slice(start.length).includes('/'));
      return names.length > limit ? -75 : names.map((each) => ({ kind: tree.get(each)?.kind ?? 'other', name: each.slice(start.length) }));
    },
    read: (path, offset, limit) => {
      const found = asked('read', path, open(path));
      if (failed(found)) return found;
      if (found.entry.kind === 'directory') return EISDIR;
      return found.entry.kind === 'file' ? found.entry.text.slice(offset, offset + limit) : -95;
    },
    openKeep: (path) => {
      const found = asked('open', path, open(path));
      if (failed(found)) return found;
      if (found.entry.kind !== 'file' && found.entry.kind !== 'directory') return -95;
      return kept.push(found.at) - 1;
    },
    pread: (handle, offset, length) => {
      const entry = asked('pread', String(handle), tree.get(kept[handle] ?? ''));
      if (entry === undefined) return -9;
      return entry.kind === 'directory' ? EISDIR : entry.text.slice(offset, offset + length);
    },
    fstat: (handle) => asked('fstat', String(handle), kept[handle] === undefined ? -9 : statOf(kept[handle], true)),
    unpack: (handle, offset, layout) => {
      const entry = asked('unpack', String(handle), tree.get(kept[handle] ?? ''));
      if (entry === undefined) return -9;
      const bytes = entry.text.slice(offset, offset + sizeOfLayout(layout));
      if (entry.kind === 'directory') return EISDIR;
      return bytes.length < sizeOfLayout(layout) ? -61 : unpack(bytes, layout);
    },
    isLauncher: options.isLauncher ?? true,
    getent: (database, key) => asked('getent', `${database} ${key}`, options.getent?.[`${database} ${key}`] ?? ENOENT),
    findLine: (text, field, value) => findLine(text, field, value)?.join(':') ?? ENOENT,
    json: jsonMembers,
    member: jsonMember,
    members: jsonMemberTexts,
    fnv64,
    log: (line) => {
      logged.push(line);
    },
  };
};
