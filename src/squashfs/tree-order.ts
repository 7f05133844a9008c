/**
 * The one order everything is written and digested in: names sorted by their bytes, and inodes so that those of one directory lie
 * together. Only what the root reaches takes part.
 */
import type { NodeId, Tree } from './tree.ts';
import { FLAG, inodeOf, KIND, NO_NODE, ROOT } from './tree.ts';

export type TreeOrder = {
  /** The names in directory d: `names[childrenAt[d] … childrenAt[d + 1] - 1]`, sorted by bytes. Unreached directories have some too. */
  readonly childrenAt: Uint32Array;
  readonly names: Uint32Array;
  /** All reached directories, each after every directory below it; the root is last. */
  readonly directories: Uint32Array;
  /** Inodes in the order they are written; the inode number is the position + 1. Of every directory the inodes of its names follow each other. */
  readonly inodes: Uint32Array;
  /** By NodeId of the inode: its number, 0 when not reached. */
  readonly inodeNumber: Uint32Array;
  /** By NodeId of the inode: how many names it has (for directories: 2 + subdirectories). */
  readonly links: Uint32Array;
};

export type OrderOptions = {
  /**
   * By NodeId, not 0 for directories whose inodes and names are to lie together, at the end of their tables (a directory can only be written after what is in it, so
   * the root comes last anyway). With each directory those above it.
   */
  readonly hotDirectories?: Uint8Array | undefined;
};

export const orderTree = (tree: Tree, { hotDirectories }: OrderOptions = {}): TreeOrder => {
  const { childrenAt, names } = sortedChildren(tree);
  const deepestFirst = directoriesDeepestFirst(tree, childrenAt, names);
  const directories = hotDirectories === undefined ? deepestFirst : coldFirst(deepestFirst, hotDirectories);
  const links = new Uint32Array(tree.count);
  const inodeNumber = new Uint32Array(tree.count);
  const inodes = new Uint32Array(tree.count);
  let count = 0;
  const number = (inode: NodeId): void => {
    if (inodeNumber[inode] !== 0) return;
    inodes[count++] = inode;
    inodeNumber[inode] = count;
  };
  for (const dir of directories) {
    links[dir] = (links[dir] as number) + 2;
    for (let i = childrenAt[dir] as number; i < (childrenAt[dir + 1] as number); i++) {
      const inode = inodeOf(tree, names[i] as number);
      if (tree.kind[inode] === KIND.directory) links[dir] = (links[dir] as number) + 1;
      else links[inode] = (links[inode] as number) + 1;
      number(inode);
    }
  }
  number(ROOT);
  return { childrenAt, names, directories, inodes: inodes.slice(0, count), inodeNumber, links };
};

/** The names of one directory, sorted by bytes. */
export const childrenOf = (order: TreeOrder, dir: NodeId): Uint32Array =>
  order.names.subarray(order.childrenAt[dir] as number, order.childrenAt[dir + 1] as number);

export type TreeStats = {
  readonly inodes: number;
  readonly names: number;
  readonly directories: number;
  readonly files: number;
  readonly symlinks: number;
  readonly devices: number;
  readonly fifos: number;
  readonly sockets: number;
  readonly hardLinks: number;
};

/** What the image will hold. `names` counts every path but the root; `hardLinks` the names beyond the first of their inode. */
export const treeStats = (tree: Tree, order: TreeOrder = orderTree(tree)): TreeStats => {
  const byKind = new Array<number>(9).fill(0);
  for (const inode of order.inodes) {
    const kind = tree.kind[inode] as number;
    byKind[kind] = (byKind[kind] as number) + 1;
  }
  const of = (kind: number): number => byKind[kind] as number;
  const names = order.directories.reduce((sum, dir) => sum + childrenOf(order, dir).length, 0);
  return {
    inodes: order.inodes.length,
    names,
    directories: of(KIND.directory),
    files: of(KIND.file),
    symlinks: of(KIND.symlink),
    devices: of(KIND.block) + of(KIND.character),
    fifos: of(KIND.fifo),
    sockets: of(KIND.socket),
    hardLinks: names - (order.inodes.length - 1),
  };
};

const isLive = (tree: Tree, node: NodeId): boolean => ((tree.flags[node] as number) & FLAG.removed) === 0 && tree.parent[node] !== NO_NODE;

/** Below a directory that is not hot nothing is, so each still comes after those below it. */
const coldFirst = (directories: Uint32Array, hot: Uint8Array): Uint32Array => {
  const isHot = (dir: NodeId): boolean => hot[dir] !== 0;
  return Uint32Array.from([...directories.filter((dir) => !isHot(dir)), ...directories.filter(isHot)]);
};

/** Counting sort by parent, then each directory by name. */
const sortedChildren = (tree: Tree): { childrenAt: Uint32Array; names: Uint32Array } => {
  const childrenAt = new Uint32Array(tree.count + 2);
  let live = 0;
  for (let node = 1; node < tree.count; node++) {
    if (!isLive(tree, node)) continue;
    const slot = (tree.parent[node] as number) + 2;
    childrenAt[slot] = (childrenAt[slot] as number) + 1;
    live++;
  }
  for (let i = 1; i < childrenAt.length; i++) childrenAt[i] = (childrenAt[i] as number) + (childrenAt[i - 1] as number);
  const names = new Uint32Array(live);
  for (let node = 1; node < tree.count; node++) {
    if (!isLive(tree, node)) continue;
    const slot = (tree.parent[node] as number) + 1;
    const at = childrenAt[slot] as number;
    names[at] = node;
    childrenAt[slot] = at + 1;
  }
  const byName = nameComparison(tree);
  for (let dir = 0; dir < tree.count; dir++) {
    const from = childrenAt[dir] as number;
    const to = childrenAt[dir + 1] as number;
    if (to - from > 1) names.subarray(from, to).sort(byName);
  }
  return { childrenAt, names };
};

const nameComparison = (tree: Tree): ((a: NodeId, b: NodeId) => number) => {
  const { nameAt, nameLength } = tree;
  const bytes = tree.bytes.bytes;
  return (a, b) => {
    const aAt = nameAt[a] as number;
    const bAt = nameAt[b] as number;
    const aLength = nameLength[a] as number;
    const bLength = nameLength[b] as number;
    const shared = Math.min(aLength, bLength);
    for (let i = 0; i < shared; i++) {
      const difference = (bytes[aAt + i] as number) - (bytes[bAt + i] as number);
      if (difference !== 0) return difference;
    }
    return aLength - bLength;
  };
};

/** Pre-order with children pushed in order, reversed: every directory then comes after all below it. No recursion: depth is the layer's choice. */
const directoriesDeepestFirst = (tree: Tree, childrenAt: Uint32Array, names: Uint32Array): Uint32Array => {
  const found: number[] = [];
  const open: number[] = [ROOT];
  for (let dir = open.pop(); dir !== undefined; dir = open.pop()) {
    found.push(dir);
    for (let i = childrenAt[dir] as number; i < (childrenAt[dir + 1] as number); i++) {
      const child = names[i] as number;
      if (tree.kind[child] === KIND.directory) open.push(child);
    }
  }
  return Uint32Array.from(found).reverse();
};
