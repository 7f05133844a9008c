/**
 * Applies one layer's records to the tree as an unpacker applies a layer to a directory, base layer first (image-spec layer.md,
 * "Applying Changesets"). Names lead through symbolic links of the layers below, but never out of the root; whiteouts hide only
 * what lower layers have; a directory over a directory merges, all else replaces.
 */
import {
  addDetachedFile,
  addDevice,
  addDirectory,
  addFifo,
  addFile,
  addHardLink,
  addSymlink,
  inodeOf,
  kindOf,
  lookup,
  metaOf,
  type NodeId,
  nameOf,
  parentOf,
  ROOT,
  remove,
  setFileContent,
  setMeta,
  symlinkTarget,
  type Tree,
} from '../squashfs/tree.ts';
import { TsrunError } from '../util/errors.ts';
import { isHiding, type LayerLog, type LayerRecord } from './layer-log.ts';
import { limitError } from './limits.ts';

/** A file whose content was left out on sight, but that may be part of the image after all. */
export type MissingContent = { readonly inode: NodeId; readonly layer: number; readonly index: number };

/** As many as Linux follows. */
const MAX_LINKS = 40;

/**
 * @param label names the layer in errors
 * @param maxNodes of the tree; deep names can ask for many directories that no entry made
 * @param missing is added to
 * @throws TsrunError E_LAYER_ENTRY, and what the tree throws for names, targets and numbers SquashFS cannot hold
 */
export const applyLayer = (tree: Tree, log: LayerLog, layer: number, label: string, maxNodes: number, missing: MissingContent[]): void => {
  const walk = createWalker(tree, label, maxNodes);
  const aufsLinks = new Map<string, NodeId>();
  const hiddenTargets = new Map<string, NodeId>();

  let rootEmptied = false;
  const hide = (record: LayerRecord): void => {
    if (record.type === 'opaque') {
      const dir = walk.existingDirectory(record.path);
      if (dir !== undefined && !(dir === ROOT && rootEmptied)) emptyDirectory(tree, dir);
      // Once is enough, and it looks at every node.
      rootEmptied ||= dir === ROOT;
    } else {
      const node = walk.existing(record.path);
      if (node !== undefined && node !== ROOT) remove(tree, node);
    }
    walk.forget();
  };

  /** Makes way for an entry: what is there goes, unless directory meets directory. */
  const place = (record: LayerRecord): { dir: NodeId; name: Uint8Array; same: NodeId | undefined } => {
    const slash = record.path.lastIndexOf('/');
    const dir = walk.directory(slash < 0 ? '' : record.path.slice(0, slash), record);
    const name = Buffer.from(record.path.slice(slash + 1), 'latin1');
    const node = lookup(tree, dir, name);
    if (node < 0) return { dir, name, same: undefined };
    const kind = kindOf(tree, node);
    if (kind === 'directory' && record.type === 'directory') return { dir, name, same: node };
    remove(tree, node);
    if (kind === 'directory' || kind === 'symlink') walk.forget();
    return { dir, name, same: undefined };
  };

  const link = (record: LayerRecord): void => {
    const target = aufsLinks.get(record.link) ?? walk.existing(record.link) ?? hiddenTargets.get(record.link);
    if (target === undefined) throw refuse(record, label, `it is a hard link to ${show(record.link)}, which does not exist`);
    if (kindOf(tree, target) === 'directory') throw refuse(record, label, `it is a hard link to the directory ${show(record.link)}`);
    // A link to itself changes nothing; replacing the name first would lose the file.
    if (walk.existing(record.path) === target) return;
    const { dir, name } = place(record);
    addHardLink(tree, dir, name, target);
  };

  const file = (record: LayerRecord, node: NodeId, index: number): void => {
    if (record.content !== undefined) setFileContent(tree, node, record.content);
    else missing.push({ inode: inodeOf(tree, node), layer, index });
  };

  const make = (record: LayerRecord, index: number): void => {
    if (record.type === 'hardlink') link(record);
    else if (record.type === 'aufs-link') {
      const node = addDetachedFile(tree, record);
      aufsLinks.set(record.path, node);
      file(record, node, index);
    } else if (record.path === '') {
      if (record.type !== 'directory') throw refuse(record, label, 'it would replace the root directory');
      setMeta(tree, ROOT, record);
    } else makeNamed(record, index);
  };

  const makeNamed = (record: LayerRecord, index: number): void => {
    const { dir, name, same } = place(record);
    switch (record.type) {
      case 'directory':
        if (same === undefined) addDirectory(tree, dir, name, record);
        else setMeta(tree, same, record);
        break;
      case 'file':
        file(record, addFile(tree, dir, name, record), index);
        break;
      case 'symlink':
        addSymlink(tree, dir, name, Buffer.from(record.link, 'latin1'), { ...record, mode: 0o777 });
        break;
      case 'character':
      case 'block':
        addDevice(tree, dir, name, { type: record.type, major: record.devMajor, minor: record.devMinor }, record);
        break;
      case 'fifo':
        addFifo(tree, dir, name, record);
        break;
      case 'hardlink':
      case 'aufs-link':
      case 'whiteout':
      case 'opaque':
        break;
      default:
        record.type satisfies never;
    }
  };

  if (log.hides) {
    // A link may keep a file of a lower layer whose name this layer takes away.
    log.each((record) => {
      const target = record.type === 'hardlink' ? walk.existing(record.link) : undefined;
      if (target !== undefined) hiddenTargets.set(record.link, target);
    });
    // Whiteouts first, wherever they stand: they are about lower layers only.
    log.each((record) => {
      if (isHiding(record.type)) hide(record);
    });
  }
  log.each((record, index) => {
    if (!isHiding(record.type)) make(record, index);
  });
};

/** The children go by giving the directory a new node of the same name; only the root keeps its node. */
const emptyDirectory = (tree: Tree, dir: NodeId): void => {
  if (dir === ROOT) {
    for (let node = 1; node < tree.count; node++) if (parentOf(tree, node) === ROOT) remove(tree, node);
    return;
  }
  const name = Buffer.from(nameOf(tree, dir));
  const meta = metaOf(tree, dir);
  remove(tree, dir);
  addDirectory(tree, parentOf(tree, dir), name, meta);
};

type Walker = {
  /** The directory of that path; missing ones are made (0755, root), as unpackers do. */
  directory(path: string, record: LayerRecord): NodeId;
  /** The node of that name; symbolic links are followed on the way, not at the end. */
  existing(path: string): NodeId | undefined;
  existingDirectory(path: string): NodeId | undefined;
  /** Names have gone or turned into something else: what was found before no longer holds. */
  forget(): void;
};

const createWalker = (tree: Tree, label: string, maxNodes: number): Walker => {
  let knownPath = '';
  let known: NodeId = ROOT;

  const imply = (dir: NodeId, name: Uint8Array, record: LayerRecord): NodeId => {
    if (tree.count >= maxNodes) throw limitError(label, `its entries need more than ${maxNodes} directories and files`, '--limit-files');
    return addDirectory(tree, dir, name, { mode: 0o755, uid: 0, gid: 0, mtime: record.mtime });
  };

  /** `make`: the record that needs missing directories; without it they are `undefined`. */
  const step = (dir: NodeId, part: string, make: LayerRecord | undefined, budget: { links: number }, path: string): NodeId | undefined => {
    if (part === '' || part === '.') return dir;
    if (part === '..') return dir === ROOT ? ROOT : parentOf(tree, dir);
    const name = Buffer.from(part, 'latin1');
    const node = lookup(tree, dir, name);
    if (node < 0) return make === undefined ? undefined : imply(dir, name, make);
    const kind = kindOf(tree, node);
    if (kind === 'directory') return node;
    if (kind === 'symlink') {
      if (++budget.links > MAX_LINKS) {
        if (make === undefined) return undefined;
        throw refuse(make, label, `${show(path)} leads through more than ${MAX_LINKS} symbolic links`);
      }
      const target = Buffer.from(symlinkTarget(tree, node)).toString('latin1');
      return descend(target.startsWith('/') ? ROOT : dir, target, make, budget, path);
    }
    if (make === undefined) return undefined;
    throw refuse(make, label, `${show(path)} leads through ${show(part)}, which is a ${kind}`);
  };

  const descend = (
    from: NodeId,
    path: string,
    make: LayerRecord | undefined,
    budget: { links: number },
    whole: string,
  ): NodeId | undefined => {
    let dir: NodeId = from;
    for (const part of path.split('/')) {
      const next = step(dir, part, make, budget, whole);
      if (next === undefined) return undefined;
      dir = next;
    }
    return dir;
  };

  const find = (path: string): NodeId | undefined => (path === '' ? ROOT : descend(ROOT, path, undefined, { links: 0 }, path));

  return {
    directory: (path, record) => {
      if (path === '') return ROOT;
      if (path === knownPath) return known;
      known = descend(ROOT, path, record, { links: 0 }, path) as NodeId;
      knownPath = path;
      return known;
    },
    existing: (path) => {
      if (path === '') return ROOT;
      const slash = path.lastIndexOf('/');
      const dir = slash < 0 ? ROOT : path.slice(0, slash) === knownPath ? known : find(path.slice(0, slash));
      if (dir === undefined) return undefined;
      const node = lookup(tree, dir, Buffer.from(path.slice(slash + 1), 'latin1'));
      return node < 0 ? undefined : node;
    },
    existingDirectory: (path) => {
      const node = find(path);
      return node === undefined || kindOf(tree, node) !== 'directory' ? undefined : node;
    },
    forget: () => {
      knownPath = '';
      known = ROOT;
    },
  };
};

const show = (path: string): string => JSON.stringify(path.slice(0, 300));

const refuse = (record: LayerRecord, label: string, why: string): TsrunError =>
  new TsrunError({
    code: 'E_LAYER_ENTRY',
    what: `cannot apply the entry ${show(record.path)} of ${label}`,
    why,
    hint: 'the image is damaged or was put together wrongly: ask who made it',
  });
