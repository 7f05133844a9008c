/**
 * Directory listings. A listing is a sequence of groups: a header with what its entries share (the inode block, a base inode number, a count up
 * to 256), then the entries. Big directories get an index, about one entry each 8 KiB, by which a reader skips to the right place.
 */
import type { MetadataStream } from './metadata.ts';
import { METADATA_BYTES } from './metadata.ts';
import type { RecordWriter } from './records.ts';
import type { NodeId, Tree } from './tree.ts';
import { inodeOf, nameOf } from './tree.ts';
import type { TreeOrder } from './tree-order.ts';
import { childrenOf } from './tree-order.ts';

const MAX_GROUP = 256;
const HEADER_BYTES = 12;
const ENTRY_BYTES = 8;
const MAX_DELTA = 32767;

export type DirectoryIndexEntry = {
  /** Of the group's header, from the start of the listing. */
  readonly at: number;
  /** The metadata block that header lies in. */
  readonly block: number;
  /** Of the group's first entry. */
  readonly name: Uint8Array;
};

export type DirectoryListing = {
  /** Where it starts in the directory table. */
  readonly block: number;
  readonly offset: number;
  readonly bytes: number;
  readonly index: readonly DirectoryIndexEntry[];
};

/** Where the inodes lie in the inode table, by inode number. */
export type InodePlaces = { readonly block: Uint32Array; readonly offset: Uint16Array };

export type ListingContext = {
  readonly tree: Tree;
  readonly order: TreeOrder;
  readonly places: InodePlaces;
  readonly record: RecordWriter;
  readonly stream: MetadataStream;
};

/** Appends the listing of `dir`, whose inodes are all written, to the directory table. */
export const writeListing = (context: ListingContext, dir: NodeId): DirectoryListing => {
  const { tree, order, places, record, stream } = context;
  const names = childrenOf(order, dir);
  const start = { block: stream.block(), offset: stream.offset() };
  const index: DirectoryIndexEntry[] = [];
  let bytes = 0;
  let indexedAt = 0;
  const put = (part: Uint8Array): void => {
    bytes += part.length;
    stream.put(part);
  };
  for (let from = 0; from < names.length; ) {
    if (bytes + HEADER_BYTES + ENTRY_BYTES + (tree.nameLength[names[from] as number] as number) > indexedAt + METADATA_BYTES) {
      index.push({ at: bytes, block: stream.block(), name: nameOf(tree, names[from] as number).slice() });
      indexedAt = bytes;
    }
    const to = groupEnd(context, names, from, indexedAt + METADATA_BYTES - bytes);
    const first = order.inodeNumber[inodeOf(tree, names[from] as number)] as number;
    put(
      record
        .begin()
        .u32(to - from - 1)
        .u32(places.block[first] as number)
        .u32(first)
        .done(),
    );
    for (let i = from; i < to; i++) {
      const node = names[i] as number;
      const inode = inodeOf(tree, node);
      const number = order.inodeNumber[inode] as number;
      const name = nameOf(tree, node);
      put(
        record
          .begin()
          .u16(places.offset[number] as number)
          .i16(number - first)
          .u16(tree.kind[inode] as number)
          .u16(name.length - 1)
          .bytes(name)
          .done(),
      );
    }
    from = to;
  }
  return { ...start, bytes, index };
};

/** The end of the longest group from `from` on whose inodes share a block, whose numbers fit a delta, and which takes at most `room` bytes. */
const groupEnd = ({ tree, order, places }: ListingContext, names: Uint32Array, from: number, room: number): number => {
  const first = order.inodeNumber[inodeOf(tree, names[from] as number)] as number;
  let left = room - HEADER_BYTES;
  let to = from;
  while (to < names.length && to - from < MAX_GROUP) {
    const node = names[to] as number;
    const number = order.inodeNumber[inodeOf(tree, node)] as number;
    left -= ENTRY_BYTES + (tree.nameLength[node] as number);
    if (left < 0 || places.block[number] !== places.block[first] || Math.abs(number - first) > MAX_DELTA) break;
    to++;
  }
  return to;
};
