/** The tree of names of an image file as the native reader lists it, made into a tree that can be written again: owners, xattrs, hard links and devices as they are. */
import {
  addDevice,
  addDirectory,
  addFifo,
  addFile,
  addHardLink,
  addSocket,
  addSymlink,
  createTree,
  type NodeId,
  ROOT,
  setMeta,
  type Tree,
} from '../squashfs/tree.ts';
import type { Meta, Xattr } from '../squashfs/types.ts';
import { TsrunError } from '../util/errors.ts';
import { nativeProgram } from '../util/native-program.ts';
import { childOutput } from './child-stream.ts';
import type { SquashFile } from './squash-file.ts';

/** An inode of the image, by its first name. Paths are byte strings. */
export type ImageInode = { readonly node: NodeId; readonly path: string; readonly kind: string; readonly size: number };

export type ImageTree = {
  readonly tree: Tree;
  /** By inode number of the image, in the order of their first names. */
  readonly inodes: ReadonlyMap<number, ImageInode>;
};

const FIELDS = 10;

/** @throws TsrunError E_SOURCE, E_SQUASHFS_… */
export const readImageTree = async (image: SquashFile): Promise<ImageTree> => {
  const xattrs = await readXattrs(image);
  const tree = createTree();
  const inodes = new Map<number, ImageInode>();
  const directories = new Map<string, NodeId>([['', ROOT]]);
  let fields: string[] = [];
  for await (const field of fieldsOf(imageOutput('tree', image))) {
    fields.push(field);
    if (fields.length < FIELDS) continue;
    addListed(tree, inodes, directories, fields, xattrs);
    fields = [];
  }
  return { tree, inodes };
};

/** What `tsrun @image COMMAND` says of the image. @param input for its standard input */
export const imageOutput = (command: string, image: SquashFile, input?: Iterable<string>): AsyncGenerator<Uint8Array> =>
  childOutput(
    [nativeProgram(), '@image', command, image.path, String(image.offset), String(image.size)],
    `cannot read the image ${image.path}`,
    input,
  );

/** Byte strings that each end with NUL. */
async function* fieldsOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of source) {
    const parts = (rest + Buffer.from(chunk).toString('latin1')).split('\0');
    rest = parts.pop() ?? '';
    yield* parts;
  }
}

const addListed = (
  tree: Tree,
  inodes: Map<number, ImageInode>,
  directories: Map<string, NodeId>,
  fields: readonly string[],
  xattrs: ReadonlyMap<string, readonly Xattr[]>,
): void => {
  const [path = '', kind = '', mode = '', uid = '', gid = '', size = '', mtime = '', number = '', device = '', target = ''] = fields;
  const meta: Meta = { mode: Number.parseInt(mode, 8), uid: Number(uid), gid: Number(gid), mtime: Number(mtime), xattrs: xattrs.get(path) };
  const inode = Number(number);
  if (path === '/') {
    setMeta(tree, ROOT, meta);
    inodes.set(inode, { node: ROOT, path, kind, size: 0 });
    return;
  }
  const slash = path.lastIndexOf('/');
  const parent = directories.get(path.slice(0, slash));
  if (parent === undefined) throw new Error(`${path} was listed before its directory`);
  const name = Buffer.from(path.slice(slash + 1), 'latin1');
  const first = inodes.get(inode);
  if (first !== undefined && kind !== 'd') {
    addHardLink(tree, parent, name, first.node);
    return;
  }
  const node = addNode(tree, parent, name, kind, meta, device, target);
  if (kind === 'd') directories.set(path, node);
  inodes.set(inode, { node, path, kind, size: Number(size) });
};

const addNode = (tree: Tree, parent: NodeId, name: Buffer, kind: string, meta: Meta, device: string, target: string): NodeId => {
  switch (kind) {
    case 'd':
      return addDirectory(tree, parent, name, meta);
    case 'f':
      return addFile(tree, parent, name, meta);
    case 'l':
      return addSymlink(tree, parent, name, Buffer.from(target, 'latin1'), meta);
    case 'p':
      return addFifo(tree, parent, name, meta);
    case 's':
      return addSocket(tree, parent, name, meta);
    default: {
      const [major, minor] = device.split(':').map(Number);
      return addDevice(tree, parent, name, { type: kind === 'b' ? 'block' : 'character', major: major ?? 0, minor: minor ?? 0 }, meta);
    }
  }
};

/** Beyond it an image's xattrs are not what one keeps in an image: they are held in memory. */
const MAX_XATTR_BYTES = 256 * 1024 * 1024;

/** By path. */
const readXattrs = async (image: SquashFile): Promise<ReadonlyMap<string, readonly Xattr[]>> => {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of imageOutput('xattrs', image)) {
    length += chunk.length;
    if (length > MAX_XATTR_BYTES) {
      throw new TsrunError({
        code: 'E_SOURCE',
        what: `cannot read the image ${image.path}`,
        why: `its extended attributes have more than ${MAX_XATTR_BYTES} bytes`,
      });
    }
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  const found = new Map<string, Xattr[]>();
  const field = (at: number): string => bytes.toString('latin1', at, bytes.indexOf(0, at));
  for (let at = 0; at < bytes.length; ) {
    const path = field(at);
    const name = field(at + path.length + 1);
    const size = field(at + path.length + name.length + 2);
    const value = at + path.length + name.length + size.length + 3;
    const list = found.get(path) ?? [];
    list.push({ name: Buffer.from(name, 'latin1'), value: bytes.subarray(value, value + Number(size)) });
    found.set(path, list);
    at = value + Number(size);
  }
  return found;
};
