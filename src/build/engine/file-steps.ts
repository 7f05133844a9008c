/** Steps that put files into a stage: directories, files of the recipe, COPY. */
import type { Origin, Step, Word } from '../../recipe/spec.ts';
import { EMPTY_ENTRY, type TarEntry } from '../../tar/entry.ts';
import { writeTar } from '../../tar/write.ts';
import { TsrunError } from '../../util/errors.ts';
import { nearest } from '../../util/nearest.ts';
import { accountOf } from './accounts.ts';
import type { Building } from './building.ts';
import { copyFiles, type OtherTree, readyCopy } from './copy-step.ts';
import type { Engine } from './engine.ts';
import { placeText } from './names.ts';
import { prefixesOf, spotOf } from './placement.ts';
import { layerOf } from './step-layer.ts';
import { accountsIn, lookAt, putInto, readTexts } from './tree.ts';

const ROOT = { uid: 0, gid: 0 } as const;

/** @param user whose it and those above it are that are made too, as USER has it */
export const makeDirectory = async (building: Building, step: Step, path: string, mode: number, user = ''): Promise<void> => {
  if (path === '/') return;
  const { engine, tree, epoch } = building;
  const owner = user === '' ? undefined : user;
  await layerOf(building, step, { step: 'directory', path, mode, owner }, async (place) => {
    const spot = spotOf(path, await lookAt(engine, tree, prefixesOf(path)));
    if (spot.type === 'd') return;
    if (spot.type === 'other') {
      throw new TsrunError({
        code: 'E_COPY_TARGET',
        what: `${placeText(step.at)}: cannot make the directory ${path}`,
        why: 'the image has a file there',
        hint: 'choose another name',
      });
    }
    const { uid, gid } = owner === undefined ? ROOT : accountOf(await accountsIn(engine, tree), owner, placeText(step.at));
    const entries = [...spot.missing, spot.path].map(
      (each): TarEntry => ({ ...EMPTY_ENTRY, type: 'directory', path: each.slice(1), mode: 0o755, uid, gid, mtime: epoch }),
    );
    await putInto(
      engine,
      tree,
      place,
      writeTar(entries.map((entry, at) => ({ entry: at === entries.length - 1 ? { ...entry, mode } : entry }))),
    );
  });
};

export const writeFile = async (building: Building, step: Extract<Step, { kind: 'file' }>): Promise<void> => {
  const { engine, tree, epoch } = building;
  const { path, mode, content, append } = step;
  await layerOf(building, step, { step: 'file', path, mode, content, append }, async (place) => {
    const spot = spotOf(path, await lookAt(engine, tree, prefixesOf(path)));
    const [before = ''] = append ? await readTexts(engine, tree, [path]) : [];
    const bytes = Buffer.from(before + content, 'latin1');
    const parents = spot.missing.map(
      (each): TarEntry => ({ ...EMPTY_ENTRY, type: 'directory', path: each.slice(1), mode: 0o755, mtime: epoch }),
    );
    const entry = { ...EMPTY_ENTRY, path: spot.path.slice(1), mode, size: bytes.length, mtime: epoch };
    await putInto(engine, tree, place, writeTar([...parents.map((each) => ({ entry: each })), { entry, content: [bytes] }]));
  });
};

export const copy = async (building: Building, step: Extract<Step, { kind: 'copy' }>, expand: (word: Word) => string): Promise<void> => {
  const { engine, tree, state, epoch } = building;
  const ready = await readyCopy(engine, step, state.workdir, expand, otherTree(building, step));
  await layerOf(building, step, { ...ready.key, epoch }, async (place) => {
    await copyFiles(engine, ready, tree, place, epoch);
  });
};

export const otherTree =
  ({ engine, others }: Building, step: Step): OtherTree =>
  async (origin: Extract<Origin, { kind: 'stage' | 'image' }>) => {
    if (origin.kind === 'stage') {
      const { tree, key } = others.stage(origin.index);
      return { tree, key };
    }
    const base = await others.image(origin.reference).catch((error: unknown) => {
      throw error instanceof TsrunError ? unknownSource(engine, step, origin.reference, error) : error;
    });
    return { tree: { base, layers: [] }, key: base.key };
  };

/** What is no stage is taken for an image: there may be a slip in the name. */
const unknownSource = ({ spec }: Engine, { at }: Step, reference: string, { code, what, why, hint, cause }: TsrunError): TsrunError => {
  const names = spec.stages.flatMap(({ name }) => name ?? []);
  const near = nearest(reference.replace(/^docker:\/\//, ''), names);
  const meant = near === undefined ? hint : `no stage is called so; did you mean ${near}?`;
  return new TsrunError({ code, what: `${placeText(at)}: ${what}`, why, hint: meant, cause });
};
