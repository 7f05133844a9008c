/** Writes everything behind the data: inodes, directories, fragments, references for NFS export, ids, xattrs. */
import { createArena, reserve } from '../util/growing.ts';
import type { SyncCompress } from './codec.ts';
import type { Contents } from './contents.ts';
import type { DirectoryListing, ListingContext } from './directories.ts';
import { writeListing } from './directories.ts';
import type { InodeContext } from './inodes.ts';
import { writeInode } from './inodes.ts';
import { createMetadataStream, metadataReference, writeIndexedTable } from './metadata.ts';
import type { Output } from './output.ts';
import type { Fragments } from './placement.ts';
import { createRecordWriter } from './records.ts';
import type { Superblock } from './superblock.ts';
import type { NodeId, Tree } from './tree.ts';
import { inodeOf, KIND, MAX_NAME, MAX_SYMLINK, ROOT } from './tree.ts';
import type { TreeOrder } from './tree-order.ts';
import { childrenOf } from './tree-order.ts';
import type { Xattr } from './types.ts';
import { xattrsOf } from './xattr-sets.ts';
import { NO_XATTRS, writeXattrTables } from './xattr-table.ts';

export type TableInput = {
  readonly tree: Tree;
  readonly order: TreeOrder;
  readonly contents: Contents;
  readonly fragments: Fragments;
  readonly blockSize: number;
  readonly output: Output;
  readonly compress: SyncCompress;
};

export type WrittenTables = Pick<Superblock, 'tables' | 'ids' | 'rootInode'>;

export const writeTables = (input: TableInput): WrittenTables => {
  const { order, output, compress, fragments } = input;
  const ids = new Map<number, number>();
  const xattrs = createXattrNumbers(input.tree);
  const inodes = output.position;
  const { places, directoryTable } = writeInodesAndListings(input, ids, xattrs.indexOf);
  const directories = output.position;
  output.append(directoryTable);
  const rootNumber = order.inodeNumber[ROOT] as number;
  return {
    rootInode: metadataReference(places.block[rootNumber] as number, places.offset[rootNumber] as number),
    ids: ids.size,
    tables: {
      inodes,
      directories,
      fragments: fragments.count === 0 ? undefined : writeIndexedTable(output, compress, fragmentTable(fragments)),
      export: writeIndexedTable(output, compress, exportTable(order, places)),
      ids: writeIndexedTable(output, compress, new Uint8Array(Uint32Array.from(ids.keys()).buffer)),
      xattrs: xattrs.sets.length === 0 ? undefined : writeXattrTables(output, compress, xattrs.sets),
    },
  };
};

type Places = { readonly block: Uint32Array; readonly offset: Uint16Array };

/**
 * A listing names the places of inodes and a directory's inode the place of its listing, so both tables grow together: the inodes of a
 * directory's names, then its listing, deepest directories first. The directory table lies behind the inodes and waits in memory.
 */
const writeInodesAndListings = (
  input: TableInput,
  ids: Map<number, number>,
  xattrIndex: (inode: NodeId) => number,
): { places: Places; directoryTable: Uint8Array } => {
  const { tree, order, contents, blockSize, output, compress } = input;
  const places = { block: new Uint32Array(order.inodes.length + 1), offset: new Uint16Array(order.inodes.length + 1) };
  const listings = new Map<NodeId, DirectoryListing>();
  const directoryTable = createArena(1 << 16);
  const inodeStream = createMetadataStream(compress, output.append);
  const listingStream = createMetadataStream(compress, (stored) => {
    const at = reserve(directoryTable, stored.length);
    directoryTable.bytes.set(stored, at);
  });
  const record = createRecordWriter(64 + Math.max(MAX_NAME, MAX_SYMLINK));
  const inodeContext: InodeContext = { tree, order, contents, blockSize, record, stream: inodeStream, ids: { ids }, xattrIndex, listings };
  const listingContext: ListingContext = { tree, order, places, record, stream: listingStream };
  let written = 0;
  const write = (inode: NodeId, parentNumber: number): void => {
    const number = order.inodeNumber[inode] as number;
    if (number <= written) return; // a further name
    written = number;
    places.block[number] = inodeStream.block();
    places.offset[number] = inodeStream.offset();
    writeInode(inodeContext, inode, parentNumber);
    if (tree.kind[inode] === KIND.directory) listings.delete(inode);
  };
  for (const dir of order.directories) {
    for (const node of childrenOf(order, dir)) write(inodeOf(tree, node), order.inodeNumber[dir] as number);
    listings.set(dir, writeListing(listingContext, dir));
  }
  // The root has no parent; squashfs-tools write the number after the last.
  write(ROOT, order.inodes.length + 1);
  inodeStream.end();
  listingStream.end();
  return { places, directoryTable: directoryTable.bytes.subarray(0, directoryTable.used) };
};

const fragmentTable = ({ count, start, size }: Fragments): Uint8Array => {
  const table = createRecordWriter(count * 16).begin();
  for (let i = 0; i < count; i++)
    table
      .u64(start[i] as number)
      .u32(size[i] as number)
      .u32(0);
  return table.done();
};

const exportTable = (order: TreeOrder, places: Places): Uint8Array => {
  const table = createRecordWriter(order.inodes.length * 8).begin();
  for (let number = 1; number <= order.inodes.length; number++) {
    table.u64(metadataReference(places.block[number] as number, places.offset[number] as number));
  }
  return table.done();
};

/** Numbers the sets in the order in which inodes first use them, so that what only removed files had is not written. */
const createXattrNumbers = (tree: Tree): { readonly sets: (readonly Xattr[])[]; readonly indexOf: (inode: NodeId) => number } => {
  const sets: (readonly Xattr[])[] = [];
  const numbers = new Map<number, number>();
  return {
    sets,
    indexOf: (inode) => {
      const set = tree.xattrs[inode] as number;
      if (set === 0) return NO_XATTRS;
      const known = numbers.get(set);
      if (known !== undefined) return known;
      numbers.set(set, sets.length);
      sets.push(xattrsOf(tree.xattrSets, set));
      return sets.length - 1;
    },
  };
};
