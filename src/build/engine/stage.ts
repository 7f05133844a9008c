/** One stage, step by step: what is there already is taken, the rest is made. */
import type { Stage, Step, Word } from '../../recipe/spec.ts';
import { expandWord } from '../../recipe/words.ts';
import { cleanPath } from '../../util/paths.ts';
import type { Building, BuiltStage, Others } from './building.ts';
import type { Engine } from './engine.ts';
import { copy, makeDirectory, writeFile } from './file-steps.ts';
import { layOut, layoutFiles } from './layout-step.ts';
import { hostRun, run, runFirst } from './program-steps.ts';
import { addBuildLabels, readLabels } from './stage-labels.ts';
import { begin, stageInfo } from './stage-start.ts';
import { applyChange, plainChange, variablesOf, withArg, withEnv } from './stage-state.ts';
import { layerOf } from './step-layer.ts';

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
      return makeDirectory(building, step, building.state.workdir, 0o755, state.user);
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
