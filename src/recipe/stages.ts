/** Which stages an image needs: the others are never begun. */
import type { BuildSpec, Origin, Stage } from './spec.ts';

const stagesOf = (origin: Origin): readonly number[] => (origin.kind === 'stage' ? [origin.index] : []);

/** Stages that this one takes from. */
export const usedStages = ({ base, steps }: Stage): readonly number[] => [
  ...(base.kind === 'stage' ? [base.index] : []),
  ...steps.flatMap((step) => {
    if (step.kind === 'copy') return stagesOf(step.from);
    return step.kind === 'run'
      ? step.mounts.flatMap((mount) => ('from' in mount && mount.from !== undefined ? stagesOf(mount.from) : []))
      : [];
  }),
];

/** Indices of the target and of all it needs, rising: an order in which they can be built. */
export const neededStages = ({ stages, target }: BuildSpec): readonly number[] => {
  const needed = new Set<number>([target]);
  // A stage takes only from those above it.
  for (let index = target; index >= 0; index--) {
    const stage = stages[index];
    if (needed.has(index) && stage !== undefined) for (const used of usedStages(stage)) needed.add(used);
  }
  return [...needed].sort((a, b) => a - b);
};
