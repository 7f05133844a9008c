/**
 * Inode records. Each kind has a basic and an extended form; the extended one is taken only when the basic one cannot hold the inode.
 * Layouts: struct squashfs_*_inode in Linux fs/squashfs/squashfs_fs.h.
 */
import { TsrunError } from '../util/errors.ts';
import type { Contents } from './contents.ts';
import { NO_FRAGMENT } from './contents.ts';
import type { DirectoryListing } from './directories.ts';
import type { MetadataStream } from './metadata.ts';
import type { RecordWriter } from './records.ts';
import type { NodeId, Tree } from './tree.ts';
import { deviceNumber, KIND, symlinkTarget } from './tree.ts';
import type { TreeOrder } from './tree-order.ts';
import { NO_XATTRS } from './xattr-table.ts';

const EXTENDED = 7;
const NO_FRAGMENT_INDEX = 0xffffffff;
const U32 = 2 ** 32;
const U16 = 2 ** 16;
/** "." and "..", which are not in the listing, count in a directory's size. */
const DOTS_BYTES = 3;
/** The count of ids in the super block has 16 bits. */
const MAX_IDS = 65535;

export type InodeContext = {
  readonly tree: Tree;
  readonly order: TreeOrder;
  readonly contents: Contents;
  readonly blockSize: number;
  readonly record: RecordWriter;
  readonly stream: MetadataStream;
  readonly ids: IdTable;
  /** Index of the inode's xattr set in the image, NO_XATTRS when it has none. */
  readonly xattrIndex: (inode: NodeId) => number;
  /** Of directories whose listing is written. */
  readonly listings: Map<NodeId, DirectoryListing>;
};

export type IdTable = { readonly ids: Map<number, number> };

/** The id's index. E_SQUASHFS_IDS beyond 65535 different user and group ids. */
export const idIndex = ({ ids }: IdTable, id: number): number => {
  const known = ids.get(id);
  if (known !== undefined) return known;
  if (ids.size === MAX_IDS) {
    throw new TsrunError({
      code: 'E_SQUASHFS_IDS',
      what: 'cannot store the owners of all files',
      why: `SquashFS holds ${MAX_IDS} different user and group ids, the source has more`,
      hint: 'set the owners in the source to fewer ids',
    });
  }
  ids.set(id, ids.size);
  return ids.size - 1;
};

/** Appends the inode's record to the stream. A directory's listing and the places of a file's blocks are known by now. */
export const writeInode = (context: InodeContext, inode: NodeId, parentNumber: number): void => {
  const kind = context.tree.kind[inode] as number;
  if (kind === KIND.directory) writeDirectory(context, inode, parentNumber);
  else if (kind === KIND.file) writeFile(context, inode);
  else writeSpecial(context, inode, kind);
};

const beginInode = ({ tree, order, record, ids }: InodeContext, inode: NodeId, type: number): RecordWriter =>
  record
    .begin()
    .u16(type)
    .u16(tree.mode[inode] as number)
    .u16(idIndex(ids, tree.uid[inode] as number))
    .u16(idIndex(ids, tree.gid[inode] as number))
    .u32(tree.mtime[inode] as number)
    .u32(order.inodeNumber[inode] as number);

const writeDirectory = (context: InodeContext, inode: NodeId, parentNumber: number): void => {
  const listing = context.listings.get(inode) as DirectoryListing;
  const links = context.order.links[inode] as number;
  const size = listing.bytes + DOTS_BYTES;
  const xattrs = context.xattrIndex(inode);
  if (xattrs === NO_XATTRS && listing.index.length === 0 && size < U16) {
    const basic = beginInode(context, inode, KIND.directory).u32(listing.block).u32(links).u16(size).u16(listing.offset).u32(parentNumber);
    context.stream.put(basic.done());
    return;
  }
  const extended = beginInode(context, inode, KIND.directory + EXTENDED)
    .u32(links)
    .u32(size)
    .u32(listing.block)
    .u32(parentNumber);
  context.stream.put(extended.u16(listing.index.length).u16(listing.offset).u32(xattrs).done());
  for (const { at, block, name } of listing.index) {
    context.stream.put(
      context.record
        .begin()
        .u32(at)
        .u32(block)
        .u32(name.length - 1)
        .bytes(name)
        .done(),
    );
  }
};

const writeFile = (context: InodeContext, inode: NodeId): void => {
  const { contents, blockSize, stream } = context;
  const content = context.tree.payload[inode] as number;
  const size = contents.size[content] as number;
  const start = contents.start[content] as number;
  const inFragment = contents.fragment[content] !== NO_FRAGMENT;
  const fragment = inFragment ? (contents.fragment[content] as number) : NO_FRAGMENT_INDEX;
  const fragmentOffset = contents.fragmentOffset[content] as number;
  const first = contents.blocksAt[content] as number;
  const blocks = contents.blockSizes.subarray(first, first + (inFragment ? 0 : Math.ceil(size / blockSize)));
  const sparse = sparseBytes(blocks, size, blockSize);
  const links = context.order.links[inode] as number;
  const xattrs = context.xattrIndex(inode);
  if (links === 1 && xattrs === NO_XATTRS && sparse === 0 && size < U32 && start < U32) {
    stream.put(beginInode(context, inode, KIND.file).u32(start).u32(fragment).u32(fragmentOffset).u32(size).done());
  } else {
    const extended = beginInode(context, inode, KIND.file + EXTENDED)
      .u64(start)
      .u64(size)
      .u64(sparse);
    stream.put(extended.u32(links).u32(fragment).u32(fragmentOffset).u32(xattrs).done());
  }
  stream.put(new Uint8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength));
};

/** Bytes in blocks of zeros. Readers take "all of the file" for a mistake, so a file of zeros keeps one byte (as mksquashfs does). */
const sparseBytes = (blocks: Uint32Array, size: number, blockSize: number): number => {
  let sparse = 0;
  for (let i = 0; i < blocks.length; i++) if (blocks[i] === 0) sparse += Math.min(blockSize, size - i * blockSize);
  return sparse > 0 && sparse === size ? size - 1 : sparse;
};

const writeSpecial = (context: InodeContext, inode: NodeId, kind: number): void => {
  const { tree, order, stream } = context;
  const xattrs = context.xattrIndex(inode);
  const record = beginInode(context, inode, xattrs === NO_XATTRS ? kind : kind + EXTENDED).u32(order.links[inode] as number);
  if (kind === KIND.symlink) {
    const target = symlinkTarget(tree, inode);
    record.u32(target.length).bytes(target);
  } else if (kind === KIND.block || kind === KIND.character) {
    const { major, minor } = deviceNumber(tree, inode);
    record.u32(encodeDevice(major, minor));
  }
  if (xattrs !== NO_XATTRS) record.u32(xattrs);
  stream.put(record.done());
};

/** new_encode_dev of Linux (include/linux/kdev_t.h). */
const encodeDevice = (major: number, minor: number): number => ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
