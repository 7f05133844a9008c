/** The numbers of native/host.def and the forms of its answers, for both ends that are not C. test/contract/hosts.test.ts compares the table. */
import { findLine } from '../facts/identity.ts';
import type { DirectoryEntry, Fields, FileKind, Ids, Stat } from '../util/host.ts';

export const CALLS = {
  args: 1,
  environ: 2,
  getcwd: 3,
  ids: 4,
  uname: 5,
  self_exe: 6,
  isatty: 7,
  accounts: 9,
  stat: 10,
  lstat: 11,
  access: 12,
  statfs: 13,
  readlink: 14,
  readdir: 15,
  read: 16,
  real_path: 18,
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
  getenv: 37,
  members: 38,
  same_file: 39,
  find_line: 40,
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

/** What accounts answers, of the texts of /etc/passwd and /etc/group. */
export const accountsIn = (passwd: string, group: string, { euid, egid, groups }: Ids, name: string): Fields => {
  const [own = '', , , , gecos = '', home = '', shell = ''] = findLine(passwd, 2, String(euid)) ?? [];
  const known = name !== '' && findLine(passwd, 0, name) !== undefined;
  return [own, gecos, home, shell, known ? 1 : 0, ...[egid, ...groups].map((gid) => findLine(group, 2, String(gid))?.[0] ?? '')];
};

/** What environ answers, of variables whose names are there once. */
export const environWith = (variables: ReadonlyMap<string, string>, words: string): Fields => {
  const wanted: { readonly name: string; readonly open: boolean }[] = [];
  for (let at = 0, end: number; at < words.length; at = end) {
    end = at + 1 + words.charCodeAt(at);
    const open = words[end - 1] === '*';
    wanted.push({ name: words.slice(at + 1, open ? end - 1 : end), open });
  }
  return [...variables].flatMap(([name, value]) => {
    const number = words === '' ? 0 : wanted.findIndex((word) => (word.open ? name.startsWith(word.name) : name === word.name));
    return number < 0 ? [] : [number, name, value];
  });
};

/** A letter for the kind, and the name. */
export const entryOf = (entry: string): DirectoryEntry => ({ kind: LETTERS[entry[0] ?? ''] ?? 'unknown', name: entry.slice(1) });
