/**
 * Writes a SIF. Objects go to the file one after the other as they come; header and descriptor table are written last, so a
 * SquashFS of unknown size streams straight into its place. The same objects give the same bytes: no time and no UUID by default.
 */
import { ftruncateSync, writeSync } from 'node:fs';
import { alignUp, bytesOf, setI64, viewOf } from '../util/bytes.ts';
import { TsrunError } from '../util/errors.ts';
import { writeOutputFile } from '../util/output-file.ts';
import {
  codeOfArch,
  DATA_OFFSET,
  DATA_TYPES,
  DESCRIPTOR_SIZE,
  EXTRA_SIZE,
  FILE_SYSTEMS,
  GROUP_MASK,
  HASHES,
  HEADER_SIZE,
  LAUNCH_SCRIPT,
  LAUNCH_SIZE,
  MAGIC,
  NAME_SIZE,
  NO_TIME,
  PARTITION_ALIGNMENT,
  PARTITION_ROLES,
  SBOM_FORMATS,
  type SifArch,
  type SifContent,
  type SifHeader,
  type SifLink,
  type SifObject,
  TABLE_OFFSET,
  TABLE_SLOTS,
  VERSION,
} from './format.ts';

export type SifOptions = {
  /** At most 31 bytes. */
  readonly launchScript?: string;
  /** 32 hex digits; all zero by default. */
  readonly uuid?: string;
  /** Unix seconds; NO_TIME by default. */
  readonly time?: number;
};

export type NewSifObject = {
  readonly content: SifContent;
  /** Byte string of at most 128 bytes. */
  readonly name: string;
  /** 1 by default, as in Apptainer's images, so that one signature can cover the image; 0 is no group. */
  readonly group?: number;
  readonly link?: SifLink;
};

/** Fills an object's place in the file: writes from `offset` on and returns how many bytes the object has. */
export type WriteObject = (fd: number, offset: number) => Promise<number>;

export type SifBuilder = {
  /** Both return the new object's id. */
  readonly add: (object: NewSifObject, bytes: Uint8Array) => Promise<number>;
  readonly addStream: (object: NewSifObject, write: WriteObject) => Promise<number>;
};

const mistake = (why: string): TsrunError =>
  new TsrunError({ code: 'E_SIF_WRITE', what: 'cannot write the SIF image', why, hint: 'this is a limit of the format' });

const writeAll = (fd: number, bytes: Uint8Array, offset: number): void => {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
};

/** Puts a byte string into a fixed field; the rest stays NUL. */
const put = (into: Uint8Array, at: number, room: number, text: string, field: string): void => {
  if (text.length > room) throw mistake(`${field} ${JSON.stringify(text)} is longer than ${room} bytes`);
  into.set(bytesOf(text), at);
};

const indexOf = (names: readonly string[], name: string, field: string): number => {
  const index = name === '' ? -1 : names.indexOf(name);
  if (index < 0) throw mistake(`${field} ${name} has no number in the format`);
  return index;
};

const hexBytes = (hex: string, length: number, field: string): Uint8Array => {
  if (!/^([0-9a-f]{2})*$/.test(hex) || hex.length > 2 * length) throw mistake(`${field} ${hex} is not hex of at most ${length} bytes`);
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
};

const encodeExtra = (content: SifContent): Uint8Array => {
  const extra = new Uint8Array(EXTRA_SIZE);
  const view = viewOf(extra);
  switch (content.type) {
    case 'partition':
      view.setInt32(0, indexOf(FILE_SYSTEMS, content.fileSystem, 'file system'), true);
      view.setInt32(4, indexOf(PARTITION_ROLES, content.role, 'partition role'), true);
      put(extra, 8, 2, codeOfArch(content.arch), 'architecture');
      break;
    case 'signature':
      view.setInt32(0, indexOf(HASHES, content.hash, 'hash'), true);
      extra.set(hexBytes(content.entity, 256, 'signing entity'), 4);
      break;
    case 'crypto-message':
      view.setInt32(0, content.format, true);
      view.setInt32(4, content.message, true);
      break;
    case 'sbom':
      view.setInt32(0, indexOf(SBOM_FORMATS, content.format, 'SBOM format'), true);
      break;
    case 'oci-root-index':
    case 'oci-blob':
      put(extra, 0, EXTRA_SIZE, content.digest, 'digest');
      break;
    case 'definition':
    case 'environment':
    case 'labels':
    case 'generic-json':
    case 'generic':
    case 'unknown':
      break;
    default:
      content satisfies never;
  }
  return extra;
};

const encodeLink = (link: SifLink): number => {
  switch (link.to) {
    case 'nothing':
      return 0;
    case 'object':
      return link.id;
    case 'group':
      return GROUP_MASK + link.group;
  }
};

const encodeDescriptor = (object: SifObject): Uint8Array => {
  const bytes = new Uint8Array(DESCRIPTOR_SIZE);
  const view = viewOf(bytes);
  view.setInt32(0, object.content.type === 'unknown' ? object.content.code : DATA_TYPES[object.content.type], true);
  bytes[4] = 1;
  view.setUint32(5, object.id, true);
  view.setUint32(9, GROUP_MASK + object.group, true);
  view.setUint32(13, encodeLink(object.link), true);
  setI64(view, 17, object.offset);
  setI64(view, 25, object.size);
  setI64(view, 33, object.sizeWithPadding);
  setI64(view, 41, object.created);
  setI64(view, 49, object.modified);
  setI64(view, 57, object.uid);
  setI64(view, 65, object.gid);
  put(bytes, 73, NAME_SIZE, object.name, 'object name');
  bytes.set(encodeExtra(object.content), 201);
  return bytes;
};

const encodeHeader = (header: SifHeader): Uint8Array => {
  const bytes = new Uint8Array(HEADER_SIZE);
  const view = viewOf(bytes);
  put(bytes, 0, LAUNCH_SIZE - 1, header.launchScript, 'launch script');
  put(bytes, 32, MAGIC.length, MAGIC, 'magic');
  put(bytes, 42, VERSION.length, VERSION, 'version');
  put(bytes, 45, 2, codeOfArch(header.arch), 'architecture');
  bytes.set(hexBytes(header.uuid, 16, 'UUID'), 48);
  setI64(view, 64, header.created);
  setI64(view, 72, header.modified);
  setI64(view, 80, header.freeSlots);
  setI64(view, 88, header.totalSlots);
  setI64(view, 96, header.tableOffset);
  setI64(view, 104, header.tableLength);
  setI64(view, 112, header.dataOffset);
  setI64(view, 120, header.dataLength);
  return bytes;
};

const headerOf = (options: SifOptions, objects: readonly SifObject[], end: number): SifHeader => {
  const time = options.time ?? NO_TIME;
  const arches = objects.flatMap((object): SifArch[] =>
    object.content.type === 'partition' && object.content.role === 'primary' ? [object.content.arch] : [],
  );
  if (arches.length > 1) throw mistake(`it has ${arches.length} primary partitions`);
  return {
    launchScript: options.launchScript ?? LAUNCH_SCRIPT,
    arch: arches[0] ?? 'unknown',
    uuid: options.uuid ?? '00'.repeat(16),
    created: time,
    modified: time,
    freeSlots: TABLE_SLOTS - objects.length,
    totalSlots: TABLE_SLOTS,
    tableOffset: TABLE_OFFSET,
    tableLength: TABLE_SLOTS * DESCRIPTOR_SIZE,
    dataOffset: DATA_OFFSET,
    dataLength: end - DATA_OFFSET,
  };
};

/** Writes a SIF into an empty file that is open for writing. Objects must be added one at a time. Errors: E_SIF_WRITE. */
export const writeSif = async (fd: number, options: SifOptions, fill: (sif: SifBuilder) => Promise<void>): Promise<void> => {
  const objects: SifObject[] = [];
  const time = options.time ?? NO_TIME;
  let end = DATA_OFFSET;

  const addStream = async (object: NewSifObject, write: WriteObject): Promise<number> => {
    if (objects.length === TABLE_SLOTS) throw mistake(`it cannot hold more than ${TABLE_SLOTS} objects`);
    const offset = object.content.type === 'partition' ? alignUp(end, PARTITION_ALIGNMENT) : end;
    const size = await write(fd, offset);
    const id = objects.length + 1;
    const { content, name, group = 1, link = { to: 'nothing' } } = object;
    const place = { offset, size, sizeWithPadding: offset - end + size };
    objects.push({ id, group, link, name, content, ...place, created: time, modified: time, uid: 0, gid: 0 });
    end = offset + size;
    return id;
  };
  const add = (object: NewSifObject, bytes: Uint8Array): Promise<number> =>
    addStream(object, async (into, offset) => {
      writeAll(into, bytes, offset);
      return bytes.length;
    });

  await fill({ add, addStream });
  const front = new Uint8Array(DATA_OFFSET);
  front.set(encodeHeader(headerOf(options, objects, end)), 0);
  for (const object of objects) front.set(encodeDescriptor(object), TABLE_OFFSET + (object.id - 1) * DESCRIPTOR_SIZE);
  writeAll(fd, front, 0);
  // The file ends where its last object does, also when that is an empty partition behind padding.
  ftruncateSync(fd, end);
};

/**
 * Makes a SIF file that appears whole or not at all, executable like Apptainer's.
 * Errors: E_SIF_WRITE, E_OUTPUT, E_OUTPUT_FULL, and what `fill` throws.
 */
export const createSif = (path: string, options: SifOptions, fill: (sif: SifBuilder) => Promise<void>): Promise<void> =>
  writeOutputFile(path, 0o777, (fd) => writeSif(fd, options, fill));
