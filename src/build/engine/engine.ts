/** What every part of a build is given: the recipe, what was asked for, and where work is done. */
import type { StepSupply, Wanted } from '../../lock/vendor.ts';
import type { Platform } from '../../oci/descriptor.ts';
import type { StepIds } from '../../plan/step.ts';
import type { BuildSpec, Step } from '../../recipe/spec.ts';
import type { Host } from '../../util/host.ts';
import type { BuildListener, Task } from '../events.ts';
import type { Source } from '../sources.ts';
import type { Cache } from './cache.ts';
import type { Ignore } from './host-files.ts';

/** What `--secret` gives: a file of the host, or a value. */
export type Secret = { readonly kind: 'file'; readonly path: string } | { readonly kind: 'value'; readonly value: string };

export type Supply = {
  readonly given: (wanted: Wanted) => Promise<StepSupply>;
  /** A step that had a network has left these files, on such a base; directories of the host. */
  readonly left: (files: string, base: string) => Promise<void>;
};

export type EngineOptions = {
  /** Where COPY finds files: an absolute directory. */
  readonly context: string;
  readonly ignore: Ignore;
  /** What the build itself writes, which may lie there: the image, its lock. Absolute. */
  readonly outputs: readonly string[];
  /** Where relative paths of `cp` and `host-run` begin. */
  readonly directory: string;
  readonly noCache: boolean;
  readonly secrets: ReadonlyMap<string, Secret>;
  /** Sockets of SSH agents that `--ssh` gives, by id. */
  readonly agents: ReadonlyMap<string, string>;
  /** A failing step opens a shell in the terminal. */
  readonly debugShell: boolean;
  /** SOURCE_DATE_EPOCH, seconds; undefined: the base image's date. */
  readonly epoch: number | undefined;
  /** Proxies of the caller: steps that use the network see them, the image does not. */
  readonly proxies: ReadonlyMap<string, string>;
  /** TERM of the caller. */
  readonly terminal: string | undefined;
  /** What steps are given besides (--vendor), and what becomes of what they fetched; absent: nothing. */
  readonly supply?: Supply | undefined;
  /** What the config of a base image has for whoever builds on it (ONBUILD), as steps; asked for Dockerfiles only. */
  readonly onBuild: (triggers: readonly string[], base: string) => readonly Step[];
  /** Build arguments that neither the recipe nor what `onBuild` has been asked for until now declares. */
  readonly unusedArguments: () => readonly string[];
  /** No step has a network, whatever the recipe says. */
  readonly offline?: boolean | undefined;
};

export type Engine = {
  readonly spec: BuildSpec;
  readonly options: EngineOptions;
  readonly platform: Platform;
  readonly cache: Cache;
  readonly ids: StepIds;
  /** Steps write layers above each other; false: the kernel makes no overlay here, and a stage is one directory that its steps work in. */
  readonly overlays: boolean;
  readonly host: Host;
  readonly signal: AbortSignal;
  readonly emit: BuildListener;
  /** Opens what a recipe names as base or as source of a copy; closed by whoever opened it. */
  readonly open: (reference: string, platform: string | undefined) => Promise<Source>;
  /** Bytes of a URL, for ADD. */
  readonly fetch: (url: string) => Promise<AsyncIterable<Uint8Array>>;
  readonly readSecret: (secret: Secret) => Promise<string>;
  /** Of this build alone: salts keys that must not be found. */
  readonly nonce: string;
  /** Unique numbers for tasks and steps. */
  readonly count: { tasks: number; steps: number; cached: number; userNoted?: boolean };
};

/** Tells of work that takes time, whatever becomes of it. */
export const withTask = async <T>(
  { emit, count }: Engine,
  task: Task,
  label: string,
  work: (progress: (done: number, total: number | undefined) => void) => Promise<T>,
): Promise<T> => {
  const id = ++count.tasks;
  emit({ kind: 'task-started', at: performance.now(), task, id, label });
  let bytes = 0;
  try {
    return await work((done, total) => {
      bytes = done;
      emit({ kind: 'task-progress', at: performance.now(), id, done, total });
    });
  } finally {
    emit({ kind: 'task-done', at: performance.now(), id, bytes });
  }
};

export const note = ({ emit }: Engine, text: string): void => emit({ kind: 'note', at: performance.now(), text });
