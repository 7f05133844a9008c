/** The files of a stage as they are between two steps: a base and the layers above it. Looked at, read and changed through the launcher, where the kernel puts them together. */
import { lstat } from 'node:fs/promises';
import type { Plan } from '../../plan/ops.ts';
import { makeStepPlan, type StepMount, type StepProgram } from '../../plan/step.ts';
import { TsrunError } from '../../util/errors.ts';
import { isWithin } from '../../util/paths.ts';
import type { Accounts } from './accounts.ts';
import type { Base } from './base.ts';
import type { Layer, Workplace } from './cache.ts';
import type { Engine } from './engine.ts';
import { layerSource, makeMountPoints, removeMountPoints } from './native.ts';
import { feedPlan, planOutput, TOOL } from './process.ts';

export type Tree = {
  readonly base: Base;
  /** Lowest first. */
  readonly layers: readonly Layer[];
};

export type InTree = {
  readonly program: StepProgram;
  /** Takes what changes; without it the tree is only looked at. */
  readonly place?: Workplace | undefined;
  readonly mounts?: readonly StepMount[];
  readonly network?: 'host' | 'none';
};

/** The plan is for `carryOut`: where the tree itself is written, its mount points are there for as long as that takes. */
export const withPlan = async <T>(engine: Engine, tree: Tree, given: InTree, carryOut: (plan: Plan) => Promise<T>): Promise<T> => {
  const plan = await planIn(engine, tree, given);
  if (engine.overlays || given.place === undefined) return carryOut(plan);
  const { files } = given.place;
  const made = await makeMountPoints(engine.ids, files, mountPoints(plan));
  try {
    return await carryOut(plan);
  } finally {
    await removeMountPoints(engine.ids, files, made);
  }
};

/** Of mounts that do not lie in others. */
const mountPoints = ({ ops }: Plan): readonly string[] => {
  const mounts = ops.flatMap((op) => {
    if (op.op === 'bind') return [{ target: op.target, isFile: !op.flags.includes('recursive') }];
    return op.op === 'tmpfs' || op.op === 'proc' || op.op === 'sysfs' || op.op === 'devpts' ? [{ target: op.target, isFile: false }] : [];
  });
  return mounts
    .filter(({ target }) => !mounts.some((around) => target !== around.target && isWithin(target, around.target)))
    .map(({ target, isFile }) => (isFile ? target : `${target}/`));
};

const planIn = async (engine: Engine, tree: Tree, { program, place, mounts = [], network = 'host' }: InTree): Promise<Plan> =>
  makeStepPlan({
    host: engine.host,
    tree: engine.overlays
      ? {
          base: await tree.base.directory(),
          layers: tree.layers.map((layer) => layer.files),
          upper: place === undefined ? undefined : { directory: place.files, work: place.work },
        }
      : {
          base: place?.files ?? (await directoryOf(tree)),
          layers: [],
          upper: undefined,
          plain: place === undefined ? 'looked-at' : 'written',
        },
    ids: engine.ids,
    owners: place?.owners,
    network,
    mounts,
    program,
  });

/** Without overlays a stage is one layer, with all that its base has. */
const directoryOf = async ({ base, layers }: Tree): Promise<string> => layers[0]?.files ?? base.directory();

/** Of its root: what the kernel shows of an overlay's is the upper one's, so a new layer begins with it. */
export const rootMode = async ({ base, layers }: Tree): Promise<number> =>
  (await lstat(layers.at(-1)?.files ?? (await base.directory()))).mode & 0o7777;

const tool = (args: readonly string[]): StepProgram => ({
  file: TOOL,
  argv: ['tsrun', ...args],
  environment: new Map(),
  cwd: '/',
  user: undefined,
});

const MAX_OUTPUT = 64 * 2 ** 20;

/** What the tool writes, as byte string. */
const ask = async (engine: Engine, tree: Tree, args: readonly string[], what: string): Promise<string> => {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of planOutput(await planIn(engine, tree, { program: tool(args) }), what, engine.signal)) {
    length += part.length;
    if (length > MAX_OUTPUT) throw new TsrunError({ code: 'E_BUILD_TREE', what, why: `the answer has more than ${MAX_OUTPUT} bytes` });
    parts.push(part);
  }
  return Buffer.concat(parts).toString('latin1');
};

export type Found = { readonly path: string; readonly type: string; readonly mode: number; readonly size: number; readonly mtime: number };

/** For each path what is behind it, links followed; undefined where there is nothing. Byte strings. */
export const lookAt = async (engine: Engine, tree: Tree, paths: readonly string[]): Promise<readonly (Found | undefined)[]> => {
  if (paths.length === 0) return [];
  const fields = (await ask(engine, tree, ['@tree', 'look', ...paths], 'cannot look into the files of the build')).split('\0');
  return paths.map((_, at) => {
    const [errno, path = '', type = '', mode = '', size = '', mtime = ''] = fields.slice(6 * at, 6 * at + 6);
    return errno === '0' ? { path, type, mode: Number.parseInt(mode, 8), size: Number(size), mtime: Number(mtime) } : undefined;
  });
};

/** Names in a directory; none where there is no such directory. */
export const namesIn = async (engine: Engine, tree: Tree, path: string): Promise<readonly string[]> => {
  const [errno, ...fields] = (await ask(engine, tree, ['@tree', 'names', path], 'cannot look into the files of the build')).split('\0');
  if (errno !== '0') return [];
  const names: string[] = [];
  for (let at = 0; at + 1 < fields.length && fields[at] !== ''; at += 2) names.push(fields[at] as string);
  return names.sort((a, b) => (a < b ? -1 : 1));
};

const MAX_TEXT = 4 * 2 ** 20;

/** Small files as byte strings; "" where there is none. */
export const readTexts = async (engine: Engine, tree: Tree, paths: readonly string[]): Promise<readonly string[]> => {
  let answer = await ask(engine, tree, ['@tree', 'read', String(MAX_TEXT), ...paths], 'cannot read files of the build');
  return paths.map(() => {
    const header = /^(\d+)\0(\d+)\0/.exec(answer);
    if (header === null) return '';
    const start = header[0].length;
    const text = answer.slice(start, start + Number(header[2]));
    answer = answer.slice(start + Number(header[2]));
    return text;
  });
};

export const accountsIn = async (engine: Engine, tree: Tree): Promise<Accounts> => {
  const [passwd = '', group = ''] = await readTexts(engine, tree, ['/etc/passwd', '/etc/group']);
  return { passwd, group };
};

/** A directory of the tree with all that is in it, as a tar stream with its true owners; names begin with "./". */
export async function* tarOf(engine: Engine, tree: Tree, path: string): AsyncGenerator<Uint8Array> {
  const owners = engine.ids.kind === 'ranges' ? 'real' : 'recorded';
  if (!engine.overlays && path === '/') {
    // What a look shows of the root are mounts, each a tree of its own.
    yield* layerSource(engine, { files: await directoryOf(tree), owners: '' }, 'the files of the build', undefined).open();
    return;
  }
  const plan = await planIn(engine, tree, { program: tool(['@tree', 'take', owners, path]) });
  yield* planOutput(plan, `cannot read ${path} of the build`, engine.signal);
}

/** The bytes of a file. */
export async function* contentIn(engine: Engine, tree: Tree, path: string): AsyncGenerator<Uint8Array> {
  yield* planOutput(
    await planIn(engine, tree, { program: tool(['@tree', 'cat', path]) }),
    `cannot read ${path} of the build`,
    engine.signal,
  );
}

/**
 * Entries of a tar stream into the tree, over what is there. Names are relative to its root.
 * @param kind "whole": a tree with its directories, which get the times of their entries; "parts": directories are as the copying has left them
 */
export const putInto = async (
  engine: Engine,
  tree: Tree,
  place: Workplace,
  archive: AsyncIterable<Uint8Array>,
  kind: 'parts' | 'whole' = 'parts',
): Promise<void> => {
  const program = tool(['@tree', 'put', ...(kind === 'whole' ? ['whole'] : [])]);
  await withPlan(engine, tree, { program, place }, (plan) => feedPlan(plan, archive, 'cannot write the files of a step', engine.signal));
};
