/** What a stage begins with. */
import type { Stage } from '../../recipe/spec.ts';
import { decodeUtf8 } from '../../util/utf8.ts';
import type { StageInfo } from '../events.ts';
import { type Base, imageBase, scratchBase } from './base.ts';
import type { Building, Others } from './building.ts';
import { busyboxStart } from './busybox.ts';
import { debootstrapBase } from './debootstrap.ts';
import { type Engine, note } from './engine.ts';
import { keyOf } from './key.ts';
import { changesFiles, placeText, stageName } from './names.ts';
import { plainStage } from './plain-stage.ts';
import { withOrigin } from './stage-labels.ts';
import { inherit, stateOf, triggersOf, withoutTriggers } from './stage-state.ts';

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

export const begin = async (engine: Engine, stage: Stage, index: number, others: Others): Promise<Building> => {
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
