/** What turns an instruction of a Dockerfile into steps. */
import type { Instruction } from './dockerfile-lines.ts';
import type { NamedContexts, StageNames } from './dockerfile-origin.ts';
import type { Step } from './spec.ts';

/** What an instruction's meaning depends on. */
export type Around = {
  readonly escapeChar: string;
  readonly stages: StageNames;
  readonly contexts: NamedContexts;
  /** Of the stage it stands in. */
  readonly current: number;
  /** Of ARG before the first FROM and of the platform; undefined: declared, and without value. */
  readonly globals: ReadonlyMap<string, string | undefined>;
  readonly given: ReadonlyMap<string, string>;
  /** Names of ARG are added. */
  readonly declared: Set<string>;
};

type Each<Union> = Union extends unknown ? Omit<Union, 'at' | 'title'> : never;
export type StepBody = Each<Step>;

export type Compile = (instruction: Instruction, around: Around) => readonly StepBody[];
