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

/** "type(octal) mode(octal) uid gid size mtime_s mtime_ns ctime_s ctime_ns dev ino nlink" */
export const parseStat = (text: string): Stat => {
  const [type = '', mode = '', uid = '', gid = '', size = '', mtime = '', mtimeNs = '', ctime = '', ctimeNs = '', dev = '', ino = ''] =
    text.split(' ');
  return {
    kind: kindOfMode(Number.parseInt(type, 8)),
    mode: Number.parseInt(mode, 8),
    uid: Number(uid),
    gid: Number(gid),
    size: Number(size),
    mtime: `${mtime}.${mtimeNs.padStart(9, '0')}`,
    ctime: `${ctime}.${ctimeNs.padStart(9, '0')}`,
    dev,
    ino,
  };
};

/** "ruid euid suid rgid egid sgid umask(octal) group…" */
export const parseIds = (text: string): Ids => {
  const [uid = 0, euid = 0, , gid = 0, egid = 0, , , ...groups] = text.split(' ').map(Number);
  return { uid, euid, gid, egid, groups };
};

export const parseEntries = (text: string): DirectoryEntry[] =>
  parseList(text).map((entry) => ({ kind: LETTERS[entry[0] ?? ''] ?? 'unknown', name: entry.slice(1) }));
