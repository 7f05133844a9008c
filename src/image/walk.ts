/** Following symbolic links inside an image, as a process rooted in it would. Pure: works on any ImageView. */
import type { ImageNode, ImageView } from './view.ts';

/** As many as Linux follows. */
const MAX_LINKS = 40;

/** The path without symbolic links, or null when it leads nowhere. `path` is absolute. */
export const resolveInside = (view: ImageView, path: string): string | null => {
  const left = path.split('/').reverse();
  let here = '';
  let links = 0;
  for (;;) {
    const part = left.pop();
    if (part === undefined) return here || '/';
    if (part === '' || part === '.') continue;
    if (part === '..') {
      here = here.slice(0, Math.max(0, here.lastIndexOf('/')));
      continue;
    }
    const next = `${here}/${part}`;
    const node = view.lstat(next);
    if (node === null) return null;
    if (node.kind !== 'link') {
      here = next;
      continue;
    }
    const target = view.readlink(next);
    if (target === null || ++links > MAX_LINKS) return null;
    if (target.startsWith('/')) here = '';
    left.push(...target.split('/').reverse());
  }
};

export type FoundFile = { readonly path: string; readonly node: ImageNode };

/** The regular file a path leads to. */
export const findFile = (view: ImageView, path: string): FoundFile | null => {
  const real = resolveInside(view, path);
  const node = real === null ? null : view.lstat(real);
  return real === null || node?.kind !== 'file' ? null : { path: real, node };
};

/** Text of a regular file, "" when there is none. A file longer than `limit` is cut after its last whole line. */
export const readText = (view: ImageView, path: string, limit: number): string => {
  const file = findFile(view, path);
  const text = file === null ? '' : (view.read(file.path, limit) ?? '');
  if (file === null || file.node.size <= limit) return text;
  return text.slice(0, text.lastIndexOf('\n') + 1);
};

/** Sorted names in a directory reached through links, none when it is no directory. */
export const namesIn = (view: ImageView, path: string): readonly string[] => {
  const real = resolveInside(view, path);
  const entries = real === null ? null : view.readdir(real);
  return (entries ?? []).map(({ name }) => name).sort(byBytes);
};

/** Byte strings compare like their bytes. */
export const byBytes = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
