/** Puts rendered files into the tree where the image has nothing of that name. */
import type { RenderedFile } from '../image/singularity.ts';
import { addDirectory, addFile, addSymlink, kindOf, lookup, type NodeId, ROOT, setFileContent, type Tree } from '../squashfs/tree.ts';
import type { Meta } from '../squashfs/types.ts';
import type { Writer } from '../squashfs/writer.ts';

/** @param mtime seconds since 1970 of everything that is added */
export const addRendered = async (tree: Tree, writer: Writer, files: readonly RenderedFile[], mtime: number): Promise<void> => {
  for (const file of files) {
    const slash = file.path.lastIndexOf('/');
    const dir = findDirectory(tree, slash < 0 ? '' : file.path.slice(0, slash));
    const name = Buffer.from(file.path.slice(slash + 1), 'latin1');
    if (dir === undefined || lookup(tree, dir, name) >= 0) continue;
    const meta: Meta = { mode: file.mode, uid: 0, gid: 0, mtime };
    switch (file.kind) {
      case 'directory':
        addDirectory(tree, dir, name, meta);
        break;
      case 'symlink':
        addSymlink(tree, dir, name, Buffer.from(file.target, 'latin1'), meta);
        break;
      case 'file': {
        const bytes = Buffer.from(file.content, 'latin1');
        const node = addFile(tree, dir, name, meta);
        writer.beginFile(bytes.length);
        if (bytes.length > 0) await writer.write(bytes);
        setFileContent(tree, node, writer.endFile());
        break;
      }
      default:
        file satisfies never;
    }
  }
};

/** Real directories only: where the image has a link instead, its author knows better. */
const findDirectory = (tree: Tree, path: string): NodeId | undefined => {
  let node: NodeId = ROOT;
  for (const part of path === '' ? [] : path.split('/')) {
    node = lookup(tree, node, Buffer.from(part, 'latin1'));
    if (node < 0 || kindOf(tree, node) !== 'directory') return undefined;
  }
  return node;
};
