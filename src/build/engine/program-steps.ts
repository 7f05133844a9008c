/** Steps that run a program, in the stage or on the host: what it says is told, its failure is the build's. */
import { statfs } from 'node:fs/promises';
import type { Step, Word } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';
import type { StepInfo } from '../events.ts';
import type { Building } from './building.ts';
import { closeWorkplace, openWorkplace } from './cache.ts';
import type { Engine } from './engine.ts';
import { otherTree } from './file-steps.ts';
import { type HostStep, runBefore, runOnHost } from './host-step.ts';
import { placeText } from './names.ts';
import type { OnLine } from './outputs.ts';
import { readyMounts } from './run-mounts.ts';
import { debugShell, runKey, runProgram } from './run-step.ts';
import { layerOf } from './step-layer.ts';

const LAST_LINES = 40;

export const run = async (building: Building, step: Extract<Step, { kind: 'run' }>, expand: (word: Word) => string): Promise<void> => {
  const { engine, tree, state, epoch } = building;
  const mounts = await readyMounts(engine, step, state.workdir, expand, otherTree(building, step));
  await layerOf(building, step, runKey(step, state, epoch, mounts), async (place, info) => {
    const stepRun = { engine, step, tree, state, epoch, mounts, place };
    await watched(
      engine,
      info,
      (onLine) => runProgram(stepRun, onLine),
      () => debugShell(stepRun),
    );
  });
};

/** Before there is a base. */
export const runFirst = async (engine: Engine, step: HostStep, index: number): Promise<void> => {
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
export const hostRun = async (building: Building, step: HostStep): Promise<void> => {
  if (step.beforeBase) return;
  const { engine, tree } = building;
  await layerOf(building, step, { step: 'host-run', nonce: engine.nonce, number: building.number }, async (place, info) => {
    await watched(engine, info, (onLine) => runOnHost(engine, step, tree, place, onLine));
  });
};

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
    hint: (await isFull(engine.cache.root))
      ? `its files lie in ${engine.cache.root}, and that is full: make room there, or set TSRUN_TMPDIR to a directory on another disk of this node`
      : engine.options.debugShell || shell === undefined
        ? 'the steps before it are kept: the next build begins here'
        : `for a shell in the state in which it failed, build again with --debug-shell; the steps before it are kept${ONE_ID[engine.ids.kind]}`,
  });
};

/** What a program could not write, it does not leave there. */
const FULL = 8 * 2 ** 20;

const isFull = async (path: string): Promise<boolean> => {
  const { bavail, bsize, files, ffree } = await statfs(path);
  return bavail * bsize < FULL || (files > 0 && ffree === 0);
};

/** What cannot be told from other failures. */
const ONE_ID: Readonly<Record<Engine['ids']['kind'], string>> = {
  ranges: '',
  single:
    '. There is one id only: programs that become other users, or look whether a file has the owner they gave it (su, initdb), need ids of your own in /etc/subuid and /etc/subgid',
};
