/** One stage, step by step: what is there already is taken, the rest is made. */
import { lstat, opendir } from 'node:fs/promises';
import { formatRegistryReference, parseReference } from '../../oci/reference.ts';
import type { Origin, Stage, Step, Word } from '../../recipe/spec.ts';
import { expandWord } from '../../recipe/words.ts';
import { EMPTY_ENTRY, type TarEntry } from '../../tar/entry.ts';
import { writeTar } from '../../tar/write.ts';
import { TsrunError } from '../../util/errors.ts';
import { nearest } from '../../util/nearest.ts';
import { cleanPath } from '../../util/paths.ts';
import { decodeUtf8 } from '../../util/utf8.ts';
import { VERSION } from '../../util/version.ts';
import type { StageInfo, StepInfo } from '../events.ts';
import { type Base, imageBase, scratchBase } from './base.ts';
import { busyboxStart } from './busybox.ts';
import { closeWorkplace, type Layer, openWorkplace, produceLayer, type Workplace } from './cache.ts';
import { copyFiles, type OtherTree, readyCopy } from './copy-step.ts';
import { debootstrapBase } from './debootstrap.ts';
import { type Engine, note } from './engine.ts';
import { type HostStep, runBefore, runOnHost } from './host-step.ts';
import { type Key, type KeyPart, keyOf } from './key.ts';
import { layOut, layoutFiles } from './layout-step.ts';
import { changesFiles, placeText, stageName } from './names.ts';
import { prefixesOf, spotOf } from './placement.ts';
import { type PlainStage, plainStage, tidyPlace } from './plain-stage.ts';
import { readyMounts } from './run-mounts.ts';
import { debugShell, runKey, runProgram } from './run-step.ts';
import {
  applyChange,
  inherit,
  plainChange,
  type StageState,
  stateOf,
  triggersOf,
  variablesOf,
  withArg,
  withEnv,
  withLabel,
  withoutTriggers,
} from './stage-state.ts';
import { lookAt, putInto, readTexts, type Tree } from './tree.ts';

export type BuiltStage = {
  readonly tree: Tree;
  readonly state: StageState;
  /** Of the last step. */
  readonly key: Key;
  /** Seconds since 1970: what SOURCE_DATE_EPOCH was. */
  readonly epoch: number;
  /** Which layers were made by programs. */
  readonly ran: ReadonlySet<Layer>;
  /** Files that the image does not have although a layer has them. */
  readonly hidden: readonly string[];
  /** Without overlays. */
  readonly plain: PlainStage | undefined;
  readonly tests: readonly Extract<Step, { kind: 'test' }>[];
};

/** Of another stage, or an image by its reference. */
export type Others = {
  readonly stage: (index: number) => BuiltStage;
  readonly image: (reference: string) => Promise<Base>;
  /** Closes it when the build ends. */
  readonly keep: (place: Workplace) => void;
};

/** The state of a stage while it is built. */
type Building = {
  readonly engine: Engine;
  readonly index: number;
  readonly others: Others;
  tree: Tree;
  state: StageState;
  key: Key;
  readonly epoch: number;
  readonly ran: Set<Layer>;
  readonly hidden: string[];
  readonly plain: PlainStage | undefined;
  readonly tests: Extract<Step, { kind: 'test' }>[];
  number: number;
  readonly of: number;
  /** What the base wants done first (ONBUILD). */
  readonly triggers: readonly Step[];
};

/** 1980-01-01: ZIP, and with it Python's wheels, can tell of no earlier time. */
export const EARLIEST = 315_532_800;

export const stageInfo = (stage: Stage, index: number): StageInfo => ({
  index,
  name: stageName(stage, index),
  base: baseName(stage),
  steps: stage.steps.filter(changesFiles).length,
});

const baseName = ({ base }: Stage): string => {
  switch (base.kind) {
    case 'image':
      return base.reference;
    case 'stage':
      return `stage ${base.index + 1}`;
    case 'scratch':
    case 'busybox':
      return base.kind;
    case 'debootstrap':
      return base.suite;
    default:
      return base satisfies never;
  }
};

export const buildStage = async (engine: Engine, index: number, others: Others): Promise<BuiltStage> => {
  const stage = engine.spec.stages[index] as Stage;
  const info = stageInfo(stage, index);
  engine.emit({ kind: 'stage-started', at: performance.now(), stage: info });
  for (const step of stage.steps) if (step.kind === 'host-run' && step.beforeBase) await runFirst(engine, step, index);
  const building = await begin(engine, stage, index, others);
  for (const step of [...building.triggers, ...stage.steps]) {
    engine.signal.throwIfAborted();
    await carryOut(building, step);
  }
  engine.emit({ kind: 'stage-done', at: performance.now(), stage: info });
  const { tree, state, key, epoch, ran, hidden, plain, tests } = building;
  return { tree, state, key, epoch, ran, hidden, plain, tests };
};

const begin = async (engine: Engine, stage: Stage, index: number, others: Others): Promise<Building> => {
  const { base, state, ...rest } = await startOf(engine, stage, others);
  const triggers = engine.spec.language === 'dockerfile' ? engine.options.onBuild(triggersOf(state), base) : [];
  // The last one: all bases are known, and whoever looks for a slip in a name has not waited for its steps.
  if (index === engine.spec.target)
    for (const name of engine.options.unusedArguments()) note(engine, `nothing uses the build argument ${decodeUtf8(name) ?? name}`);
  const of = [...triggers, ...stage.steps].filter(changesFiles).length;
  const started = engine.overlays ? { ...rest, plain: undefined } : await inOneDirectory(engine, stage, rest, others);
  return { engine, index, others, number: 0, of, tests: [], triggers, state: withoutTriggers(state), ...started };
};

/** What has been there before: its layers are one now, with what programs have done to any of them. */
const inOneDirectory = async <T extends Pick<Start, 'tree' | 'ran'>>(
  engine: Engine,
  { base }: Stage,
  start: T,
  others: Others,
): Promise<T & Pick<Building, 'plain'>> => {
  const ofBase = base.kind === 'stage' ? others.stage(base.index).plain?.ofBase : base.kind === 'busybox' ? new Map() : undefined;
  const { tree, layer, plain } = await plainStage(engine, start.tree, ofBase, others.keep);
  return { ...start, tree, plain, ran: new Set(start.ran.size > 0 ? [layer] : []) };
};

type Start = Pick<Building, 'tree' | 'state' | 'key' | 'epoch' | 'ran' | 'hidden'> & { readonly base: string };

const startOf = async (engine: Engine, stage: Stage, others: Others): Promise<Start> => {
  if (stage.base.kind === 'stage') {
    const { tree, state, key, epoch, ran, hidden } = others.stage(stage.base.index);
    return { base: baseName(stage), tree, state: inherit(state), key, epoch, ran: new Set(ran), hidden: [...hidden] };
  }
  if (stage.base.kind === 'busybox') {
    const epoch = engine.options.epoch ?? EARLIEST;
    const start = await busyboxStart(engine, placeText(stage.at), stage.base, epoch);
    return {
      base: 'busybox',
      ...start,
      state: withOrigin(stateOf({}), start.tree.base, epoch),
      epoch,
      ran: new Set(start.tree.layers.slice(-1)),
      hidden: [],
    };
  }
  const base = await openBase(engine, stage.base, stage, others);
  const epoch = engine.options.epoch ?? Math.max(EARLIEST, createdOf(base));
  const key = keyOf({ base: base.key, ids: engine.ids.kind });
  return {
    base: base.name,
    tree: { base, layers: [] },
    state: withOrigin(stateOf(base.config), base, epoch),
    key,
    epoch,
    ran: new Set(),
    hidden: [],
  };
};

/**
 * What images say of where they come from (image-spec annotations.md, as labels): a recipe's own labels come later and win. The base only where it
 * is one of a registry, whose name and digest mean something elsewhere too.
 */
const withOrigin = (state: StageState, base: Base, epoch: number): StageState => {
  const reference = base.name.startsWith('docker://') ? parseReference(base.name) : undefined;
  const named = reference?.kind === 'registry' ? formatRegistryReference(reference).replace(/^docker:\/\//, '') : undefined;
  const labels: readonly (readonly [string, string | undefined])[] = [
    ['created', new Date(epoch * 1000).toISOString().replace('.000Z', 'Z')],
    ['base.name', named],
    ['base.digest', named === undefined ? undefined : base.digest],
  ];
  return labels.reduce((next, [name, value]) => withLabel(next, `org.opencontainers.image.${name}`, value), state);
};

const createdOf = ({ config }: Base): number => {
  const created = config['created'];
  return typeof created === 'string' ? Math.floor((Date.parse(created) || 0) / 1000) : 0;
};

const openBase = async (
  engine: Engine,
  base: Exclude<Stage['base'], { kind: 'stage' | 'busybox' }>,
  stage: Stage,
  others: Others,
): Promise<Base> => {
  switch (base.kind) {
    case 'image':
      return stage.platform === undefined ? others.image(base.reference) : imageBase(engine, base.reference, stage.platform);
    case 'scratch':
      return scratchBase(engine);
    case 'debootstrap':
      return debootstrapBase(engine, placeText(stage.at), base);
    default:
      return base satisfies never;
  }
};

const carryOut = async (building: Building, step: Step): Promise<void> => {
  const { state } = building;
  const variables = variablesOf(state);
  const expand = (word: Word): string => expandWord(word, (name) => variables.get(name), step.at);
  switch (step.kind) {
    case 'arg': {
      const value = step.value === undefined ? undefined : expand(step.value);
      if (value !== undefined) building.state = withArg(state, step.name, value);
      return;
    }
    case 'env':
      for (const { name, value } of step.variables) building.state = withEnv(building.state, name, expand(value));
      return;
    case 'user':
      building.state = { ...state, user: expand(step.user) };
      return;
    case 'shell':
      building.state = { ...state, shell: step.argv };
      return;
    case 'config': {
      const change = plainChange(step.change, expand);
      if (change.field === 'label-file') await readLabels(building, change.path);
      else if (change.field === 'build-labels') addBuildLabels(building);
      else building.state = applyChange(state, change);
      return;
    }
    case 'test':
      building.tests.push(step);
      return;
    case 'workdir': {
      const text = expand(step.path);
      const path = text.startsWith('/') ? text : `${state.workdir}/${text}`;
      building.state = { ...state, workdir: cleanPath(path) };
      return makeDirectory(building, step, building.state.workdir, 0o755);
    }
    case 'directory':
      return makeDirectory(building, step, step.path, step.mode);
    case 'layout': {
      const { engine, epoch } = building;
      const files = layoutFiles(engine, state, epoch);
      return layerOf(building, step, { step: 'layout', files, epoch }, (place) => layOut(engine, files, building.tree, epoch, place));
    }
    case 'file':
      return writeFile(building, step);
    case 'copy':
      return copy(building, step, expand);
    case 'run':
      return run(building, step, expand);
    case 'host-run':
      return hostRun(building, step);
    default:
      step satisfies never;
  }
};

/** A step that changes files: its layer is found, or `make` makes it. */
const layerOf = async (
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

const makeDirectory = async (building: Building, step: Step, path: string, mode: number): Promise<void> => {
  if (path === '/') return;
  const { engine, tree, epoch } = building;
  await layerOf(building, step, { step: 'directory', path, mode }, async (place) => {
    const spot = spotOf(path, await lookAt(engine, tree, prefixesOf(path)));
    if (spot.type === 'd') return;
    if (spot.type === 'other') {
      throw new TsrunError({
        code: 'E_COPY_TARGET',
        what: `${placeText(step.at)}: cannot make the directory ${path}`,
        why: 'the image has a file there',
        hint: 'choose another name',
      });
    }
    const entries = [...spot.missing, spot.path].map(
      (each): TarEntry => ({ ...EMPTY_ENTRY, type: 'directory', path: each.slice(1), mode: 0o755, mtime: epoch }),
    );
    await putInto(
      engine,
      tree,
      place,
      writeTar(entries.map((entry, at) => ({ entry: at === entries.length - 1 ? { ...entry, mode } : entry }))),
    );
  });
};

const writeFile = async (building: Building, step: Extract<Step, { kind: 'file' }>): Promise<void> => {
  const { engine, tree, epoch } = building;
  const { path, mode, content, append } = step;
  await layerOf(building, step, { step: 'file', path, mode, content, append }, async (place) => {
    const spot = spotOf(path, await lookAt(engine, tree, prefixesOf(path)));
    const [before = ''] = append ? await readTexts(engine, tree, [path]) : [];
    const bytes = Buffer.from(before + content, 'latin1');
    const parents = spot.missing.map(
      (each): TarEntry => ({ ...EMPTY_ENTRY, type: 'directory', path: each.slice(1), mode: 0o755, mtime: epoch }),
    );
    const entry = { ...EMPTY_ENTRY, path: spot.path.slice(1), mode, size: bytes.length, mtime: epoch };
    await putInto(engine, tree, place, writeTar([...parents.map((each) => ({ entry: each })), { entry, content: [bytes] }]));
  });
};

const copy = async (building: Building, step: Extract<Step, { kind: 'copy' }>, expand: (word: Word) => string): Promise<void> => {
  const { engine, tree, state, epoch } = building;
  const ready = await readyCopy(engine, step, state.workdir, expand, otherTree(building, step));
  await layerOf(building, step, { ...ready.key, epoch }, async (place) => {
    await copyFiles(engine, ready, tree, place, epoch);
  });
};

const otherTree =
  ({ engine, others }: Building, step: Step): OtherTree =>
  async (origin: Extract<Origin, { kind: 'stage' | 'image' }>) => {
    if (origin.kind === 'stage') {
      const { tree, key } = others.stage(origin.index);
      return { tree, key };
    }
    const base = await others.image(origin.reference).catch((error: unknown) => {
      throw error instanceof TsrunError ? unknownSource(engine, step, origin.reference, error) : error;
    });
    return { tree: { base, layers: [] }, key: base.key };
  };

/** What is no stage is taken for an image: there may be a slip in the name. */
const unknownSource = ({ spec }: Engine, { at }: Step, reference: string, { code, what, why, hint, cause }: TsrunError): TsrunError => {
  const names = spec.stages.flatMap(({ name }) => name ?? []);
  const near = nearest(reference.replace(/^docker:\/\//, ''), names);
  const meant = near === undefined ? hint : `no stage is called so; did you mean ${near}?`;
  return new TsrunError({ code, what: `${placeText(at)}: ${what}`, why, hint: meant, cause });
};

const LAST_LINES = 40;

const run = async (building: Building, step: Extract<Step, { kind: 'run' }>, expand: (word: Word) => string): Promise<void> => {
  const { engine, tree, state, epoch } = building;
  const mounts = await readyMounts(engine, step, state.workdir, expand, otherTree(building, step));
  await layerOf(building, step, runKey(step, state, epoch, mounts), async (place, info) => {
    await watched(
      engine,
      info,
      (onLine) => runProgram(engine, step, tree, state, epoch, mounts, place, onLine),
      () => debugShell(engine, step, tree, state, epoch, mounts, place),
    );
  });
};

/** Before there is a base. */
const runFirst = async (engine: Engine, step: HostStep, index: number): Promise<void> => {
  const info: StepInfo = { id: ++engine.count.steps, stage: index, title: step.title, number: 0, of: 0, place: placeText(step.at) };
  const started = performance.now();
  engine.emit({ kind: 'step-started', at: started, step: info });
  const place = await openWorkplace(engine.cache);
  try {
    await watched(engine, info, (onLine) => runBefore(engine, step, place.path, onLine));
  } finally {
    await closeWorkplace(engine.cache, place);
  }
  engine.emit({ kind: 'step-done', at: performance.now(), step: info.id, milliseconds: performance.now() - started, bytes: 0 });
};

/** What a script of the host finds is nobody's to know: it is never taken from the cache. */
const hostRun = async (building: Building, step: HostStep): Promise<void> => {
  if (step.beforeBase) return;
  const { engine, tree } = building;
  await layerOf(building, step, { step: 'host-run', nonce: engine.nonce, number: building.number }, async (place, info) => {
    await watched(engine, info, (onLine) =>
      step.beforeBase ? runBefore(engine, step, place.path, onLine) : runOnHost(engine, step, tree, place, onLine),
    );
  });
};

type OnLine = (stream: 'stdout' | 'stderr', line: string) => void;

/** Runs a step's program: its lines are told, its failure is the build's. */
const watched = async (
  engine: Engine,
  info: StepInfo,
  program: (onLine: OnLine) => Promise<number>,
  shell?: (() => Promise<void>) | undefined,
): Promise<void> => {
  const output: string[] = [];
  const status = await program((stream, line) => {
    output.push(line);
    if (output.length > LAST_LINES) output.shift();
    engine.emit({ kind: 'output', at: performance.now(), step: info.id, stream, line });
  });
  if (status === 0) return;
  engine.emit({ kind: 'step-failed', at: performance.now(), step: info.id, status, output });
  if (engine.options.debugShell) await shell?.();
  throw new TsrunError({
    code: 'E_STEP',
    what: `${info.place}: the step failed: ${info.title}`,
    why: status > 128 && status < 160 ? `it was ended by signal ${status - 128}` : `its exit status is ${status}`,
    hint:
      engine.options.debugShell || shell === undefined
        ? 'the steps before it are kept: the next build begins here'
        : `for a shell in the state in which it failed, build again with --debug-shell; the steps before it are kept${ONE_ID[engine.ids.kind]}`,
  });
};

/** What cannot be told from other failures. */
const ONE_ID: Readonly<Record<Engine['ids']['kind'], string>> = {
  ranges: '',
  single:
    '. There is one id only: programs that become other users, or look whether a file has the owner they gave it (su, initdb), need ids of your own in /etc/subuid and /etc/subgid',
};

/** Lines "NAME VALUE"; the file itself is no part of the image. */
const readLabels = async (building: Building, path: string): Promise<void> => {
  const [text = ''] = await readTexts(building.engine, building.tree, [path]);
  if (text === '') return;
  for (const line of text.split('\n')) {
    const [, name, value = ''] = /^[ \t]*([^ \t#][^ \t]*)(?:[ \t]+(.*))?$/.exec(line) ?? [];
    if (name !== undefined) building.state = applyChange(building.state, { field: 'label', name, value: value.trim() });
  }
  building.hidden.push(path);
};

/** Names and date as Apptainer writes them (`Sunday_2_November_2025_9:4:1_UTC`), the date that of the build's SOURCE_DATE_EPOCH. */
const addBuildLabels = (building: Building): void => {
  const date = new Date(building.epoch * 1000);
  const [weekday, month] = (['weekday', 'month'] as const).map((part) =>
    new Intl.DateTimeFormat('en-US', { [part]: 'long', timeZone: 'UTC' }).format(date),
  );
  const time = `${date.getUTCHours()}:${date.getUTCMinutes()}:${date.getUTCSeconds()}`;
  const labels: readonly (readonly [string, string])[] = [
    ['schema-version', '1.0'],
    ['build-arch', building.engine.platform.architecture],
    ['build-date', `${weekday}_${date.getUTCDate()}_${month}_${date.getUTCFullYear()}_${time}_UTC`],
    ['usage.tsrun.version', VERSION],
  ];
  for (const [name, value] of labels)
    building.state = applyChange(building.state, { field: 'label', name: `org.label-schema.${name}`, value });
};
