/**
 * Headers of packages in the databases of rpm that are no SQLite files; numbers are little-endian, as all machines with such images wrote them.
 *
 * Berkeley DB (to rpm 4.15; RHEL 8): a hash table in pages. Values too long for a page lie in chains of overflow pages (db_page.h of Berkeley DB 5.3).
 * ndb (SUSE): a table of slots in the first pages, each with the place of a blob (lib/backend/ndb/rpmpkg.c of rpm).
 */
import { readSync } from 'node:fs';

export type DatabaseFile = { readonly fd: number; readonly size: number };

/** rpm itself refuses longer ones. */
const MAX_HEADER = 256 * 1024 * 1024;

/** Undefined where the file has not as many bytes. */
const read = ({ fd, size }: DatabaseFile, position: number, length: number): Buffer | undefined => {
  if (position + length > size) return undefined;
  const bytes = Buffer.alloc(length);
  return readSync(fd, bytes, 0, length, position) === length ? bytes : undefined;
};

const NDB = { magic: 0x506d7052, slot: 0x746f6c53, blob: 0x53626c42 } as const; // "RpmP", "Slot", "BlbS"
const NDB_PAGE = 4096;
const NDB_UNIT = 16;

/** Undefined: it is of another kind. */
export const ndbHeaders = (file: DatabaseFile): Iterable<Buffer> | undefined => {
  const head = read(file, 0, 32);
  return head?.readUInt32LE(0) === NDB.magic ? ndbBlobs(file, head.readUInt32LE(12)) : undefined;
};

function* ndbBlobs(file: DatabaseFile, slotPages: number): Generator<Buffer> {
  const slots = read(file, 0, slotPages * NDB_PAGE) ?? Buffer.alloc(0);
  for (let at = 2 * NDB_UNIT; at + NDB_UNIT <= slots.length; at += NDB_UNIT) {
    const [magic, index, place] = [slots.readUInt32LE(at), slots.readUInt32LE(at + 4), slots.readUInt32LE(at + 8) * NDB_UNIT];
    if (magic !== NDB.slot || index === 0) continue;
    const head = read(file, place, 16);
    if (head === undefined || head.readUInt32LE(0) !== NDB.blob || head.readUInt32LE(4) !== index) continue;
    const blob = read(file, place + 16, Math.min(head.readUInt32LE(12), MAX_HEADER));
    if (blob !== undefined) yield blob;
  }
}

const BDB_HASH = 0x061561;
const BDB_PAGE_HEAD = 26;
const PAGE = { hashUnsorted: 2, overflow: 7, hash: 13 } as const;
const ITEM = { here: 1, elsewhere: 3 } as const;

/** Undefined: it is of another kind. */
export const bdbHeaders = (file: DatabaseFile): Iterable<Buffer> | undefined => {
  const head = read(file, 0, 72);
  if (head?.readUInt32LE(12) !== BDB_HASH) return undefined;
  const pageSize = head.readUInt32LE(20);
  return pageSize >= 512 && pageSize <= 65_536 ? bdbValues(file, pageSize) : [];
};

function* bdbValues(file: DatabaseFile, pageSize: number): Generator<Buffer> {
  // A damaged file may name the same pages again and again.
  let left = 2 * file.size;
  for (let position = pageSize; position < file.size && left > 0; position += pageSize) {
    const page = read(file, position, pageSize);
    if (page === undefined || (page[25] !== PAGE.hash && page[25] !== PAGE.hashUnsorted)) continue;
    const places = Array.from({ length: Math.min(page.readUInt16LE(20), (pageSize - BDB_PAGE_HEAD) / 2) }, (_, at) =>
      page.readUInt16LE(BDB_PAGE_HEAD + 2 * at),
    );
    // Keys and values take turns, from the end of the page towards its beginning.
    for (let at = 1; at < places.length; at += 2) {
      const [from, to] = [places[at] as number, places[at - 1] as number];
      const value =
        page[from] === ITEM.elsewhere && from + 12 <= pageSize
          ? chained(file, pageSize, page.readUInt32LE(from + 4), page.readUInt32LE(from + 8))
          : page.subarray(from + 1, page[from] === ITEM.here ? to : from + 1);
      left -= value.length;
      yield value;
    }
  }
}

/** What an overflow page and those behind it hold; less than `length` where the chain ends early. */
const chained = (file: DatabaseFile, pageSize: number, first: number, length: number): Buffer => {
  const parts: Buffer[] = [];
  let left = Math.min(length, MAX_HEADER, file.size);
  for (let number = first; number !== 0 && left > 0; ) {
    const page = read(file, number * pageSize, pageSize);
    const bytes = page?.readUInt16LE(22) ?? 0;
    if (page === undefined || page[25] !== PAGE.overflow || bytes === 0) break;
    const part = page.subarray(BDB_PAGE_HEAD, BDB_PAGE_HEAD + Math.min(bytes, left));
    parts.push(part);
    left -= part.length;
    number = page.readUInt32LE(16);
  }
  return Buffer.concat(parts);
};
