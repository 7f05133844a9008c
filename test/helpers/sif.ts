/** SIF files as text, a char for each byte, for the planner's tests. */
import { factsJson } from '../../src/image/compute.ts';
import { IMAGE_FACTS_OBJECT } from '../../src/image/facts.ts';
import { HOT_LIST_OBJECT } from '../../src/image/image.ts';
import {
  codeOfArch,
  DATA_OFFSET,
  DATA_TYPES,
  DESCRIPTOR_SIZE,
  FILE_SYSTEMS,
  type SifArch,
  TABLE_OFFSET,
  TABLE_SLOTS,
} from '../../src/sif/format.ts';
import { facts, squash } from './planning.ts';

const le = (value: number, bytes: number): string => {
  let text = '';
  for (let at = 0, rest = value; at < bytes; at++, rest = Math.floor(rest / 256)) text += String.fromCharCode(rest % 256);
  return text;
};

type SifParts = {
  readonly facts?: string;
  readonly arch?: SifArch;
  readonly fileSystem?: (typeof FILE_SYSTEMS)[number];
  readonly root?: string;
  readonly role?: number;
  /** The bytes of a hot list. */
  readonly hot?: string;
  /** The facts lie before the root, as no converter puts them, or behind the hot list, as `tsrun optimize` does. */
  readonly factsAre?: 'first' | 'next' | 'last';
};

/** A SIF with a facts object (unless '') and a root file system. */
export const sif = ({
  facts: text = factsJson(facts()),
  arch = 'amd64',
  fileSystem = 'squashfs',
  root = squash(),
  role = 2,
  hot = '',
  factsAre = 'next',
}: SifParts = {}): string => {
  const descriptor = (type: number, id: number, offset: number, size: number, name: string, extra: string): string =>
    le(type, 4) +
    '\x01' +
    le(id, 4) +
    le(0xf0000001, 4) +
    le(0, 4) +
    le(offset, 8) +
    le(size, 8) +
    le(size, 8) +
    le(0, 32) +
    name.padEnd(128, '\0') +
    extra.padEnd(384, '\0');
  const rootAt = Math.ceil((DATA_OFFSET + (factsAre === 'first' ? text.length : 0)) / 4096) * 4096;
  const rootEnd = rootAt + root.length;
  const factsAt = { first: DATA_OFFSET, next: rootEnd, last: rootEnd + hot.length }[factsAre];
  const hotAt = rootEnd + (factsAre === 'next' ? text.length : 0);
  const code = `${codeOfArch(arch)}\0`;
  const objects: ((id: number) => string)[] = [
    (id) => descriptor(DATA_TYPES.partition, id, rootAt, root.length, 'root', le(FILE_SYSTEMS.indexOf(fileSystem), 4) + le(role, 4) + code),
  ];
  const theFacts = (id: number): string => descriptor(DATA_TYPES['generic-json'], id, factsAt, text.length, IMAGE_FACTS_OBJECT, '');
  if (hot !== '') objects.push((id) => descriptor(DATA_TYPES.generic, id, hotAt, hot.length, HOT_LIST_OBJECT, ''));
  if (text !== '') objects.splice({ first: 0, next: 1, last: 2 }[factsAre], 0, theFacts);
  const header =
    '#!/usr/bin/env run-singularity\n'.padEnd(32, '\0') +
    'SIF_MAGIC\0' +
    '01\0' +
    code +
    '\0'.repeat(16) +
    le(0, 16) +
    le(TABLE_SLOTS - objects.length, 8) +
    le(TABLE_SLOTS, 8) +
    le(TABLE_OFFSET, 8) +
    le(TABLE_SLOTS * DESCRIPTOR_SIZE, 8) +
    le(DATA_OFFSET, 8) +
    le(4096, 8);
  const head = (header.padEnd(TABLE_OFFSET, '\0') + objects.map((object, index) => object(index + 1)).join('')).padEnd(DATA_OFFSET, '\0');
  const before = factsAre === 'first' ? head.concat(text) : head;
  return before.padEnd(rootAt, '\0') + root + { first: hot, next: text + hot, last: hot + text }[factsAre];
};
