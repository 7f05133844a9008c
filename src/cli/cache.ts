/** `tsrun cache list|clean`: what the store holds and builds have kept, and making room. */
import { buildPlaces, cleanBuilds, listBuilds } from '../build/engine/cache-items.ts';
import { machineIds } from '../build/engine/ids.ts';
import { removeTree } from '../build/engine/native.ts';
import { spaceCandidates } from '../build/engine/space.ts';
import { cleanStore, listStore } from '../store/clean.ts';
import { openStore } from '../store/open.ts';
import { stagedIn, stagedInMemory } from '../store/staged.ts';
import { cleanStaged, listStaged } from '../store/staged-clean.ts';
import type { StoreItem } from '../store/types.ts';
import { realTiming } from '../util/timing.ts';
import { note } from './report.ts';
import type { Settings } from './settings.ts';

const DAY = 86_400_000;
const DEFAULT_DAYS = 30;

/** @returns the text for stdout. @throws TsrunError E_STORE_… */
export const cacheList = async (settings: Settings, json: boolean): Promise<string> => {
  const { places } = settings;
  const store = await openStore(places, { instead: 'local' });
  const builds = await listBuilds(await buildPlaces(spacesOf(settings)));
  const items = bySize([...(await listStore(store)), ...(await listStaged(stagedPlaces(places))), ...builds]);
  if (json) {
    const shown = items.map(({ kind, name, path, size, age }) => ({ kind, name, path, size, days: Math.floor(age / DAY) }));
    return `${JSON.stringify({ store: store.path, items: shown }, undefined, 2)}\n`;
  }
  return `${itemLines(items)}${sumText(items)} in ${store.path}\n`;
};

export type CleanArguments = {
  readonly days?: number | undefined;
  readonly all: boolean;
  readonly dryRun: boolean;
  readonly quiet: boolean;
};

/** Without `all`, what was not used for `days`. @returns the text for stdout. @throws TsrunError E_STORE_… */
export const cacheClean = async (settings: Settings, { days, all, dryRun, quiet }: CleanArguments): Promise<string> => {
  const { places } = settings;
  const store = await openStore(places, { instead: 'local' });
  const olderThan = all ? 0 : (days ?? DEFAULT_DAYS) * DAY;
  const ranges = machineIds(undefined);
  const removed = [
    ...(await cleanStore(store, { olderThan, dryRun })),
    ...(await cleanStaged(stagedPlaces(places), olderThan, dryRun)),
    ...(await cleanBuilds(await buildPlaces(spacesOf(settings)), {
      olderThan,
      dryRun,
      timing: realTiming,
      // What belongs to ids of /etc/subuid only those can remove.
      remove: ({ ids }, path) => removeTree(ids === 'ranges' ? ranges : { kind: 'single' }, path),
      onBusy: ({ root }) => note(`a build works in ${root}, or somebody else cleans it: what is kept there stays`, quiet),
    })),
  ];
  if (dryRun) return `${itemLines(bySize(removed))}${sumText(removed)} would be removed from ${store.path}\n`;
  if (removed.length > 0) note(`removed ${sumText(removed)} from ${store.path}`, quiet);
  else if (!all) note(`nothing in ${store.path} was unused for ${days ?? DEFAULT_DAYS} days; --all removes everything`, quiet);
  return '';
};

const spacesOf = ({ env, places }: Settings): readonly string[] => spaceCandidates(env, places).map(({ path }) => path);

const stagedPlaces = ({ local }: Settings['places']): readonly string[] => [stagedIn(local.path), stagedInMemory(process.geteuid?.() ?? 0)];

const bySize = (items: readonly StoreItem[]): readonly StoreItem[] =>
  [...items].sort((a, b) => b.size - a.size || (a.name < b.name ? -1 : 1));

const itemLines = (items: readonly StoreItem[]): string =>
  items
    .map(({ kind, name, size, age }) => {
      const days = Math.floor(age / DAY);
      return `${kind.padEnd(10)} ${megabytes(size).padStart(10)} ${(days === 0 ? 'today' : `${days} d`).padStart(7)}  ${name}\n`;
    })
    .join('');

const sumText = (items: readonly StoreItem[]): string =>
  `${items.length} ${items.length === 1 ? 'item' : 'items'}, ${megabytes(items.reduce((sum, { size }) => sum + size, 0))}`;

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
