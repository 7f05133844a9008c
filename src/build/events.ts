/**
 * What a build tells while it works: a stream of plain values from the engine to whoever shows it (ink on a terminal, lines elsewhere, JSON).
 * The engine never prints; whoever shows it never asks back. Times are milliseconds of `performance.now()`.
 */
import type { TsrunError } from '../util/errors.ts';

/** `index`: position in BuildSpec.stages; `name` as in the recipe ("build"), else "stage 2". `steps`: how many have something to do. */
export type StageInfo = { readonly index: number; readonly name: string; readonly base: string; readonly steps: number };

export type StepInfo = {
  /** Unique in this build, counts from 1 in the order of work. */
  readonly id: number;
  readonly stage: number;
  /** "RUN apt-get install -y python3", one line, as the user wrote it. */
  readonly title: string;
  /** Position among the steps of its stage that have something to do, from 1, and how many there are. */
  readonly number: number;
  readonly of: number;
  /** "recipe.def:12" */
  readonly place: string;
};

/** What takes time besides steps. */
export type Task =
  /** Blobs of a base image come from a registry, a file from a URL. */
  | 'fetch'
  /** A base image is unpacked for the steps that run in it. */
  | 'unpack'
  /** Waiting for another tsrun that makes the same. */
  | 'wait'
  /** The finished tree is compressed and written. */
  | 'write'
  /** The finished image is tested. */
  | 'test';

export type BuildEvent =
  /** First of all: the stages that will be built, in order; others of the recipe are not needed. `keeps`: results of steps, for the next build. */
  | {
      readonly kind: 'plan';
      readonly at: number;
      readonly target: string;
      readonly stages: readonly StageInfo[];
      readonly steps: number;
      readonly keeps: boolean;
    }
  | { readonly kind: 'stage-started'; readonly at: number; readonly stage: StageInfo }
  | { readonly kind: 'stage-done'; readonly at: number; readonly stage: StageInfo }
  | { readonly kind: 'step-started'; readonly at: number; readonly step: StepInfo }
  /** A line that the program of a step wrote, without its end; control characters as they came. */
  | { readonly kind: 'output'; readonly at: number; readonly step: number; readonly stream: 'stdout' | 'stderr'; readonly line: string }
  /** Instead of step-started … step-done: its result was there already. */
  | { readonly kind: 'step-cached'; readonly at: number; readonly step: StepInfo }
  /** `bytes`: what the step added to the image, uncompressed. */
  | { readonly kind: 'step-done'; readonly at: number; readonly step: number; readonly milliseconds: number; readonly bytes: number }
  /** `output`: the last lines, also those of `output` events. `status`: exit status, or undefined when it did not run. */
  | {
      readonly kind: 'step-failed';
      readonly at: number;
      readonly step: number;
      readonly status: number | undefined;
      readonly output: readonly string[];
    }
  | { readonly kind: 'task-started'; readonly at: number; readonly task: Task; readonly id: number; readonly label: string }
  /** `done` and `total` in bytes; the rate follows from them. `total` undefined: not known. */
  | { readonly kind: 'task-progress'; readonly at: number; readonly id: number; readonly done: number; readonly total: number | undefined }
  | { readonly kind: 'task-done'; readonly at: number; readonly id: number; readonly bytes: number }
  /** A line for the user that is no failure: what could not be done exactly, what was left out. */
  | { readonly kind: 'note'; readonly at: number; readonly text: string }
  /** The last one, exactly one of the two. `bytes` of the finished file, 0 of a directory; `cached`: how many steps came from the cache. */
  | {
      readonly kind: 'done';
      readonly at: number;
      readonly target: string;
      readonly bytes: number;
      readonly milliseconds: number;
      readonly steps: number;
      readonly cached: number;
    }
  /** The error itself is thrown too, and printed by whoever catches it. */
  | { readonly kind: 'failed'; readonly at: number; readonly error: TsrunError | undefined };

export type BuildListener = (event: BuildEvent) => void;
