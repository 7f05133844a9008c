/** What --stage has left on this node, and making room there. */
import { lstat, readdir, rm } from 'node:fs/promises';
import { codeOf } from './open.ts';
import type { StoreItem } from './types.ts';

/** A copy that is being written changes all the time. */
const UNDER_WAY = 600_000;

/** Copies in these directories, also unfinished ones. A directory that is not there, or is somebody else's, holds none. */
export const listStaged = async (directories: readonly string[]): Promise<StoreItem[]> => {
  const items: StoreItem[] = [];
  for (const directory of directories) {
    for (const name of await namesIn(directory)) {
      const path = `${directory}/${name}`;
      const found = name.endsWith('.lock') ? undefined : await lstat(path).catch(() => undefined);
      if (found === undefined || !found.isFile()) continue;
      const age = Math.max(0, Date.now() - Math.max(found.mtimeMs, found.atimeMs));
      items.push({ kind: 'staged', name: path, path, size: found.size, age });
    }
  }
  return items;
};

/** Runs that have a copy open keep it; one that is being made is left alone. @returns what was (or would be) removed */
export const cleanStaged = async (directories: readonly string[], olderThan: number, dryRun: boolean): Promise<StoreItem[]> => {
  const items = (await listStaged(directories)).filter(
    ({ path, age }) => age >= olderThan && (age >= UNDER_WAY || !path.endsWith('.partial')),
  );
  if (!dryRun) for (const { path } of items) await rm(path, { force: true });
  return items;
};

const namesIn = async (directory: string): Promise<readonly string[]> => {
  try {
    const { uid } = await lstat(directory);
    return uid === process.geteuid?.() ? await readdir(directory) : [];
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'EACCES' || codeOf(error) === 'ENOTDIR') return [];
    throw error;
  }
};
