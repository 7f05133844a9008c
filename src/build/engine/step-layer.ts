/** The layer of a step that changes files: found in the cache, or made. */
import { chmod, lstat, opendir } from 'node:fs/promises';
import type { Step } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';
import type { StepInfo } from '../events.ts';
import type { Building } from './building.ts';
import { produceLayer, type Workplace } from './cache.ts';
import { type Engine, note } from './engine.ts';
import { type KeyPart, keyOf } from './key.ts';
import { placeText } from './names.ts';
import { tidyPlace } from './plain-stage.ts';
import { rootMode } from './tree.ts';

/** A step that changes files: its layer is found, or `make` makes it. */
export const layerOf = async (
  building: Building,
  step: Step,
  parts: { readonly [name: string]: KeyPart },
  make: (place: Workplace, info: StepInfo) => Promise<void>,
): Promise<void> => {
  const { engine, tree } = building;
  const info: StepInfo = {
    id: ++engine.count.steps,
    stage: building.index,
    title: step.title,
    number: ++building.number,
    of: building.of,
    place: placeText(step.at),
  };
  const key = keyOf({ parent: building.key, ...parts });
  let started = 0;
  if (building.plain !== undefined) {
    const { place } = building.plain;
    started = performance.now();
    engine.emit({ kind: 'step-started', at: started, step: info });
    await located(engine, info, make(place, info));
    await tidyPlace(engine, place);
    const at = performance.now();
    engine.emit({ kind: 'step-done', at, step: info.id, milliseconds: at - started, bytes: 0 });
    if (step.kind === 'run') for (const layer of tree.layers) building.ran.add(layer);
    building.key = key;
    return;
  }
  const { layer, found } = await produceLayer(engine.cache, key, {
    signal: engine.signal,
    anew: engine.options.noCache,
    onWait: () => note(engine, `waiting for another build that is at: ${step.title}`),
    make: async (place) => {
      started = performance.now();
      engine.emit({ kind: 'step-started', at: started, step: info });
      await chmod(place.files, await rootMode(tree));
      await located(engine, info, make(place, info));
      return sizeOf(place.files);
    },
  });
  if (found) {
    engine.count.cached++;
    engine.emit({ kind: 'step-cached', at: performance.now(), step: info });
  } else {
    const at = performance.now();
    engine.emit({ kind: 'step-done', at, step: info.id, milliseconds: at - started, bytes: layer.bytes });
  }
  if (step.kind === 'run') building.ran.add(layer);
  // Not the key: what stands on a result that was made anew does not stand on the one before.
  building.key = keyOf({ result: layer.id });
  building.tree = { ...tree, layers: [...tree.layers, layer] };
};

/** What goes wrong with the files of a step is said with its place in the recipe. */
const located = async ({ cache }: Engine, { place, title }: StepInfo, work: Promise<void>): Promise<void> => {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof TsrunError) || error.code !== 'E_BUILD_TREE') throw error;
    const full = /No space left|quota/i.test(error.why);
    const hint = full ? `free some space in ${cache.root}, or set TSRUN_TMPDIR to a directory with more of it` : error.hint;
    throw new TsrunError({ code: error.code, what: `${place}: the step failed: ${title}`, why: error.why, hint, cause: error });
  }
};

/** Roughly: what this user cannot look into does not count. */
const sizeOf = async (directory: string): Promise<number> => {
  let bytes = 0;
  try {
    for await (const entry of await opendir(directory, { bufferSize: 256 })) {
      const path = `${directory}/${entry.name}`;
      if (entry.isDirectory()) bytes += await sizeOf(path);
      else if (entry.isFile()) bytes += (await lstat(path)).size;
    }
  } catch {
    // For people only.
  }
  return bytes;
};
