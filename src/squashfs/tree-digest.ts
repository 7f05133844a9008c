/**
 * The tree digest: a SHA-256 over what a reader of the image sees, the same for every compressor, block size and version of this writer.
 * README.md, "Tree digest", is the definition; this file must never change what it computes.
 */
import { createHash } from 'node:crypto';
import type { NodeId, Tree } from './tree.ts';
import { deviceNumber, inodeOf, KIND, metaOf, nameOf, ROOT, symlinkTarget } from './tree.ts';
import type { TreeOrder } from './tree-order.ts';
import { childrenOf } from './tree-order.ts';

/** Size and content hash of a file, by the handle in the tree. */
export type ContentFacts = (content: number) => { readonly size: number; readonly hash: Uint8Array };

const MAGIC = 'tsrun tree digest 1\n';
/** Record letters by KIND; a further name of an inode is 'h'. */
const LETTERS = '?dflbcps';
const HASHED_AT_ONCE = 1 << 16;

export const treeDigest = (tree: Tree, order: TreeOrder, contentFacts: ContentFacts): string => {
  const sha = createHash('sha256').update(MAGIC);
  const record = createRecord((bytes) => sha.update(bytes));
  const firstPlace = new Uint32Array(tree.count);
  let place = 0;
  forEachName(tree, order, (node, depth) => {
    const inode = inodeOf(tree, node);
    place++;
    record.u32(depth);
    record.bytes(nameOf(tree, node));
    const earlier = firstPlace[inode] as number;
    if (earlier !== 0) {
      record.letter('h');
      record.u32(earlier);
      return;
    }
    firstPlace[inode] = place;
    writeInode(record, tree, inode, contentFacts);
  });
  record.flush();
  return `sha256:${sha.digest('hex')}`;
};

const writeInode = (record: DigestRecord, tree: Tree, inode: NodeId, contentFacts: ContentFacts): void => {
  const meta = metaOf(tree, inode);
  const kind = tree.kind[inode] as number;
  record.letter(LETTERS[kind] as string);
  record.u32(meta.mode);
  record.u32(meta.uid);
  record.u32(meta.gid);
  record.u64(meta.mtime);
  record.u32(meta.xattrs.length);
  for (const { name, value } of meta.xattrs) {
    record.bytes(name);
    record.bytes(value);
  }
  if (kind === KIND.file) {
    const { size, hash } = contentFacts(tree.payload[inode] as number);
    record.u64(size);
    record.bytes(hash);
  } else if (kind === KIND.symlink) {
    record.bytes(symlinkTarget(tree, inode));
  } else if (kind === KIND.block || kind === KIND.character) {
    const { major, minor } = deviceNumber(tree, inode);
    record.u32(major);
    record.u32(minor);
  }
};

/** Every name, a directory before what is in it, siblings by the bytes of their names; the root first, at depth 0. */
const forEachName = (tree: Tree, order: TreeOrder, visit: (node: NodeId, depth: number) => void): void => {
  const open: { readonly names: Uint32Array; next: number }[] = [];
  const enter = (node: NodeId): void => {
    visit(node, open.length);
    if (tree.kind[node] === KIND.directory) open.push({ names: childrenOf(order, node), next: 0 });
  };
  enter(ROOT);
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    const node = top.names[top.next++];
    if (node === undefined) open.pop();
    else enter(node);
  }
};

type DigestRecord = {
  u32(value: number): void;
  u64(value: number): void;
  letter(letter: string): void;
  /** A u32 length, then the bytes. */
  bytes(bytes: Uint8Array): void;
  flush(): void;
};

const createRecord = (hash: (bytes: Uint8Array) => void): DigestRecord => {
  const buffer = new Uint8Array(HASHED_AT_ONCE);
  const view = new DataView(buffer.buffer);
  let used = 0;
  const flush = (): void => {
    hash(buffer.subarray(0, used));
    used = 0;
  };
  const room = (length: number): number => {
    if (used + length > buffer.length) flush();
    used += length;
    return used - length;
  };
  const u32 = (value: number): void => view.setUint32(room(4), value, true);
  return {
    u32,
    u64: (value) => view.setBigUint64(room(8), BigInt(value), true),
    letter: (letter) => view.setUint8(room(1), letter.charCodeAt(0)),
    bytes: (bytes) => {
      u32(bytes.length);
      if (bytes.length > buffer.length) {
        flush();
        hash(bytes);
      } else buffer.set(bytes, room(bytes.length));
    },
    flush,
  };
};
