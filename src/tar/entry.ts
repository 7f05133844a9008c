/** Header block, PAX records and GNU long names → one entry of the archive. */
import { type RawHeader, TarFieldError } from './header.ts';
import type { PaxRecords, Xattr } from './pax.ts';

export type TarEntryType = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

/** Names are byte strings (one char per byte), exactly as in the archive: nothing is cleaned, nothing is safe yet. */
export type TarEntry = {
  readonly type: TarEntryType;
  readonly path: string;
  /** Target of a hard or symbolic link, else "". */
  readonly linkpath: string;
  /** 0o7777 of the mode. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Whole seconds since 1970, rounded down; `mtimeNanos` is the rest. */
  readonly mtime: number;
  readonly mtimeNanos: number;
  /** Bytes of a regular file, holes included; 0 for all else. */
  readonly size: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly xattrs: readonly Xattr[] | undefined;
};

/** A file of root's without content, to be made into others. */
export const EMPTY_ENTRY: TarEntry = {
  type: 'file',
  path: '',
  linkpath: '',
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 0,
  mtimeNanos: 0,
  size: 0,
  devMajor: 0,
  devMinor: 0,
  xattrs: undefined,
};

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
  '7': 'file',
  D: 'directory',
  S: 'file',
};

const MAX_ID = 0xffffffff;

/** @throws TarFieldError */
export const entryOf = (raw: RawHeader, pax: PaxRecords, longName: string | undefined, longLink: string | undefined): TarEntry => {
  const path = given(pax.path) ?? longName ?? raw.name;
  if (path === '') throw new TarFieldError('it has no name');
  if (path.includes('\0')) throw new TarFieldError('its name holds a NUL byte');
  const plain = TYPES[raw.typeflag];
  if (plain === undefined) throw new TarFieldError(unreadableType(path, raw.typeflag));
  // Before POSIX a directory was a file whose name ends in a slash.
  const type = plain === 'file' && raw.typeflag === '0' && path.endsWith('/') ? 'directory' : plain;
  const isLink = type === 'hardlink' || type === 'symlink';
  const linkpath = isLink ? (given(pax.linkpath) ?? longLink ?? raw.linkname) : '';
  if (linkpath.includes('\0')) throw new TarFieldError('its link target holds a NUL byte');
  if (isLink && linkpath === '') throw new TarFieldError('it is a link without a target');
  const size = type === 'file' ? (decimal(pax.size, 'size') ?? raw.size) : 0;
  if (size < 0) throw new TarFieldError('its size is negative');
  const isDevice = type === 'character' || type === 'block';
  const time = timeOf(pax.mtime) ?? { seconds: raw.mtime, nanos: 0 };
  return {
    type,
    path,
    linkpath,
    mode: raw.mode & 0o7777,
    uid: idOf(decimal(pax.uid, 'uid') ?? raw.uid, 'uid'),
    gid: idOf(decimal(pax.gid, 'gid') ?? raw.gid, 'gid'),
    mtime: time.seconds,
    mtimeNanos: time.nanos,
    size,
    devMajor: isDevice ? (decimal(pax['SCHILY.devmajor'], 'devmajor') ?? raw.devMajor) : 0,
    devMinor: isDevice ? (decimal(pax['SCHILY.devminor'], 'devminor') ?? raw.devMinor) : 0,
    xattrs: pax.xattrs,
  };
};

/** An empty value takes back what a global header said. */
const given = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

const decimal = (text: string | undefined, field: string): number | undefined => {
  if (text === undefined || text === '') return undefined;
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new TarFieldError(`its ${field} ${JSON.stringify(text.slice(0, 40))} is not a number`);
  return value;
};

/** Go and others write -1 for "nobody", which Linux shows as 2^32-1. */
const idOf = (id: number, field: string): number => {
  if (id === -1 || id === -2) return MAX_ID + 1 + id;
  if (id < 0 || id > MAX_ID) throw new TarFieldError(`its ${field} ${id} is not a Linux id`);
  return id;
};

/** "1700000000.123456789", also negative; rounded down to the second. */
const timeOf = (text: string | undefined): { seconds: number; nanos: number } | undefined => {
  if (text === undefined || text === '') return undefined;
  const parts = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(text);
  if (parts === null) throw new TarFieldError(`its mtime ${JSON.stringify(text.slice(0, 40))} is not a time`);
  const nanos = Number((parts[3] ?? '').slice(0, 9).padEnd(9, '0'));
  const seconds = Number(parts[2]);
  if (parts[1] === '') return { seconds, nanos };
  return nanos === 0 ? { seconds: -seconds, nanos: 0 } : { seconds: -seconds - 1, nanos: 1e9 - nanos };
};

const unreadableType = (path: string, typeflag: string): string => {
  const shown = `its type ${JSON.stringify(typeflag)}`;
  if (typeflag === 'M') return `${shown} continues a file of another volume (${JSON.stringify(path.slice(0, 200))})`;
  return `${shown} is none that tsrun knows (${JSON.stringify(path.slice(0, 200))})`;
};
