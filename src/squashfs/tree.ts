/**
 * The file system to be written: one node per name, as columns of typed arrays and one buffer of bytes (about 60 bytes a node beside
 * its name, so a million files fit in 100 MB). It knows names and metadata; file contents are handles of the writer.
 *
 * A node is a name in a directory together with its inode. A hard link is a node that only points at the node holding the inode;
 * every function here that reads or sets inode properties follows it. Removing the first name of an inode keeps it alive under the others.
 */
import { TsrunError } from '../util/errors.ts';
import type { ByteArena } from '../util/growing.ts';
import { append, createArena, growU8, growU16, growU32, nextCapacity, reserve } from '../util/growing.ts';
import type { FileContent, Meta, NodeKind, Xattr } from './types.ts';
import type { XattrSets } from './xattr-sets.ts';
import { createXattrSets, internXattrs, xattrsOf } from './xattr-sets.ts';

export type NodeId = number;
export const ROOT: NodeId = 0;
/** The parent of the root and of detached inodes. */
export const NO_NODE = 0xffffffff;
/** The longest name the format holds (SQUASHFS_NAME_LEN), in bytes. */
export const MAX_NAME = 256;
/** The longest target Linux accepts: a page with its closing NUL. */
export const MAX_SYMLINK = 4095;
const MAX_MTIME = 0xffffffff;
const DOT = 0x2e;
const SLASH = 0x2f;

/** In `kind`; the first seven are the format's basic inode types, a hard link is ours. */
export const KIND = { directory: 1, file: 2, symlink: 3, block: 4, character: 5, fifo: 6, socket: 7, hardLink: 8 } as const;
const KIND_NAMES: readonly (NodeKind | undefined)[] = [undefined, 'directory', 'file', 'symlink', 'block', 'character', 'fifo', 'socket'];

/** In `flags`. */
export const FLAG = { removed: 1, nanoseconds: 2, clampedTime: 4, lostAcl: 8, lostXattr: 16 } as const;

/** Columns, indexed by NodeId. Read by the other files of this folder; written only here. */
export type Tree = {
  count: number;
  parent: Uint32Array<ArrayBuffer>;
  nameAt: Uint32Array<ArrayBuffer>;
  nameLength: Uint16Array<ArrayBuffer>;
  kind: Uint8Array<ArrayBuffer>;
  flags: Uint8Array<ArrayBuffer>;
  mode: Uint16Array<ArrayBuffer>;
  uid: Uint32Array<ArrayBuffer>;
  gid: Uint32Array<ArrayBuffer>;
  mtime: Uint32Array<ArrayBuffer>;
  /** Index into `xattrSets`; 0 is the empty set. */
  xattrs: Uint32Array<ArrayBuffer>;
  /** File: content handle; symlink: offset in `bytes` of a u16 length and the target; device: major * 2²⁰ + minor; hard link: node. */
  payload: Uint32Array<ArrayBuffer>;
  /** Names and symlink targets. */
  readonly bytes: ByteArena;
  /** Open addressing over (parent, name): node + 1, 0 is free. */
  slots: Uint32Array<ArrayBuffer>;
  slotsUsed: number;
  readonly xattrSets: XattrSets;
};

export const createTree = (): Tree => {
  const tree: Tree = {
    count: 0,
    parent: new Uint32Array(0),
    nameAt: new Uint32Array(0),
    nameLength: new Uint16Array(0),
    kind: new Uint8Array(0),
    flags: new Uint8Array(0),
    mode: new Uint16Array(0),
    uid: new Uint32Array(0),
    gid: new Uint32Array(0),
    mtime: new Uint32Array(0),
    xattrs: new Uint32Array(0),
    payload: new Uint32Array(0),
    bytes: createArena(1 << 16),
    slots: new Uint32Array(1 << 12),
    slotsUsed: 0,
    xattrSets: createXattrSets(),
  };
  newNode(tree, NO_NODE, KIND.directory, 0);
  setMeta(tree, ROOT, { mode: 0o755, uid: 0, gid: 0, mtime: 0 });
  return tree;
};

/** The node of that name in that directory, or -1. Hard links are returned as their own node. */
export const lookup = (tree: Tree, dir: NodeId, name: Uint8Array): NodeId => {
  const mask = tree.slots.length - 1;
  for (let slot = slotHash(dir, name) & mask; ; slot = (slot + 1) & mask) {
    const found = tree.slots[slot] as number;
    if (found === 0) return -1;
    const node = found - 1;
    if (tree.parent[node] === dir && ((tree.flags[node] as number) & FLAG.removed) === 0 && sameName(tree, node, name)) return node;
  }
};

/** All add functions: E_SQUASHFS_NAME for a name the format cannot hold; the name must not be in the directory yet. */
export const addDirectory = (tree: Tree, dir: NodeId, name: Uint8Array, meta: Meta): NodeId =>
  addNode(tree, dir, name, KIND.directory, 0, meta);

/** The file is empty until setFileContent. */
export const addFile = (tree: Tree, dir: NodeId, name: Uint8Array, meta: Meta): NodeId => addNode(tree, dir, name, KIND.file, 0, meta);

/** E_SQUASHFS_SYMLINK when the target is empty, longer than 4095 bytes or has a NUL in it. */
export const addSymlink = (tree: Tree, dir: NodeId, name: Uint8Array, target: Uint8Array, meta: Meta): NodeId =>
  addNode(tree, dir, name, KIND.symlink, storeTarget(tree, name, target), meta);

/** E_SQUASHFS_DEVICE when major ≥ 2¹² or minor ≥ 2²⁰, the limits of Linux and of the format. */
export const addDevice = (
  tree: Tree,
  dir: NodeId,
  name: Uint8Array,
  device: { readonly type: 'block' | 'character'; readonly major: number; readonly minor: number },
  meta: Meta,
): NodeId => {
  const { major, minor } = device;
  if (!(major >= 0 && major < 2 ** 12 && minor >= 0 && minor < 2 ** 20)) {
    throw new TsrunError({
      code: 'E_SQUASHFS_DEVICE',
      what: `cannot store device ${printable(name)}`,
      why: `device number ${major}:${minor} is beyond 4095:1048575`,
      hint: 'leave the device out of the image; /dev comes from the machine the image runs on',
    });
  }
  return addNode(tree, dir, name, KIND[device.type], major * 2 ** 20 + minor, meta);
};

export const addFifo = (tree: Tree, dir: NodeId, name: Uint8Array, meta: Meta): NodeId => addNode(tree, dir, name, KIND.fifo, 0, meta);
export const addSocket = (tree: Tree, dir: NodeId, name: Uint8Array, meta: Meta): NodeId => addNode(tree, dir, name, KIND.socket, 0, meta);

/** A regular file without a name, for hard links to a path that upper layers hide: name it with addHardLink, or it is not written. */
export const addDetachedFile = (tree: Tree, meta: Meta): NodeId => {
  const node = newNode(tree, NO_NODE, KIND.file, 0);
  setMeta(tree, node, meta);
  return node;
};

/** Another name for the inode of `target` (not a directory), which may be removed or detached. */
export const addHardLink = (tree: Tree, dir: NodeId, name: Uint8Array, target: NodeId): NodeId => {
  if (!(target >= 0 && target < tree.count)) throw new Error('a hard link needs a node');
  const inode = inodeOf(tree, target);
  if (tree.kind[inode] === KIND.directory) throw new Error('a directory has one name');
  return addName(tree, dir, name, KIND.hardLink, inode);
};

/** Replaces owner, mode, time and xattrs of the node's inode. */
export const setMeta = (tree: Tree, node: NodeId, meta: Meta): void => {
  const inode = inodeOf(tree, node);
  const seconds = Math.floor(meta.mtime);
  const clamped = Math.min(Math.max(seconds, 0), MAX_MTIME);
  const stored = internXattrs(tree.xattrSets, meta.xattrs);
  tree.mode[inode] = meta.mode & 0o7777;
  tree.uid[inode] = owner('user', meta.uid);
  tree.gid[inode] = owner('group', meta.gid);
  tree.mtime[inode] = clamped;
  tree.xattrs[inode] = stored.set;
  tree.flags[inode] =
    ((tree.flags[inode] as number) & FLAG.removed) |
    (meta.mtimeNanos ? FLAG.nanoseconds : 0) |
    (clamped === seconds ? 0 : FLAG.clampedTime) |
    (stored.lostAcl ? FLAG.lostAcl : 0) |
    (stored.lostOther ? FLAG.lostXattr : 0);
};

/** What setMeta holds for the node's inode, times clamped, xattrs reduced to what the format holds and sorted by name. */
export const metaOf = (tree: Tree, node: NodeId): Required<Omit<Meta, 'mtimeNanos' | 'xattrs'>> & { readonly xattrs: readonly Xattr[] } => {
  const inode = inodeOf(tree, node);
  return {
    mode: tree.mode[inode] as number,
    uid: tree.uid[inode] as number,
    gid: tree.gid[inode] as number,
    mtime: tree.mtime[inode] as number,
    xattrs: xattrsOf(tree.xattrSets, tree.xattrs[inode] as number),
  };
};

export const setFileContent = (tree: Tree, node: NodeId, content: FileContent): void => {
  const inode = inodeOf(tree, node);
  if (tree.kind[inode] !== KIND.file) throw new Error('only a regular file has content');
  tree.payload[inode] = content;
};

/** The name goes, with everything below a directory; the inode goes with its last name. The same name can be added again. */
export const remove = (tree: Tree, node: NodeId): void => {
  if (node === ROOT) throw new Error('the root directory cannot be removed');
  tree.flags[node] = (tree.flags[node] as number) | FLAG.removed;
};

/** True when this name, or a directory above it, was removed. */
export const isRemoved = (tree: Tree, node: NodeId): boolean => {
  for (let at = node; at !== NO_NODE; at = tree.parent[at] as number) if (((tree.flags[at] as number) & FLAG.removed) !== 0) return true;
  return false;
};

/** The node that holds the inode: itself, except for hard links. */
export const inodeOf = (tree: Tree, node: NodeId): NodeId => (tree.kind[node] === KIND.hardLink ? (tree.payload[node] as number) : node);

export const kindOf = (tree: Tree, node: NodeId): NodeKind => KIND_NAMES[tree.kind[inodeOf(tree, node)] as number] as NodeKind;

/** NO_NODE for the root and detached files. */
export const parentOf = (tree: Tree, node: NodeId): NodeId => tree.parent[node] as number;

/** A view that the next add may invalidate: copy it to keep it. */
export const nameOf = (tree: Tree, node: NodeId): Uint8Array => {
  const at = tree.nameAt[node] as number;
  return tree.bytes.bytes.subarray(at, at + (tree.nameLength[node] as number));
};

/** A view, as nameOf. */
export const symlinkTarget = (tree: Tree, node: NodeId): Uint8Array => {
  const inode = inodeOf(tree, node);
  if (tree.kind[inode] !== KIND.symlink) throw new Error('only a symlink has a target');
  const at = tree.payload[inode] as number;
  const bytes = tree.bytes.bytes;
  return bytes.subarray(at + 2, at + 2 + ((bytes[at] as number) | ((bytes[at + 1] as number) << 8)));
};

export const deviceNumber = (tree: Tree, node: NodeId): { readonly major: number; readonly minor: number } => {
  const packed = tree.payload[inodeOf(tree, node)] as number;
  return { major: Math.floor(packed / 2 ** 20), minor: packed % 2 ** 20 };
};

const addNode = (tree: Tree, dir: NodeId, name: Uint8Array, kind: number, payload: number, meta: Meta): NodeId => {
  const node = addName(tree, dir, name, kind, payload);
  setMeta(tree, node, meta);
  return node;
};

const addName = (tree: Tree, dir: NodeId, name: Uint8Array, kind: number, payload: number): NodeId => {
  if (tree.kind[dir] !== KIND.directory) throw new Error('only a directory holds names');
  checkName(name);
  const node = newNode(tree, dir, kind, payload);
  tree.nameAt[node] = append(tree.bytes, name);
  tree.nameLength[node] = name.length;
  if ((tree.slotsUsed + 1) * 4 > tree.slots.length * 3) rehash(tree);
  fillSlot(tree, node, name);
  return node;
};

const newNode = (tree: Tree, parent: NodeId, kind: number, payload: number): NodeId => {
  const node = tree.count;
  if (node >= tree.kind.length) growColumns(tree, nextCapacity(tree.kind.length, node + 1));
  tree.count = node + 1;
  tree.parent[node] = parent;
  tree.kind[node] = kind;
  tree.payload[node] = payload;
  return node;
};

const growColumns = (tree: Tree, capacity: number): void => {
  tree.parent = growU32(tree.parent, capacity);
  tree.nameAt = growU32(tree.nameAt, capacity);
  tree.nameLength = growU16(tree.nameLength, capacity);
  tree.kind = growU8(tree.kind, capacity);
  tree.flags = growU8(tree.flags, capacity);
  tree.mode = growU16(tree.mode, capacity);
  tree.uid = growU32(tree.uid, capacity);
  tree.gid = growU32(tree.gid, capacity);
  tree.mtime = growU32(tree.mtime, capacity);
  tree.xattrs = growU32(tree.xattrs, capacity);
  tree.payload = growU32(tree.payload, capacity);
};

const checkName = (name: Uint8Array): void => {
  const wrong =
    name.length > MAX_NAME
      ? `it has ${name.length} bytes, SquashFS holds ${MAX_NAME}`
      : name.length === 0
        ? 'it is empty'
        : (name.length < 3 && name[0] === DOT && (name.length === 1 || name[1] === DOT)) || name.includes(SLASH) || name.includes(0)
          ? 'it is . or .. or contains a slash or a NUL'
          : undefined;
  if (wrong === undefined) return;
  throw new TsrunError({
    code: 'E_SQUASHFS_NAME',
    what: `cannot store the name ${printable(name)}`,
    why: wrong,
    hint: 'rename the file in the source of the image, or leave it out',
  });
};

const storeTarget = (tree: Tree, name: Uint8Array, target: Uint8Array): number => {
  if (target.length === 0 || target.length > MAX_SYMLINK || target.includes(0)) {
    throw new TsrunError({
      code: 'E_SQUASHFS_SYMLINK',
      what: `cannot store the symlink ${printable(name)}`,
      why: `its target is empty, longer than ${MAX_SYMLINK} bytes or contains a NUL`,
      hint: 'Linux cannot hold such a link either: the source of the image is damaged',
    });
  }
  const at = reserve(tree.bytes, 2 + target.length);
  tree.bytes.bytes[at] = target.length & 0xff;
  tree.bytes.bytes[at + 1] = target.length >> 8;
  tree.bytes.bytes.set(target, at + 2);
  return at;
};

const owner = (whose: string, id: number): number => {
  if (Number.isInteger(id) && id >= 0 && id <= 0xffffffff) return id;
  throw new TsrunError({
    code: 'E_SQUASHFS_OWNER',
    what: `cannot store ${whose} id ${id}`,
    why: 'ids are whole numbers from 0 to 4294967295',
    hint: 'the source of the image is damaged: fetch or make it again',
  });
};

const printable = (name: Uint8Array): string => JSON.stringify(Buffer.from(name.subarray(0, 300)).toString('latin1'));

/** FNV-1a over the name, started from the directory. */
const slotHash = (dir: NodeId, name: Uint8Array): number => {
  let hash = Math.imul(dir ^ 0x811c9dc5, 0x01000193);
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ (name[i] as number), 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
};

const sameName = (tree: Tree, node: NodeId, name: Uint8Array): boolean => {
  if (tree.nameLength[node] !== name.length) return false;
  const bytes = tree.bytes.bytes;
  const at = tree.nameAt[node] as number;
  for (let i = 0; i < name.length; i++) if (bytes[at + i] !== name[i]) return false;
  return true;
};

const fillSlot = (tree: Tree, node: NodeId, name: Uint8Array): void => {
  const mask = tree.slots.length - 1;
  let slot = slotHash(tree.parent[node] as number, name) & mask;
  while (tree.slots[slot] !== 0) slot = (slot + 1) & mask;
  tree.slots[slot] = node + 1;
  tree.slotsUsed++;
};

const rehash = (tree: Tree): void => {
  tree.slots = new Uint32Array(tree.slots.length * 2);
  tree.slotsUsed = 0;
  for (let node = 1; node < tree.count; node++) {
    const named = (tree.nameLength[node] as number) > 0 && ((tree.flags[node] as number) & FLAG.removed) === 0;
    if (named) fillSlot(tree, node, nameOf(tree, node));
  }
};
