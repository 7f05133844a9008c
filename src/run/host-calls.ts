/** The numbers of native/host.def and the forms of its answers, for both ends that are not C. test/contract/hosts.test.ts compares the table. */
import type { DirectoryEntry, Fields, FileKind, Ids, Stat } from '../util/host.ts';

export const CALLS = {
  args: 1,
  environ: 2,
  getcwd: 3,
  ids: 4,
  uname: 5,
  self_exe: 6,
  isatty: 7,
  names: 8,
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
  unpack: 23,
  getent: 30,
  random: 31,
  log: 32,
  fnv64: 34,
  json: 35,
  member: 36,
} as const;

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

/** Of a list: st_mode, uid, gid, size, mtime, ctime, dev, ino. (Fields by number: a start pays for each value of a pattern.) */
export const statOf = (fields: Fields): Stat => {
  const mode = fields[0] as number;
  return {
    kind: kindOfMode(mode),
    mode: mode & 0o7777,
    uid: fields[1] as number,
    gid: fields[2] as number,
    size: fields[3] as number,
    mtime: fields[4] as string,
    ctime: fields[5] as string,
    dev: fields[6] as string,
    ino: fields[7] as string,
  };
};

/** Of a list: ruid, euid, rgid, egid, group… */
export const idsOf = (ids: readonly number[]): Ids => ({
  uid: ids[0] ?? 0,
  euid: ids[1] ?? 0,
  gid: ids[2] ?? 0,
  egid: ids[3] ?? 0,
  groups: ids.slice(4),
});

/** Of environ's answer, the names that begin with one of the words. */
export const namesIn = (environ: readonly string[], words: string): string[] =>
  environ.filter((name, at) => at % 2 === 0 && words.split(' ').some((word) => name.startsWith(word)));

/** A letter for the kind, and the name. */
export const entryOf = (entry: string): DirectoryEntry => ({ kind: LETTERS[entry[0] ?? ''] ?? 'unknown', name: entry.slice(1) });
