/** Steps and stages as a build counts and names them. */
import type { Place, Stage, Step } from '../../recipe/spec.ts';

/** Steps that change files, and so have a result of their own. */
export const changesFiles = (step: Step): boolean => {
  switch (step.kind) {
    case 'run':
    case 'copy':
    case 'file':
    case 'directory':
    case 'layout':
    case 'workdir':
      return true;
    case 'host-run':
      return !step.beforeBase;
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
