/** The tree under construction as an image to look into; of file contents it has what was kept on the way. */
import type { ImageNode, ImageView } from '../image/view.ts';
import type { KeptContent } from '../oci/merge.ts';
import { EMPTY } from '../oci/reachable.ts';
import { FLAG, inodeOf, kindOf, lookup, metaOf, NO_NODE, type NodeId, nameOf, ROOT, symlinkTarget, type Tree } from '../squashfs/tree.ts';
import type { FileContent } from '../squashfs/types.ts';
import { byteString } from '../util/bytes.ts';
import type { FileKind } from '../util/host.ts';

const MAX_ENTRIES = 65_536;
const NONE = 0xffffffff;

export const treeView = (tree: Tree, kept: ReadonlyMap<FileContent, KeptContent>): ImageView => {
  const children = childLists(tree);

  const find = (path: string): NodeId | undefined => {
    let node: NodeId = ROOT;
    for (const part of path.split('/')) {
      if (part === '') continue;
      if (kindOf(tree, node) !== 'directory') return undefined;
      node = lookup(tree, node, Buffer.from(part, 'latin1'));
      if (node < 0) return undefined;
    }
    return node;
  };

  const contentOf = (node: NodeId): KeptContent | undefined => kept.get(tree.payload[inodeOf(tree, node)] as FileContent);

  /** Of a file that was not kept only one thing is known: whether it is empty. */
  const sizeOf = (node: NodeId): number => (tree.payload[inodeOf(tree, node)] === EMPTY ? 0 : (contentOf(node)?.size ?? 1));

  return {
    lstat: (path): ImageNode | null => {
      const node = find(path);
      if (node === undefined) return null;
      const kind = nodeKind(kindOf(tree, node));
      return { kind, mode: metaOf(tree, node).mode, size: kind === 'file' ? sizeOf(node) : 0 };
    },
    readlink: (path) => {
      const node = find(path);
      return node === undefined || kindOf(tree, node) !== 'symlink' ? null : byteString(symlinkTarget(tree, node));
    },
    readdir: (path) => {
      const node = find(path);
      if (node === undefined || kindOf(tree, node) !== 'directory') return null;
      const entries: { kind: FileKind; name: string }[] = [];
      for (let child = children.first[node] as number; child !== NONE; child = children.next[child] as number) {
        if (entries.length === MAX_ENTRIES) return null;
        entries.push({ kind: fileKind(kindOf(tree, child)), name: byteString(nameOf(tree, child)) });
      }
      return entries;
    },
    read: (path, limit, offset = 0) => {
      const node = find(path);
      if (node === undefined || kindOf(tree, node) !== 'file') return null;
      const content = contentOf(node);
      return content === undefined ? null : byteString(content.bytes.subarray(offset, offset + limit));
    },
  };
};

/** The children of every directory as chained lists, made in one pass over all nodes. */
const childLists = (tree: Tree): { readonly first: Uint32Array; readonly next: Uint32Array } => {
  const first = new Uint32Array(tree.count).fill(NONE);
  const next = new Uint32Array(tree.count).fill(NONE);
  for (let node = tree.count - 1; node > 0; node--) {
    const parent = tree.parent[node] as number;
    if (parent === NO_NODE || ((tree.flags[node] as number) & FLAG.removed) !== 0) continue;
    next[node] = first[parent] as number;
    first[parent] = node;
  }
  return { first, next };
};

const nodeKind = (kind: ReturnType<typeof kindOf>): ImageNode['kind'] =>
  kind === 'file' || kind === 'directory' ? kind : kind === 'symlink' ? 'link' : 'other';

const fileKind = (kind: ReturnType<typeof kindOf>): FileKind => {
  switch (kind) {
    case 'symlink':
      return 'link';
    case 'character':
      return 'char';
    case 'fifo':
      return 'pipe';
    default:
      return kind;
  }
};
