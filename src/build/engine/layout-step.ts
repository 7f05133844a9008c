/**
 * What Apptainer lays into every image before the sections of a definition file run: /.singularity.d and the links to it, where the tree has nothing
 * of that name. The definition of an image that is built upon goes to its history, and makes room for the next one.
 */

import { type RenderedFile, renderSingularity } from '../../image/singularity.ts';
import { parseRunConfig } from '../../oci/config.ts';
import { EMPTY_ENTRY, type TarEntry } from '../../tar/entry.ts';
import { type TarItem, writeTar } from '../../tar/write.ts';
import type { Workplace } from './cache.ts';
import type { Engine } from './engine.ts';
import { configBytes, type StageState } from './stage-state.ts';
import { lookAt, namesIn, putInto, readTexts, type Tree } from './tree.ts';

const DEFINITION = '/.singularity.d/Singularity';
const HISTORY = '/.singularity.d/bootstrap_history';

export const layoutFiles = (engine: Engine, state: StageState, epoch: number): readonly RenderedFile[] =>
  renderSingularity(parseRunConfig(JSON.parse(Buffer.from(configBytes(state, engine.platform.architecture, epoch)).toString('utf8'))));

export const layOut = async (
  engine: Engine,
  files: readonly RenderedFile[],
  tree: Tree,
  epoch: number,
  place: Workplace,
): Promise<void> => {
  const items = [...(await missingOf(engine, files, tree)).map((file) => itemOf(file, epoch)), ...(await history(engine, tree, epoch))];
  if (items.length > 0) await putInto(engine, tree, place, writeTar(items));
};

/** As in the finished image (render.ts): what is there stays, and nothing is put behind links. */
const missingOf = async (engine: Engine, files: readonly RenderedFile[], tree: Tree): Promise<readonly RenderedFile[]> => {
  const found = await lookAt(
    engine,
    tree,
    files.map(({ path }) => `/${path}`),
  );
  const real = new Set(['']);
  return files.filter(({ path, kind }, at) => {
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    if (!real.has(parent)) return false;
    const there = found[at];
    if (kind === 'directory' && (there === undefined || (there.type === 'd' && there.path === `/${path}`))) real.add(path);
    return there === undefined;
  });
};

const itemOf = (file: RenderedFile, mtime: number): TarItem => {
  const entry: TarEntry = { ...EMPTY_ENTRY, path: file.path, mode: file.mode, mtime };
  switch (file.kind) {
    case 'directory':
      return { entry: { ...entry, type: 'directory' } };
    case 'symlink':
      return { entry: { ...entry, type: 'symlink', linkpath: file.target } };
    case 'file': {
      const bytes = Buffer.from(file.content, 'latin1');
      return { entry: { ...entry, size: bytes.length }, content: [bytes] };
    }
    default:
      return file satisfies never;
  }
};

/** Numbered by how many are there already, as Apptainer numbers them. */
const history = async (engine: Engine, tree: Tree, mtime: number): Promise<readonly TarItem[]> => {
  const [text = ''] = await readTexts(engine, tree, [DEFINITION]);
  if (text === '') return [];
  const path = HISTORY.slice(1);
  const number = (await namesIn(engine, tree, HISTORY)).length;
  return [
    ...(number === 0 ? [itemOf({ kind: 'directory', path, mode: 0o755 }, mtime)] : []),
    itemOf({ kind: 'file', path: `${path}/Singularity${number}`, mode: 0o644, content: text }, mtime),
  ];
};
