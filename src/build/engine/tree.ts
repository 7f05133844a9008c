/** The files of a stage as they are between two steps: a base and the layers above it. Looked at, read and changed through the launcher, where the kernel puts them together. */
import type { Plan } from '../../plan/ops.ts';
import { makeStepPlan, type StepMount, type StepProgram } from '../../plan/step.ts';
import { TsrunError } from '../../util/errors.ts';
import type { Accounts } from './accounts.ts';
import type { Base } from './base.ts';
import type { Layer, Workplace } from './cache.ts';
import type { Engine } from './engine.ts';
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

export const planIn = async (engine: Engine, tree: Tree, { program, place, mounts = [], network = 'host' }: InTree): Promise<Plan> =>
  makeStepPlan({
    host: engine.host,
    tree: {
      base: await tree.base.directory(),
      layers: tree.layers.map((layer) => layer.files),
      upper: place === undefined ? undefined : { directory: place.files, work: place.work },
    },
    ids: engine.ids,
    owners: place?.owners,
    network,
    mounts,
    program,
  });

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

/** Entries of a tar stream into the tree, over what is there. Names are relative to its root. */
export const putInto = async (engine: Engine, tree: Tree, place: Workplace, archive: AsyncIterable<Uint8Array>): Promise<void> =>
  feedPlan(
    await planIn(engine, tree, { program: tool(['@tree', 'put']), place }),
    archive,
    'cannot write the files of a step',
    engine.signal,
  );
