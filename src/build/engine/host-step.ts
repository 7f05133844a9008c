/** %pre and %setup: a script of the host. With the root in its environment, and the root itself, where the kernel shows it, at a path of the host. */

import { mkdir, writeFile } from 'node:fs/promises';
import type { Command, Step } from '../../recipe/spec.ts';
import type { Workplace } from './cache.ts';
import type { Engine } from './engine.ts';
import { type OnLine, runGroup } from './outputs.ts';
import { runPlan, TOOL } from './process.ts';
import { type InTree, type Tree, withPlan } from './tree.ts';

export type HostStep = Extract<Step, { kind: 'host-run' }>;

const HOST = '/.host';

const argvOf = async (command: Command, directory: string): Promise<readonly string[]> => {
  if (command.form === 'shell') return ['/bin/sh', '-c', command.text];
  if (command.form === 'argv') return command.argv;
  const script = `${directory}/script`;
  await writeFile(script, Buffer.from(command.text, 'latin1'), { mode: 0o700 });
  return [...command.interpreter, ...command.args, script];
};

/** The names that Apptainer and SingularityCE give it. */
const rootVariables = (root: string): ReadonlyMap<string, string> =>
  new Map(
    ['APPTAINER', 'SINGULARITY'].flatMap((name) => [
      [`${name}_ROOTFS`, root] as const,
      [`${name}_ENVIRONMENT`, `${root}/.singularity.d/env/91-environment.sh`] as const,
    ]),
  );

const callersVariables = (): readonly (readonly [string, string])[] =>
  Object.entries(process.env).flatMap(([name, value]) =>
    value === undefined || name.startsWith('TSRUN_HOST_ENV') ? [] : [[name, Buffer.from(value).toString('latin1')] as const],
  );

/** %setup: what it changes below the root is the step's. Returns its exit status. */
export const runOnHost = async (engine: Engine, { command }: HostStep, tree: Tree, place: Workplace, onLine: OnLine): Promise<number> => {
  const root = `${place.path}/root`;
  await mkdir(root, { mode: 0o755 });
  return runHostProgram(engine, tree, place, { root, argv: await argvOf(command, place.path), variables: rootVariables(root) }, onLine);
};

export type HostProgram = {
  /** An empty directory of the host, where the root of the tree is shown. */
  readonly root: string;
  readonly argv: readonly string[];
  /** Besides the caller's. */
  readonly variables: ReadonlyMap<string, string>;
};

/** A program of the host, as root of the step's user namespace. Returns its exit status. */
export const runHostProgram = async (
  engine: Engine,
  tree: Tree,
  place: Workplace,
  { root, argv, variables }: HostProgram,
  onLine: OnLine,
): Promise<number> => {
  const environment = new Map([...callersVariables(), ...variables]);
  const given: InTree = {
    place,
    mounts: [
      {
        kind: 'bind',
        source: '/',
        target: HOST,
        readOnly: false,
        isFile: false,
        devices: true,
        optional: false,
        why: 'the host, for a section that runs there',
      },
    ],
    program: {
      file: TOOL,
      argv: ['tsrun', '@tree', 'host', HOST, root, engine.options.directory, ...argv],
      environment,
      cwd: '/',
      user: undefined,
    },
  };
  return withPlan(engine, tree, given, (plan) => runPlan(plan, { signal: engine.signal, onLine }));
};

/** %pre: before there is a root. */
export const runBefore = async (engine: Engine, { command }: HostStep, directory: string, onLine: OnLine): Promise<number> => {
  const [program = '', ...args] = (await argvOf(command, directory)).map((word) => Buffer.from(word, 'latin1').toString('utf8'));
  return runGroup(program, args, { signal: engine.signal, onLine });
};
