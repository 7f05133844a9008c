/**
 * A recipe carried out:
 *
 *     BuildSpec ─► the stages its target needs ─► for each step a layer, found or made ─► base layers + these ─► the converter ─► tests ─► rename
 *
 * The output appears whole or not at all; finished steps stay in the cache whatever becomes of the build.
 */
import { randomBytes } from 'node:crypto';
import { rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { ENV_SCRIPT_MARK, RUNSCRIPT_MARK } from '../../image/singularity.ts';
import type { OciImage } from '../../oci/image.ts';
import { type LayerSource, NOTHING_PROMISED } from '../../oci/layer.ts';
import type { Stage } from '../../recipe/spec.ts';
import { neededStages } from '../../recipe/stages.ts';
import { EMPTY_ENTRY, type TarEntry } from '../../tar/entry.ts';
import type { TarHandler } from '../../tar/read.ts';
import { writeTar } from '../../tar/write.ts';
import { TsrunError } from '../../util/errors.ts';
import { encodeUtf8 } from '../../util/utf8.ts';
import { type ConvertOptions, convertImage, refuseExisting } from '../convert.ts';
import type { BuildEvent } from '../events.ts';
import { normalizeLayer } from '../normalize.ts';
import { parseLabels } from '../records.ts';
import { type Base, imageBase } from './base.ts';
import { keepBlockList, NO_IMAGES, openBuiltImages } from './block-lists.ts';
import type { BuiltStage } from './building.ts';
import { closeWorkplace, holdCache, sweep, syncLayers, type Workplace } from './cache.ts';
import { type Engine, note, withTask } from './engine.ts';
import { layerSource } from './native.ts';
import { changedOnly } from './plain-stage.ts';
import { writeSandbox } from './sandbox.ts';
import { buildStage } from './stage.ts';
import { stageInfo } from './stage-start.ts';
import { configBytes, type StageState, withInheritedLabels } from './stage-state.ts';
import { runTests } from './test-steps.ts';
import { readTexts } from './tree.ts';

export type Output = {
  /** Absolute. */
  readonly target: string;
  readonly kind: 'sif' | 'sandbox';
  readonly tests: boolean;
  readonly convert: Omit<ConvertOptions, 'signal' | 'onProgress' | 'known'>;
};

/** What the caller may have to know of the finished image. */
export type Built = { readonly treeDigest: string; readonly epoch: number; readonly notes: readonly string[] };

/** @throws TsrunError of every kind that a recipe, its steps and its files can be wrong in; `engine.signal`'s reason */
export const buildRecipe = async (engine: Engine, output: Output): Promise<Built> => {
  const started = performance.now();
  const emit = (event: BuildEvent): void => engine.emit(event);
  const bases = new Map<string, Promise<Base>>();
  const places: Workplace[] = [];
  const held = await holdCache(engine.cache, engine.signal);
  try {
    const { spec } = engine;
    const order = neededStages(spec);
    const stages = order.map((index) => stageInfo(spec.stages[index] as Stage, index));
    const steps = stages.reduce((sum, stage) => sum + stage.steps, 0);
    emit({ kind: 'plan', at: started, target: output.target, stages, steps, keeps: engine.overlays });
    if (output.kind === 'sif') refuseExisting(output.target, output.convert.force);
    await sweep(engine.cache);
    const built = await buildStages(engine, order, bases, places);
    // The disk has its time while the image is compressed.
    const synced = syncLayers(engine.cache);
    const made = await writeOutput(engine, output, built).finally(() => synced);
    for (const text of made.notes) note(engine, text);
    const size = output.kind === 'sif' ? (await stat(output.target)).size : 0;
    const at = performance.now();
    emit({
      kind: 'done',
      at,
      target: output.target,
      bytes: size,
      milliseconds: at - started,
      steps: engine.count.steps,
      cached: engine.count.cached,
    });
    return made;
  } catch (error) {
    emit({ kind: 'failed', at: performance.now(), error: error instanceof TsrunError ? error : undefined });
    // The steps before the one that failed.
    if (!engine.signal.aborted) await syncLayers(engine.cache);
    throw error;
  } finally {
    for (const place of places) await closeWorkplace(engine.cache, place);
    for (const base of bases.values()) await (await base.catch(() => undefined))?.close();
    await held.release();
  }
};

const buildStages = async (
  engine: Engine,
  order: readonly number[],
  bases: Map<string, Promise<Base>>,
  places: Workplace[],
): Promise<BuiltStage> => {
  const done = new Map<number, BuiltStage>();
  const others = {
    stage: (index: number): BuiltStage => done.get(index) as BuiltStage,
    image: (reference: string): Promise<Base> => {
      let base = bases.get(reference);
      if (base === undefined) {
        base = imageBase(engine, reference, undefined);
        base.catch(() => undefined);
        bases.set(reference, base);
      }
      return base;
    },
    keep: (place: Workplace): void => void places.push(place),
  };
  for (const index of order) done.set(index, await buildStage(engine, index, others));
  return done.get(engine.spec.target) as BuiltStage;
};

/** The image as the converter takes it. */
const imageOf = async (engine: Engine, built: BuiltStage): Promise<OciImage> => {
  const { spec, platform } = engine;
  const { base, layers } = built.tree;
  const { state, stale } = await refreshed(engine, built);
  const hidden = [...new Set([...built.hidden, ...stale])];
  const own = layers.map((layer, at): LayerSource => {
    const normal = (next: TarHandler): TarHandler => {
      const changed = normalizeLayer(next, { epoch: built.epoch, ran: built.ran.has(layer) });
      return built.plain === undefined ? changed : changedOnly(built.plain.ofBase, next, changed);
    };
    return layerSource(engine, layer, `step ${at + 1} of ${layers.length}`, normal);
  });
  return {
    name: spec.recipe.path,
    origin: base.origin,
    definition: spec.recipe.text,
    layers: [...(built.plain === undefined ? await base.layers() : []), ...own, ...(hidden.length === 0 ? [] : [hidingLayer(hidden)])],
    config: configBytes(state, platform.architecture, built.epoch),
    manifest: undefined,
    manifestDigest: undefined,
    platform,
    close: async () => {},
  };
};

const LABELS = '/.singularity.d/labels.json';
const RENDERED = [
  ['/.singularity.d/env/10-docker2singularity.sh', ENV_SCRIPT_MARK],
  ['/.singularity.d/runscript', RUNSCRIPT_MARK],
] as const;

/**
 * What was rendered from the base's config would stay as it is, since what a tree has is not rendered again: it is taken away. Labels that only the
 * file knows (base images by others, steps that write to it) come to the config's, which win.
 */
const refreshed = async (engine: Engine, built: BuiltStage): Promise<{ readonly state: StageState; readonly stale: readonly string[] }> => {
  const [labels = '', ...scripts] = await readTexts(engine, built.tree, [LABELS, ...RENDERED.map(([path]) => path)]);
  const stale = RENDERED.flatMap(([path, mark], at) => (scripts[at]?.includes(mark) ? [path] : []));
  if (labels === '') return { state: built.state, stale };
  const own = Object.entries(parseLabels(labels)).map(([name, value]) => [encodeUtf8(name), encodeUtf8(value)] as const);
  return { state: withInheritedLabels(built.state, Object.fromEntries(own)), stale: [LABELS, ...stale] };
};

/** Takes files away. */
const hidingLayer = (paths: readonly string[]): LayerSource => ({
  label: 'what only the build needed',
  ...NOTHING_PROMISED,
  open: () =>
    writeTar(
      paths.map((path) => {
        const slash = path.lastIndexOf('/') + 1;
        const name = `${path.slice(1, slash)}.wh.${path.slice(slash)}`;
        const entry: TarEntry = { ...EMPTY_ENTRY, path: name };
        return { entry };
      }),
    ),
});

/** Beside the target until its tests have passed. */
const writeOutput = async (engine: Engine, output: Output, built: BuiltStage): Promise<Built> => {
  const { target } = output;
  const image = await imageOf(engine, built);
  const beside = `${dirname(target)}/.${basename(target).slice(0, 200)}.${randomBytes(6).toString('hex')}.build`;
  const images = engine.options.noCache ? NO_IMAGES : await openBuiltImages(engine.cache, output.convert);
  try {
    const { known } = images;
    const converted = await withTask(engine, 'write', target, (progress) =>
      convertImage(image, beside, { ...output.convert, known, force: false, signal: engine.signal, onProgress: progress }),
    );
    if (output.tests) await runTests(engine, beside, built.tests);
    if (output.kind === 'sandbox') await writeSandbox(engine, beside, target, output.convert.force);
    else {
      // Somebody else may have made it in the meantime.
      refuseExisting(target, output.convert.force);
      await rename(beside, target);
      if (converted.blocks !== undefined) await keepBlockList(engine.cache, output.convert, target, converted.blocks);
    }
    return { ...converted, epoch: built.epoch };
  } finally {
    await images.close();
    await unlink(beside).catch(() => undefined);
  }
};
