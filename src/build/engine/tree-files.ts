/** Files of another stage or image that a recipe copies: found by name or wildcard in its tree. */
import { matches, pathGlob } from '../../recipe/glob.ts';
import { EMPTY_ENTRY, type TarEntry } from '../../tar/entry.ts';
import { writeTar } from '../../tar/write.ts';
import { TsrunError } from '../../util/errors.ts';
import { cleanPath } from '../../util/paths.ts';
import type { Engine } from './engine.ts';
import { hasWildcard } from './host-files.ts';
import { contentIn, lookAt, namesIn, type Tree, tarOf } from './tree.ts';

export type TreeSource = {
  /** Last part of the name that was asked for. */
  readonly name: string;
  /** Absolute, behind all links. */
  readonly path: string;
  /** As `@tree look` says: "d", "f" … */
  readonly type: string;
  readonly mode: number;
  readonly size: number;
  readonly mtime: number;
};

/** None only for a pattern. @throws TsrunError E_COPY_SOURCE */
export const findInTree = async (engine: Engine, tree: Tree, name: string, place: string): Promise<readonly TreeSource[]> => {
  const paths = await expandName(engine, tree, cleanPath(`/${name}`));
  const found = await lookAt(engine, tree, paths);
  const sources = paths.flatMap((path, at): TreeSource[] => {
    const each = found[at];
    return each === undefined ? [] : [{ name: path.slice(path.lastIndexOf('/') + 1), ...each }];
  });
  if (sources.length > 0 || hasWildcard(name)) return sources;
  throw new TsrunError({
    code: 'E_COPY_SOURCE',
    what: `${place}: cannot copy ${JSON.stringify(name)}`,
    why: 'there is no such file in what it is copied from',
    hint: 'look there: build only that stage, with --target',
  });
};

const expandName = async (engine: Engine, tree: Tree, name: string): Promise<readonly string[]> => {
  if (!hasWildcard(name)) return [name];
  let found: readonly string[] = [''];
  for (const part of name.split('/').slice(1)) {
    if (!hasWildcard(part)) {
      found = found.map((directory) => `${directory}/${part}`);
      continue;
    }
    const glob = pathGlob(part);
    const next: string[] = [];
    for (const directory of found) {
      for (const child of glob === null ? [] : await namesIn(engine, tree, directory || '/'))
        if (glob !== null && matches(glob, child)) next.push(`${directory}/${child}`);
    }
    found = next;
  }
  return found;
};

/** Names begin with "./"; of a file the only entry is itself. */
export async function* tarOfSource(
  engine: Engine,
  tree: Tree,
  { name, path, type, mode, size, mtime }: TreeSource,
): AsyncGenerator<Uint8Array> {
  if (type === 'd') {
    yield* tarOf(engine, tree, path);
    return;
  }
  const entry: TarEntry = { ...EMPTY_ENTRY, path: name, mode, size, mtime };
  yield* writeTar([{ entry, content: contentIn(engine, tree, path) }]);
}
