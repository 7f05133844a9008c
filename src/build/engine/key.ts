/**
 * Names of cached results by content. A step's key is made of all that can change its result: the key of what it works on, what it does, and
 * the digests of what it reads. Times are no part of it, nor is what only changes messages.
 */
import { createHash } from 'node:crypto';

/** Bumped when the same step would give another result than an earlier tsrun gave. */
const VERSION = 3;

/** What keys are made of: plain data; the order of members does not matter, that of lists does. */
export type KeyPart = string | number | boolean | null | undefined | readonly KeyPart[] | { readonly [name: string]: KeyPart };

export type Key = string & { readonly __key: true };

/** 32 hex digits: enough to be unique, short enough for many of them in one mount option. */
export const keyOf = (parts: { readonly [name: string]: KeyPart }): Key =>
  createHash('sha256')
    .update(canonical({ version: VERSION, ...parts }))
    .digest('hex')
    .slice(0, 32) as Key;

const canonical = (part: KeyPart): string => {
  if (Array.isArray(part)) return `[${part.map(canonical).join(',')}]`;
  if (typeof part !== 'object' || part === null) return part === undefined ? 'undefined' : JSON.stringify(part);
  const members = Object.entries(part as { readonly [name: string]: KeyPart }).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${canonical(value)}`).join(',')}}`;
};
