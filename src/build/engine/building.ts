/** A stage while it is built, and what others may know of it then. */
import type { Step } from '../../recipe/spec.ts';
import type { Base } from './base.ts';
import type { Layer, Workplace } from './cache.ts';
import type { Engine } from './engine.ts';
import type { Key } from './key.ts';
import type { PlainStage } from './plain-stage.ts';
import type { StageState } from './stage-state.ts';
import type { Tree } from './tree.ts';

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
export type Building = {
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
