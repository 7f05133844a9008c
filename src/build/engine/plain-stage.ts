/**
 * A stage where the kernel makes no overlay: one directory with all that its base has, in which its steps work one after the other. Nothing of it is
 * kept for the next build but the unpacked base.
 */
import { basename } from 'node:path';
import type { TarEntry } from '../../tar/entry.ts';
import type { TarHandler } from '../../tar/read.ts';
import { transformTar } from '../../tar/transform.ts';
import { type Layer, openWorkplace, type Workplace } from './cache.ts';
import { type Engine, withTask } from './engine.ts';
import { keyOf } from './key.ts';
import { layerSource } from './native.ts';
import { putInto, type Tree } from './tree.ts';

export type PlainStage = {
  readonly place: Workplace;
  /** What the base has, by path: told from what steps have left, which alone is normalized. */
  readonly ofBase: ReadonlyMap<string, string>;
};

/**
 * @param start what the stage begins with: a base, or another stage
 * @param ofBase of that other stage
 * @param keep who closes the workplace in the end
 */
export const plainStage = async (
  engine: Engine,
  start: Tree,
  ofBase: PlainStage['ofBase'] | undefined,
  keep: (place: Workplace) => void,
): Promise<{ readonly tree: Tree; readonly layer: Layer; readonly plain: PlainStage }> => {
  const place = await openWorkplace(engine.cache);
  keep(place);
  const { files, owners } = place;
  const layer: Layer = { key: keyOf({ plain: place.path }), id: place.path, files, owners, bytes: 0 };
  const seen = new Map<string, string>();
  const [before] = start.layers;
  const sources = before === undefined ? await start.base.whole() : [layerSource(engine, before, 'the stage before', undefined)];
  for (const source of sources) {
    await withTask(engine, 'unpack', source.label, async () => {
      const archive = transformTar(await source.open(), source.label, (entry) => {
        seen.set(entry.path, markOf(entry));
        return below(basename(files), entry);
      });
      // One directory higher: what a step has mounted would be in the way of what the base has there.
      await putInto(engine, start, { ...place, files: place.path }, archive, 'whole');
    });
  }
  return { tree: { base: start.base, layers: [layer] }, layer, plain: { place, ofBase: ofBase ?? seen } };
};

/** For the next step. */
export const tidyPlace = async ({ cache }: Engine, { path }: Workplace): Promise<void> => {
  for (const name of ['mounts', 'root', 'shell']) await cache.remove(`${path}/${name}`);
};

/** No entry of a tree's archive lies behind a link: below any directory they lead to the same. */
const below = (directory: string, entry: TarEntry): TarEntry => {
  const moved = (path: string): string => `${directory}/${path.replace(/^\.\//, '')}`;
  return { ...entry, path: moved(entry.path), linkpath: entry.type === 'hardlink' ? moved(entry.linkpath) : entry.linkpath };
};

const markOf = ({ type, size, mtime, mtimeNanos }: TarEntry): string => `${type} ${size} ${mtime} ${mtimeNanos}`;

/** Entries that are as the base has them go to `untouched`, the others to `changed`. */
export const changedOnly = (ofBase: PlainStage['ofBase'], untouched: TarHandler, changed: TarHandler): TarHandler => {
  let taker = changed;
  return {
    entry: (entry) => {
      taker = ofBase.get(entry.path) === markOf(entry) ? untouched : changed;
      return taker.entry(entry);
    },
    data: (chunk) => taker.data(chunk),
    hole: (length) => taker.hole(length),
    endFile: () => taker.endFile(),
  };
};
