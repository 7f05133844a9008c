/** What is in a store, and taking things out of it. Nothing outside the store's own folders is looked at; symlinks are not followed. */
import type { Dirent } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import { isLeased } from './lease.ts';
import { codeOf } from './open.ts';
import type { Store, StoreItem } from './types.ts';

const FOLDERS: readonly { readonly folder: string; readonly kind: StoreItem['kind']; readonly name: (path: string) => string }[] = [
  { folder: 'blobs', kind: 'blob', name: (path) => path.replace('/', ':') },
  { folder: 'images', kind: 'image', name: (path) => path.replace(/\.sif$/, '') },
  { folder: 'facts', kind: 'facts', name: (path) => path.replace(/\.json$/, '') },
  { folder: 'refs', kind: 'reference', name: (path) => path.replace(/\/:([^/]*)$/, ':$1') },
  { folder: 'partial', kind: 'partial', name: (path) => path },
];

/** Everything in the writable store, in no particular order. */
export const listStore = async (store: Store): Promise<StoreItem[]> => {
  const items: StoreItem[] = [];
  for (const { folder, kind, name } of FOLDERS) {
    const root = `${store.path}/${folder}`;
    for (const path of await filesBelow(root)) {
      const found = await lstat(path).catch(() => undefined);
      if (found === undefined) continue;
      const age = Math.max(0, Date.now() - Math.max(found.mtimeMs, found.atimeMs));
      items.push({ kind, name: name(path.slice(root.length + 1)), path, size: found.size, age });
    }
  }
  return items;
};

export type CleanOptions = {
  /** Only what was not used for so many milliseconds; everything when absent. */
  readonly olderThan?: number | undefined;
  readonly kinds?: readonly StoreItem['kind'][] | undefined;
  /** Only tell what would go. */
  readonly dryRun?: boolean | undefined;
};

/**
 * Removes items; a download under way is left alone. Runs that have an image open keep it: only the name goes.
 * @returns what was (or would be) removed.
 */
export const cleanStore = async (store: Store, { olderThan = 0, kinds, dryRun = false }: CleanOptions = {}): Promise<StoreItem[]> => {
  const removed: StoreItem[] = [];
  for (const item of await listStore(store)) {
    if (item.age < olderThan || (kinds !== undefined && !kinds.includes(item.kind))) continue;
    if (item.kind === 'partial' && (await isLeased(leaseOf(item.path)))) continue;
    if (!dryRun) await rm(item.path, { force: true });
    removed.push(item);
  }
  return removed;
};

/** `…/sha256-<hex>.<anything>`, `…/.image-<hex>.<anything>` → the same with `.lease` */
const leaseOf = (path: string): string => path.replace(/\/\.?((?:sha\d+|image|facts)-[0-9a-f]+)\.[^/]*$/, '/$1.lease');

const filesBelow = async (directory: string): Promise<string[]> => {
  let entries: Dirent[];
  try {
    entries = await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
  const found = await Promise.all(
    entries.map((entry) => {
      const path = `${directory}/${entry.name}`;
      return entry.isDirectory() ? filesBelow(path) : Promise.resolve([path]);
    }),
  );
  return found.flat();
};
