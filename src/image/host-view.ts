/** A directory of the host as an image. */
import { type FileKind, failed, type Host } from '../util/host.ts';
import type { ImageNode, ImageView } from './view.ts';

const MAX_ENTRIES = 65_536;

const nodeKind = (kind: FileKind): ImageNode['kind'] => (kind === 'file' || kind === 'directory' || kind === 'link' ? kind : 'other');

/** @param root absolute path of the directory, without a slash at its end. */
export const hostView = (host: Host, root: string): ImageView => {
  const real = (path: string): string => (path === '/' ? root : root + path);
  return {
    lstat: (path) => {
      const stat = host.lstat(real(path));
      return failed(stat) ? null : { kind: nodeKind(stat.kind), mode: stat.mode, size: stat.size };
    },
    readlink: (path) => {
      const text = host.readlink(real(path));
      return failed(text) ? null : text;
    },
    readdir: (path) => {
      const entries = host.readdir(real(path), MAX_ENTRIES);
      return failed(entries) ? null : entries;
    },
    read: (path, limit, offset = 0) => {
      // The host call would follow a link out of the image.
      const stat = host.lstat(real(path));
      if (failed(stat) || stat.kind !== 'file') return null;
      const text = host.read(real(path), offset, limit);
      return failed(text) ? null : text;
    },
  };
};
