/** Which stages of a recipe have to be built for its target, in which order. */
import type { BuildSpec, Origin, Place, Stage, Step } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';

/** Steps that change files, and so have a result of their own. */
export const changesFiles = (step: Step): boolean => {
  switch (step.kind) {
    case 'run':
    case 'host-run':
    case 'copy':
    case 'file':
    case 'directory':
    case 'workdir':
      return true;
    case 'arg':
    case 'env':
    case 'user':
    case 'shell':
    case 'config':
    case 'test':
      return false;
    default:
      return step satisfies never;
  }
};

export const stageName = (stage: Stage, index: number): string => stage.name ?? `stage ${index + 1}`;

export const placeText = ({ file, line }: Place): string => `${file}:${line}`;

/**
 * Indexes of the stages that the target needs, each after those it needs itself.
 * @throws TsrunError E_RECIPE_STAGE for a stage that needs itself, a later one, or one that there is not
 */
export const neededStages = (spec: BuildSpec): readonly number[] => {
  const needed = new Set<number>();
  const visit = (index: number, from: number, at: Place): void => {
    const stage = spec.stages[index];
    if (stage === undefined || index >= from) throw refuse(spec, index, from, at);
    if (needed.has(index)) return;
    for (const use of usesOf(stage)) visit(use.index, index, use.at);
    needed.add(index);
  };
  visit(spec.target, spec.stages.length, spec.stages[spec.target]?.at ?? { file: spec.recipe.path, line: 1 });
  return [...needed];
};

type Use = { readonly index: number; readonly at: Place };

const usesOf = ({ base, steps, at }: Stage): readonly Use[] => [
  ...(base.kind === 'stage' ? [{ index: base.index, at }] : []),
  ...steps.flatMap((step) => originsOf(step).flatMap((from) => (from.kind === 'stage' ? [{ index: from.index, at: step.at }] : []))),
];

/** Where a step takes files from. */
export const originsOf = (step: Step): readonly Origin[] => {
  if (step.kind === 'copy') return [step.from];
  return step.kind === 'run' ? step.mounts.flatMap((mount) => (mount.type === 'bind' ? [mount.from] : [])) : [];
};

const refuse = (spec: BuildSpec, index: number, from: number, at: Place): TsrunError => {
  const stage = spec.stages[index];
  const name = stage === undefined ? `stage ${index + 1}` : JSON.stringify(stageName(stage, index));
  return new TsrunError({
    code: 'E_RECIPE_STAGE',
    what: `${placeText(at)}: cannot use ${name}`,
    why:
      stage === undefined ? 'there is no such stage' : index === from ? 'a stage cannot be made of itself' : 'it comes later in the recipe',
    hint: 'a stage can only use those before it',
  });
};
