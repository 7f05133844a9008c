/**
 * Extended attributes of a tree, each distinct set once. The format holds three namespaces, as a number beside the rest of the name;
 * ACLs (system.posix_acl_access, …_default) and all others cannot be stored.
 */
import { createHash } from 'node:crypto';
import { TsrunError } from '../util/errors.ts';
import type { Xattr } from './types.ts';

/** Index + 0 is the format's type number. */
export const XATTR_PREFIXES = ['user.', 'trusted.', 'security.'].map((prefix) => Buffer.from(prefix));
const SYSTEM_ACL = Buffer.from('system.posix_acl_');

/** Limits of Linux (XATTR_NAME_MAX, XATTR_SIZE_MAX, XATTR_LIST_MAX), so that what we write can be read. */
const MAX_NAME = 255;
const MAX_VALUE = 65536;
const MAX_NAMES = 65536;

export type XattrSets = { readonly sets: (readonly Xattr[])[]; readonly ids: Map<string, number> };

export const createXattrSets = (): XattrSets => ({ sets: [[]], ids: new Map([['', 0]]) });

export const xattrsOf = (sets: XattrSets, id: number): readonly Xattr[] => sets.sets[id] as readonly Xattr[];

export type InternedXattrs = { readonly set: number; readonly lostAcl: boolean; readonly lostOther: boolean };
const NOTHING: InternedXattrs = { set: 0, lostAcl: false, lostOther: false };

/** Copies what it keeps. Of a name given twice the last value holds. E_SQUASHFS_XATTR when a limit of Linux is exceeded. */
export const internXattrs = (sets: XattrSets, xattrs: readonly Xattr[] | undefined): InternedXattrs => {
  if (xattrs === undefined || xattrs.length === 0) return NOTHING;
  let lostAcl = false;
  let lostOther = false;
  const kept = new Map<string, Xattr>();
  for (const { name, value } of xattrs) {
    if (prefixOf(name) < 0) {
      if (startsWith(name, SYSTEM_ACL)) lostAcl = true;
      else lostOther = true;
      continue;
    }
    kept.set(Buffer.from(name).toString('latin1'), { name: name.slice(), value: value.slice() });
  }
  const sorted = [...kept.values()].sort((a, b) => Buffer.compare(a.name, b.name));
  checkLimits(sorted);
  const key = setKey(sorted);
  let set = sets.ids.get(key);
  if (set === undefined) {
    set = sets.sets.length;
    sets.sets.push(sorted);
    sets.ids.set(key, set);
  }
  return { set, lostAcl, lostOther };
};

/** The format's type number, or -1. A bare prefix is no name. */
export const prefixOf = (name: Uint8Array): number =>
  XATTR_PREFIXES.findIndex((prefix) => name.length > prefix.length && startsWith(name, prefix));

const startsWith = (bytes: Uint8Array, prefix: Uint8Array): boolean => prefix.every((byte, i) => bytes[i] === byte);

const checkLimits = (xattrs: readonly Xattr[]): void => {
  let names = 0;
  for (const { name, value } of xattrs) {
    names += name.length + 1;
    if (name.length <= MAX_NAME && value.length <= MAX_VALUE && names <= MAX_NAMES && !name.includes(0)) continue;
    throw new TsrunError({
      code: 'E_SQUASHFS_XATTR',
      what: `cannot store the extended attribute ${JSON.stringify(Buffer.from(name.subarray(0, 300)).toString('latin1'))}`,
      why: `beyond what Linux reads: names of ${MAX_NAME} bytes without NUL, values of ${MAX_VALUE} bytes, ${MAX_NAMES} bytes of names a file`,
      hint: 'remove the attribute in the source of the image',
    });
  }
};

const setKey = (xattrs: readonly Xattr[]): string => {
  const parts = xattrs.flatMap(({ name, value }) => [Buffer.from(`${name.length} ${value.length} `), name, value]);
  const bytes = Buffer.concat(parts);
  return bytes.length <= 64 ? bytes.toString('latin1') : createHash('sha256').update(bytes).digest().toString('latin1');
};
