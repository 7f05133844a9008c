/**
 * Reads the header and the object list of a SIF. No Node API: the planner uses it in the embedded engine. A usual image costs
 * one read of 8,776 bytes. Everything in the file is hostile: counts, offsets and sizes are checked before they are used.
 */
import { type ByteSource, byteString, i64, u64, untilNul, viewOf } from '../util/bytes.ts';
import { type ErrorCode, TsrunError } from '../util/errors.ts';
import {
  archOfCode,
  DATA_TYPES,
  DESCRIPTOR_SIZE,
  EXTRA_SIZE,
  FILE_SYSTEMS,
  GROUP_MASK,
  HASHES,
  HEADER_SIZE,
  LAUNCH_SIZE,
  MAGIC,
  NAME_SIZE,
  PARTITION_ROLES,
  SBOM_FORMATS,
  type SifContent,
  type SifHeader,
  type SifImage,
  type SifLink,
  type SifObject,
  TABLE_OFFSET,
  VERSION,
} from './format.ts';

/** The header and the first eight slots of a table in its usual place: enough for images of tsrun and of Apptainer. */
const FIRST_READ = TABLE_OFFSET + 8 * DESCRIPTOR_SIZE;
const MAX_SLOTS = 4096;

const refuse = (code: ErrorCode, why: string, hint: string): TsrunError =>
  new TsrunError({ code, what: 'cannot read the SIF image', why, hint });

const corrupt = (why: string): TsrunError =>
  refuse('E_SIF_CORRUPT', why, 'the file is damaged or was not written by a SIF tool: fetch or build it again');

const truncated = (why: string): TsrunError =>
  refuse('E_SIF_TRUNCATED', why, 'the file was not copied or downloaded completely: fetch it again');

/** True when the first 42 bytes of a file are those of a SIF. */
export const isSif = (head: Uint8Array): boolean => byteString(head.subarray(LAUNCH_SIZE, LAUNCH_SIZE + MAGIC.length)) === MAGIC;

/** A 64-bit field that is a count, a size or an offset. */
const amount = (view: DataView, at: number, field: string): number => {
  const value = u64(view, at);
  if (value === null) throw corrupt(`its ${field} is negative or above 2^53`);
  return value;
};

/** A 64-bit field that may be negative: a time, or an owner. */
const signed = (view: DataView, at: number, field: string): number => {
  const value = i64(view, at);
  if (value === null) throw corrupt(`its ${field} is out of range`);
  return value;
};

const named = <T extends readonly string[]>(names: T, index: number): Exclude<T[number], ''> | 'unknown' =>
  (names[index] || 'unknown') as Exclude<T[number], ''> | 'unknown';

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

const readHeader = (head: Uint8Array, fileSize: number): SifHeader => {
  const view = viewOf(head);
  const version = byteString(head.subarray(42, 45));
  if (version !== VERSION) {
    const shown = JSON.stringify(version.replace(/\0+$/, ''));
    throw refuse(
      'E_SIF_VERSION',
      `its format version is ${shown}`,
      'tsrun reads version "01"; convert the image with the tool that wrote it',
    );
  }
  const header: SifHeader = {
    launchScript: untilNul(head.subarray(0, LAUNCH_SIZE)),
    arch: archOfCode(untilNul(head.subarray(45, 48))),
    uuid: hex(head.subarray(48, 64)),
    created: signed(view, 64, 'creation time'),
    modified: signed(view, 72, 'modification time'),
    freeSlots: amount(view, 80, 'count of free descriptors'),
    totalSlots: amount(view, 88, 'count of descriptors'),
    tableOffset: amount(view, 96, 'descriptor table offset'),
    tableLength: amount(view, 104, 'descriptor table length'),
    dataOffset: amount(view, 112, 'data offset'),
    dataLength: amount(view, 120, 'data length'),
  };
  const { totalSlots, freeSlots, tableOffset, tableLength } = header;
  if (totalSlots > MAX_SLOTS) throw corrupt(`it claims ${totalSlots} descriptors, more than ${MAX_SLOTS}`);
  if (freeSlots > totalSlots) throw corrupt(`${freeSlots} of its ${totalSlots} descriptors are said to be free`);
  if (totalSlots * DESCRIPTOR_SIZE > tableLength)
    throw corrupt(`its table of ${tableLength} bytes is too short for ${totalSlots} descriptors`);
  if (tableOffset < HEADER_SIZE) throw corrupt(`its descriptor table at ${tableOffset} lies in the header`);
  if (tableOffset + totalSlots * DESCRIPTOR_SIZE > fileSize) {
    throw truncated(`its descriptor table ends at ${tableOffset + totalSlots * DESCRIPTOR_SIZE}, the file at ${fileSize}`);
  }
  return header;
};

/** A PGP fingerprint has 20 bytes; the rest of the field, and for DSSE all of it, is zero. */
const readEntity = (field: Uint8Array): string => {
  if (field.every((byte) => byte === 0)) return '';
  return hex(field.subarray(20).every((byte) => byte === 0) ? field.subarray(0, 20) : field);
};

const readContent = (type: number, extra: Uint8Array): SifContent => {
  const view = viewOf(extra);
  const first = view.getInt32(0, true);
  const second = view.getInt32(4, true);
  switch (type) {
    case DATA_TYPES.definition:
      return { type: 'definition' };
    case DATA_TYPES.environment:
      return { type: 'environment' };
    case DATA_TYPES.labels:
      return { type: 'labels' };
    case DATA_TYPES.partition:
      return {
        type: 'partition',
        fileSystem: named(FILE_SYSTEMS, first),
        role: named(PARTITION_ROLES, second),
        arch: archOfCode(untilNul(extra.subarray(8, 11))),
      };
    case DATA_TYPES.signature:
      return { type: 'signature', hash: named(HASHES, first), entity: readEntity(extra.subarray(4, 260)) };
    case DATA_TYPES['generic-json']:
      return { type: 'generic-json' };
    case DATA_TYPES.generic:
      return { type: 'generic' };
    case DATA_TYPES['crypto-message']:
      return { type: 'crypto-message', format: first, message: second };
    case DATA_TYPES.sbom:
      return { type: 'sbom', format: named(SBOM_FORMATS, first) };
    case DATA_TYPES['oci-root-index']:
      return { type: 'oci-root-index', digest: untilNul(extra) };
    case DATA_TYPES['oci-blob']:
      return { type: 'oci-blob', digest: untilNul(extra) };
    default:
      return { type: 'unknown', code: type };
  }
};

const readLink = (link: number): SifLink => {
  if (link === 0) return { to: 'nothing' };
  const group = link % 2 ** 28;
  return link - group === GROUP_MASK ? { to: 'group', group } : { to: 'object', id: link };
};

const readDescriptor = (bytes: Uint8Array): SifObject => {
  const view = viewOf(bytes);
  const id = view.getUint32(5, true);
  const field = (name: string): string => `object ${id}'s ${name}`;
  return {
    id,
    group: view.getUint32(9, true) % 2 ** 28,
    link: readLink(view.getUint32(13, true)),
    name: untilNul(bytes.subarray(73, 73 + NAME_SIZE)),
    content: readContent(view.getInt32(0, true), bytes.subarray(201, 201 + EXTRA_SIZE)),
    offset: amount(view, 17, field('offset')),
    size: amount(view, 25, field('size')),
    sizeWithPadding: amount(view, 33, field('padded size')),
    created: signed(view, 41, field('creation time')),
    modified: signed(view, 49, field('modification time')),
    uid: signed(view, 57, field('owner')),
    gid: signed(view, 65, field('group owner')),
  };
};

/** Reads slots until as many used ones are found as the header counts, so a usual table needs no second read. */
const readTable = (source: ByteSource, head: Uint8Array, header: SifHeader): SifObject[] => {
  const { totalSlots, freeSlots, tableOffset } = header;
  const inHead = Math.max(0, Math.min(totalSlots, Math.floor((head.length - tableOffset) / DESCRIPTOR_SIZE)));
  const used = totalSlots - freeSlots;
  const objects: SifObject[] = [];
  const take = (table: Uint8Array, slots: number): void => {
    for (let slot = 0; slot < slots && objects.length < used; slot++) {
      const bytes = table.subarray(slot * DESCRIPTOR_SIZE, (slot + 1) * DESCRIPTOR_SIZE);
      if (bytes[4] !== 0) objects.push(readDescriptor(bytes));
    }
  };
  take(head.subarray(tableOffset), inHead);
  if (objects.length < used && inHead < totalSlots) {
    const rest = totalSlots - inHead;
    take(source.read(tableOffset + inHead * DESCRIPTOR_SIZE, rest * DESCRIPTOR_SIZE), rest);
  }
  return objects;
};

const nameOf = (object: SifObject): string =>
  object.name === '' ? `object ${object.id}` : `object ${object.id} (${JSON.stringify(object.name)})`;

/** Objects lie inside the file, after header and table, and share no byte; ids are unique. */
const checkObjects = (objects: readonly SifObject[], header: SifHeader, fileSize: number): void => {
  const ids = new Set<number>();
  for (const object of objects) {
    if (object.id === 0 || ids.has(object.id)) throw corrupt(`object id ${object.id} is used twice or is zero`);
    ids.add(object.id);
    if (object.offset + object.size > fileSize) {
      throw truncated(`${nameOf(object)} ends at ${object.offset + object.size}, the file at ${fileSize}`);
    }
  }
  const table = { what: 'the descriptor table', offset: header.tableOffset, size: header.totalSlots * DESCRIPTOR_SIZE };
  const areas = [
    { what: 'the header', offset: 0, size: HEADER_SIZE },
    table,
    ...objects.map((object) => ({ what: nameOf(object), offset: object.offset, size: object.size })),
  ]
    .filter((area) => area.size > 0)
    .sort((a, b) => a.offset - b.offset);
  let before = areas[0];
  for (const area of areas.slice(1)) {
    if (before !== undefined && area.offset < before.offset + before.size) throw corrupt(`${before.what} and ${area.what} overlap`);
    before = area;
  }
};

/**
 * Header and objects of a SIF.
 * Errors: E_SIF_NOT, E_SIF_VERSION, E_SIF_CORRUPT, E_SIF_TRUNCATED.
 */
export const readSif = (source: ByteSource): SifImage => {
  const head = source.read(0, Math.min(source.size, FIRST_READ));
  if (head.length < HEADER_SIZE || !isSif(head)) {
    throw refuse('E_SIF_NOT', 'it has no SIF header', 'check the path; tsrun also reads SquashFS files, directories and OCI images');
  }
  const header = readHeader(head, source.size);
  const objects = readTable(source, head, header);
  checkObjects(objects, header, source.size);
  return { header, objects };
};

export type SifPartition = SifObject & { readonly content: SifContent & { readonly type: 'partition' } };

const isPartition = (object: SifObject): object is SifPartition => object.content.type === 'partition';

/** The root file system: the one partition with the role `primary`. Errors: E_SIF_NO_ROOT. */
export const primaryPartition = (image: SifImage): SifPartition => {
  const [primary, ...more] = image.objects.filter(isPartition).filter((object) => object.content.role === 'primary');
  if (primary !== undefined && more.length === 0) return primary;
  throw refuse(
    'E_SIF_NO_ROOT',
    primary === undefined ? 'it holds no primary system partition' : `it holds ${more.length + 1} primary system partitions`,
    'choose the root file system with: siftool setprim ID IMAGE',
  );
};

/** The first object of a type and name; undefined when there is none. */
export const findObject = (image: SifImage, type: SifContent['type'], name: string): SifObject | undefined =>
  image.objects.find((object) => object.content.type === type && object.name === name);

/** The bytes of an object that is small by nature (JSON, a definition). Errors: E_SIF_TOO_BIG above `limit` bytes. */
export const readObject = (source: ByteSource, object: SifObject, limit: number): Uint8Array => {
  if (object.size > limit) {
    throw refuse(
      'E_SIF_TOO_BIG',
      `${nameOf(object)} has ${object.size} bytes, more than ${limit}`,
      'no tool writes such an object: fetch or build the image again',
    );
  }
  return source.read(object.offset, object.size);
};
