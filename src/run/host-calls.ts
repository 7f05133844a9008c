/** The numbers of native/host.def and the forms of its answers, for both ends that are not C. test/contract/hosts.test.ts compares the table. */
import type { DirectoryEntry, FileKind, Ids, Stat } from '../util/host.ts';

export const CALLS = {
  args: 1,
  environ: 2,
  getcwd: 3,
  ids: 4,
  uname: 5,
  self_exe: 6,
  isatty: 7,
  stat: 10,
  lstat: 11,
  access: 12,
  statfs: 13,
  readlink: 14,
  readdir: 15,
  read: 16,
  lines: 17,
  open_keep: 20,
  pread: 21,
  fstat: 22,
  getent: 30,
  random: 31,
  log: 32,
  trace: 33,
  fnv64: 34,
} as const;

/** Strings that each end with NUL. */
export const parseList = (text: string): string[] => {
  const list = text.split('\0');
  list.pop();
  return list;
};

/** From st_mode (inode(7)). */
export const kindOfMode = (mode: number): FileKind => {
  switch (mode & 0o170000) {
    case 0o100000:
      return 'file';
    case 0o040000:
      return 'directory';
    case 0o120000:
      return 'link';
    case 0o020000:
      return 'char';
    case 0o060000:
      return 'block';
    case 0o010000:
      return 'pipe';
    case 0o140000:
      return 'socket';
    default:
      return 'other';
  }
};

const LETTERS: Readonly<Record<string, DirectoryEntry['kind']>> = {
  f: 'file',
  d: 'directory',
  l: 'link',
  c: 'char',
  b: 'block',
  p: 'pipe',
  s: 'socket',
};

/** "st_mode uid gid size mtime ctime dev ino": decimal; times as in Stat. (Fields by number: a start pays for each value of a pattern.) */
export const parseStat = (text: string): Stat => {
  const fields = text.split(' ');
  const mode = Number(fields[0]);
  return {
    kind: kindOfMode(mode),
    mode: mode & 0o7777,
    uid: Number(fields[1]),
    gid: Number(fields[2]),
    size: Number(fields[3]),
    mtime: fields[4] ?? '',
    ctime: fields[5] ?? '',
    dev: fields[6] ?? '',
    ino: fields[7] ?? '',
  };
};

/** "ruid euid rgid egid group…" */
export const parseIds = (text: string): Ids => {
  const ids = text.split(' ').map(Number);
  return { uid: ids[0] ?? 0, euid: ids[1] ?? 0, gid: ids[2] ?? 0, egid: ids[3] ?? 0, groups: ids.slice(4) };
};

export const parseEntries = (text: string): DirectoryEntry[] =>
  parseList(text).map((entry) => ({ kind: LETTERS[entry[0] ?? ''] ?? 'unknown', name: entry.slice(1) }));
