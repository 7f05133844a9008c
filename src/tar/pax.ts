/**
 * PAX extended headers (POSIX.1-2017 pax, "pax Extended Header") with the vendor keys that layers use:
 * SCHILY.xattr.* (star, GNU tar, Docker), LIBARCHIVE.xattr.* (bsdtar), GNU.sparse.* (GNU tar).
 * Names and values stay bytes: `hdrcharset` only says which encoding a writer believed in.
 */
import { TarFieldError } from './header.ts';

/** `name` with its namespace ("security.capability"), as bytes. */
export type Xattr = { readonly name: Uint8Array; readonly value: Uint8Array };

/** What one extended header says; `undefined`: says nothing. The empty string deletes what an earlier header said. */
export type PaxRecords = {
  readonly path?: string;
  readonly linkpath?: string;
  readonly size?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly mtime?: string;
  readonly 'SCHILY.devmajor'?: string;
  readonly 'SCHILY.devminor'?: string;
  readonly xattrs?: readonly Xattr[];
  readonly sparse?: PaxSparse;
};

/** GNU.sparse.* of the formats 0.0, 0.1 and 1.0. */
export type PaxSparse = {
  readonly major?: string;
  readonly minor?: string;
  readonly name?: string;
  /** GNU.sparse.realsize (0.1, 1.0) or GNU.sparse.size (0.0). */
  readonly realsize?: string;
  /** Alternating offsets and lengths of 0.0 and 0.1, as decimal text. */
  readonly map?: readonly string[];
};

const NEWLINE = 0x0a;
const EQUALS = 0x3d;
const SPACE = 0x20;

/** @throws TarFieldError */
export const parsePax = (data: Buffer): PaxRecords => {
  const texts: Record<string, string> = {};
  const sparse: { -readonly [key in keyof PaxSparse]: PaxSparse[key] } = {};
  // bsdtar writes every attribute under both keys: one of each name.
  const xattrs = new Map<string, Uint8Array>();
  const map: string[] = [];
  for (let at = 0; at < data.length; ) {
    const record = readRecord(data, at);
    at = record.end;
    const { key, value } = record;
    if (key.startsWith('SCHILY.xattr.')) xattrs.set(key.slice(13), Buffer.from(value));
    else if (key.startsWith('LIBARCHIVE.xattr.')) xattrs.set(percentDecode(key.slice(17)), Buffer.from(value.toString('latin1'), 'base64'));
    else if (key.startsWith('GNU.sparse.')) readSparseKey(key.slice(11), value.toString('latin1'), sparse, map);
    else if (PLAIN_KEYS.has(key)) texts[key] = value.toString('latin1');
  }
  if (map.length > 0) sparse.map = map;
  return {
    ...texts,
    ...(xattrs.size > 0 ? { xattrs: [...xattrs].map(([name, value]) => ({ name: Buffer.from(name, 'latin1'), value })) } : {}),
    ...(Object.keys(sparse).length > 0 ? { sparse } : {}),
  };
};

const PLAIN_KEYS: ReadonlySet<string> = new Set(['path', 'linkpath', 'size', 'uid', 'gid', 'mtime', 'SCHILY.devmajor', 'SCHILY.devminor']);

/** A global header holds for all following entries; a later one and an entry's own header win, key by key. */
export const mergePax = (earlier: PaxRecords | undefined, later: PaxRecords | undefined): PaxRecords => {
  if (earlier === undefined) return later ?? {};
  return later === undefined ? earlier : { ...earlier, ...later };
};

/** "LENGTH KEY=VALUE\n", LENGTH counting the whole record. */
const readRecord = (data: Buffer, at: number): { key: string; value: Buffer; end: number } => {
  let length = 0;
  let i = at;
  for (; i < data.length && i < at + 10; i++) {
    const digit = (data[i] as number) - 0x30;
    if (digit < 0 || digit > 9) break;
    length = length * 10 + digit;
  }
  const end = at + length;
  if (i === at || data[i] !== SPACE || end > data.length || end <= i + 1 || data[end - 1] !== NEWLINE) {
    throw new TarFieldError('its extended header has a malformed record');
  }
  const equals = data.indexOf(EQUALS, i + 1);
  if (equals < 0 || equals >= end) throw new TarFieldError('its extended header has a record without =');
  return { key: data.toString('latin1', i + 1, equals), value: data.subarray(equals + 1, end - 1), end };
};

const readSparseKey = (key: string, value: string, sparse: { -readonly [key in keyof PaxSparse]: PaxSparse[key] }, map: string[]): void => {
  switch (key) {
    case 'major':
    case 'minor':
    case 'name':
    case 'realsize':
      sparse[key] = value;
      break;
    case 'size':
      sparse.realsize = value;
      break;
    case 'offset':
    case 'numbytes':
      // Format 0.0 repeats the pair of keys, in order, once for each run of data.
      if ((map.length % 2 === 0) !== (key === 'offset')) throw new TarFieldError('its sparse map is out of order');
      map.push(value);
      break;
    case 'map':
      // One by one: as arguments of a call, a long map would not fit on the stack.
      if (value === '') sparse.map = [];
      else for (const number of value.split(',')) map.push(number);
      break;
    default: // numblocks: the map itself says it.
  }
};

/** bsdtar percent-encodes names of attributes, and writes the value in base64 without padding. */
const percentDecode = (name: string): string =>
  name.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
