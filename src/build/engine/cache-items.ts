/** What builds have kept on this node, for `tsrun cache list|clean`: finished steps, unpacked bases, directories of RUN --mount=type=cache, and lists of blocks. */
import { lstat, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { isLeased, newWatch, tryLease } from '../../store/lease.ts';
import type { StoreItem } from '../../store/types.ts';
import type { Timing } from '../../util/timing.ts';
import { cleaningLease } from './cache.ts';

/** A directory `build/<ids>` of a work space. */
export type BuildPlace = { readonly root: string; readonly ids: string };

export const buildPlaces = async (spaces: readonly string[]): Promise<readonly BuildPlace[]> => {
  const places: BuildPlace[] = [];
  for (const space of new Set(spaces)) {
    const { uid } = (await lstat(`${space}/build`).catch(() => undefined)) ?? {};
    if (uid !== process.geteuid?.()) continue;
    for (const ids of await namesIn(`${space}/build`))
      if (ids === 'single' || ids === 'ranges') places.push({ root: `${space}/build/${ids}`, ids });
  }
  return places;
};

/** Sizes are those that were found when the result was made; that of a mounted directory is what this user can see of it. */
export const listBuilds = async (places: readonly BuildPlace[]): Promise<StoreItem[]> => {
  const items: StoreItem[] = [];
  for (const { root } of places) {
    for (const name of await namesIn(`${root}/made`)) {
      const path = `${root}/made/${name}`;
      const entry = await lstat(`${path}/entry.json`).catch(() => undefined);
      const age = ageOf(entry ?? (await lstat(path).catch(() => undefined)));
      items.push({ kind: 'layer', name: path, path, size: await recordedSize(path), age });
    }
    for (const name of await namesIn(`${root}/mounts`)) {
      const path = `${root}/mounts/${name}`;
      items.push({ kind: 'mount', name: path, path, size: await visibleSize(path), age: ageOf(await lstat(path).catch(() => undefined)) });
    }
    for (const name of await namesIn(`${root}/blocks`)) {
      const path = `${root}/blocks/${name}`;
      const found = await lstat(path).catch(() => undefined);
      items.push({ kind: 'blocks', name: path, path, size: found?.size ?? 0, age: ageOf(found) });
    }
  }
  return items;
};

export type BuildCleaning = {
  readonly olderThan: number;
  readonly dryRun: boolean;
  readonly timing: Timing;
  /** Removes a directory whatever the modes and owners in it. */
  readonly remove: (place: BuildPlace, path: string) => Promise<void>;
  /** Told of a place that is left alone since a build works in it, or somebody else cleans it. */
  readonly onBusy: (place: BuildPlace) => void;
};

/** @returns what was (or would be) removed */
export const cleanBuilds = async (places: readonly BuildPlace[], cleaning: BuildCleaning): Promise<StoreItem[]> => {
  const removed: StoreItem[] = [];
  for (const place of places) {
    const attempt = await tryLease(cleaningLease(place.root), newWatch(), cleaning.timing);
    if (attempt.kind !== 'held') {
      cleaning.onBusy(place);
      continue;
    }
    try {
      removed.push(...(await cleanPlace(place, cleaning)));
    } finally {
      await attempt.lease.release();
    }
  }
  return removed;
};

const cleanPlace = async (place: BuildPlace, { olderThan, dryRun, remove, onBusy }: BuildCleaning): Promise<readonly StoreItem[]> => {
  const items = (await listBuilds([place])).filter(({ age }) => age >= olderThan);
  if (items.length === 0) return [];
  if (await isBusy(place)) {
    onBusy(place);
    return [];
  }
  if (dryRun) return items;
  // First the names by which they are found.
  const paths = new Set(items.map(({ path }) => basename(path)));
  for (const key of await namesIn(`${place.root}/layers`)) {
    const link = `${place.root}/layers/${key}`;
    if (paths.has(basename(await readlink(link).catch(() => '')))) await rm(link, { force: true });
  }
  for (const { path } of items) await remove(place, path);
  return items;
};

/** Every build holds a lease as long as it lasts. */
const isBusy = async ({ root }: BuildPlace): Promise<boolean> => {
  for (const name of await namesIn(`${root}/begun`)) if (name.endsWith('.lease') && (await isLeased(`${root}/begun/${name}`))) return true;
  return false;
};

const namesIn = async (directory: string): Promise<readonly string[]> => readdir(directory).catch(() => []);

const ageOf = (found: { readonly mtimeMs: number } | undefined): number =>
  found === undefined ? 0 : Math.max(0, Date.now() - found.mtimeMs);

const recordedSize = async (path: string): Promise<number> => {
  try {
    const { bytes } = JSON.parse(await readFile(`${path}/entry.json`, 'utf8')) as { bytes?: unknown };
    return typeof bytes === 'number' ? bytes : 0;
  } catch {
    return 0;
  }
};

const visibleSize = async (path: string): Promise<number> => {
  let bytes = 0;
  for (const entry of await readdir(path, { withFileTypes: true }).catch(() => [])) {
    const below = `${path}/${entry.name}`;
    if (entry.isDirectory()) bytes += await visibleSize(below);
    else if (entry.isFile()) bytes += (await lstat(below).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
};
