/**
 * What one layer asks for, in the order of its archive, as compact records (about 30 bytes and the part of the name that differs
 * from the one before), so that a million entries fit in 50 MB until they are replayed.
 */

import type { FileContent, Xattr } from '../squashfs/types.ts';
import { TsrunError } from '../util/errors.ts';
import { append, type ByteArena, createArena, reserve } from '../util/growing.ts';

const TYPES = ['directory', 'file', 'hardlink', 'symlink', 'character', 'block', 'fifo', 'whiteout', 'opaque', 'aufs-link'] as const;
export type RecordType = (typeof TYPES)[number];

/** All strings are byte strings; paths are clean (layer-path.ts). */
export type LayerRecord = {
  readonly type: RecordType;
  readonly path: string;
  /** Target of a symbolic link as it is, of a hard link as a clean path; else "". */
  readonly link: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly mtimeNanos: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly xattrs: readonly Xattr[] | undefined;
  /** Of a regular file; `undefined`: left out, because it looked hidden. */
  readonly content: FileContent | undefined;
};

/** About lower layers only. */
export const isHiding = (type: RecordType): boolean => type === 'whiteout' || type === 'opaque';

export type LayerLog = {
  readonly count: number;
  /** True when it has a whiteout. */
  readonly hides: boolean;
  append(record: LayerRecord): void;
  /** `index` is the record's place in the layer. */
  each(visit: (record: LayerRecord, index: number) => void): void;
};

const FIXED = 46;
const NO_CONTENT = 0xffffffff;

/** Equal sets of attributes once; shared by the logs of one image. */
export type XattrTable = {
  /** ≥ 1 */
  intern(xattrs: readonly Xattr[]): number;
  get(id: number): readonly Xattr[];
};

/** Of all distinct sets together: real images have a few kilobytes. */
const MAX_XATTR_BYTES = 128 * 1024 * 1024;

/** @throws TsrunError E_LIMIT, from `intern` */
export const createXattrTable = (name: string): XattrTable => {
  const sets: (readonly Xattr[])[] = [];
  const ids = new Map<string, number>();
  let bytes = 0;
  return {
    intern: (xattrs) => {
      const key = xattrs.map(({ name: key, value }) => `${key.length} ${value.length} ${latin1(key)}${latin1(value)}`).join(' ');
      const known = ids.get(key);
      if (known !== undefined) return known;
      bytes += key.length;
      if (bytes > MAX_XATTR_BYTES) {
        throw new TsrunError({
          code: 'E_LIMIT',
          what: `cannot convert ${name}`,
          why: `its files have more than ${MAX_XATTR_BYTES} bytes of different extended attributes`,
          hint: 'no real image has so many: ask who made it',
        });
      }
      sets.push(xattrs);
      ids.set(key, sets.length);
      return sets.length;
    },
    get: (id) => sets[id - 1] ?? [],
  };
};

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');

export const createLayerLog = (xattrs: XattrTable): LayerLog => {
  const arena: ByteArena = createArena(1024);
  let view = Buffer.from(arena.bytes.buffer);
  let previous = '';
  let count = 0;
  let hides = false;

  return {
    get count() {
      return count;
    },
    get hides() {
      return hides;
    },
    append: (record) => {
      const shared = commonPrefix(previous, record.path);
      previous = record.path;
      count++;
      hides ||= isHiding(record.type);
      const at = reserve(arena, FIXED);
      const tail = Buffer.from(record.path.slice(shared) + record.link, 'latin1');
      append(arena, tail);
      if (view.buffer !== arena.bytes.buffer) view = Buffer.from(arena.bytes.buffer);
      view.writeUInt8(TYPES.indexOf(record.type), at);
      view.writeUInt8(record.mtimeNanos === 0 ? 0 : 1, at + 1);
      view.writeUInt16LE(record.mode, at + 2);
      view.writeUInt32LE(record.uid, at + 4);
      view.writeUInt32LE(record.gid, at + 8);
      view.writeDoubleLE(record.mtime, at + 12);
      view.writeUInt32LE(record.devMajor >>> 0, at + 20);
      view.writeUInt32LE(record.devMinor >>> 0, at + 24);
      view.writeUInt32LE(record.xattrs === undefined ? 0 : xattrs.intern(record.xattrs), at + 28);
      view.writeUInt32LE(record.content ?? NO_CONTENT, at + 32);
      view.writeUInt16LE(shared, at + 36);
      view.writeUInt32LE(record.path.length - shared, at + 38);
      view.writeUInt32LE(record.link.length, at + 42);
    },
    each: (visit) => {
      let path = '';
      for (let at = 0, index = 0; index < count; index++) {
        const pathLength = view.readUInt32LE(at + 38);
        const linkLength = view.readUInt32LE(at + 42);
        const pathAt = at + FIXED;
        const set = view.readUInt32LE(at + 28);
        const content = view.readUInt32LE(at + 32);
        path = path.slice(0, view.readUInt16LE(at + 36)) + view.toString('latin1', pathAt, pathAt + pathLength);
        visit(
          {
            type: TYPES[view.readUInt8(at)] as RecordType,
            path,
            link: view.toString('latin1', pathAt + pathLength, pathAt + pathLength + linkLength),
            mode: view.readUInt16LE(at + 2),
            uid: view.readUInt32LE(at + 4),
            gid: view.readUInt32LE(at + 8),
            mtime: view.readDoubleLE(at + 12),
            mtimeNanos: view.readUInt8(at + 1),
            devMajor: view.readUInt32LE(at + 20),
            devMinor: view.readUInt32LE(at + 24),
            xattrs: set === 0 ? undefined : xattrs.get(set),
            content: content === NO_CONTENT ? undefined : (content as FileContent),
          },
          index,
        );
        at = pathAt + pathLength + linkLength;
      }
    },
  };
};

const commonPrefix = (a: string, b: string): number => {
  const end = Math.min(a.length, b.length);
  let at = 0;
  while (at < end && a.charCodeAt(at) === b.charCodeAt(at)) at++;
  return at;
};
