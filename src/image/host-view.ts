/** A directory of the host as an image. */
import { type FileKind, failed, type Host } from '../util/host.ts';
import type { ImageNode, ImageView } from './view.ts';

const MAX_ENTRIES = 65_536;

const nodeKind = (kind: FileKind): ImageNode['kind'] => (kind === 'file' || kind === 'directory' || kind === 'link' ? kind : 'other');

/** @param root absolute path of the directory, without a slash at its end. */
export const hostView = (host: Host, root: string): ImageView => {
  const real = (path: string): string => (path === '/' ? root : root + path);
  // Whoever resolves paths asks about the same directories again and again; on a network file system each question is a journey.
  const nodes = new Map<string, ImageNode | null>();
  const links = new Map<string, string | null>();
  const lstat = (path: string): ImageNode | null => {
    let node = nodes.get(path);
    if (node === undefined) {
      const stat = host.lstat(real(path));
      node = failed(stat) ? null : { kind: nodeKind(stat.kind), mode: stat.mode, size: stat.size };
      nodes.set(path, node);
    }
    return node;
  };
  return {
    lstat,
    readlink: (path) => {
      if (nodes.has(path) && nodes.get(path)?.kind !== 'link') return null;
      let link = links.get(path);
      if (link === undefined) {
        const text = host.readlink(real(path));
        link = failed(text) ? null : text;
        links.set(path, link);
      }
      return link;
    },
    readdir: (path) => {
      const entries = host.readdir(real(path), MAX_ENTRIES);
      return failed(entries) ? null : entries;
    },
    read: (path, limit, offset = 0) => {
      // The host call would follow a link out of the image.
      if (lstat(path)?.kind !== 'file') return null;
      const text = host.read(real(path), offset, limit);
      return failed(text) ? null : text;
    },
  };
};
