/**
 * COPY, ADD and %files: what is found becomes a tar stream, and the tree's own unpacker puts it where it belongs, so that links of the image lead
 * where they lead a program, and never outside.
 */
import { createHash } from 'node:crypto';
import { excludeRules } from '../../recipe/ignore.ts';
import type { Origin, Step, Word } from '../../recipe/spec.ts';
import { EMPTY_ENTRY, type TarEntry } from '../../tar/entry.ts';
import { transformTar } from '../../tar/transform.ts';
import { type TarItem, tarHeader, writeTar } from '../../tar/write.ts';
import { TsrunError } from '../../util/errors.ts';
import { ownerOf } from './accounts.ts';
import { archiveEntries, looksLikeArchive } from './archive.ts';
import type { Workplace } from './cache.ts';
import { type Engine, note, withTask } from './engine.ts';
import {
  belowPivot,
  digestOfSources,
  type Finding,
  findSources,
  type HostSource,
  hasWildcard,
  hostItem,
  NOTHING_IGNORED,
} from './host-files.ts';
import type { KeyPart } from './key.ts';
import { type ModeChange, modeChange } from './mode.ts';
import { placeText } from './names.ts';
import { type Destination, destinationOf, type Named, type Placement, placements, prefixesOf, type Spot, spotOf } from './placement.ts';
import { accountsIn, lookAt, putInto, type Tree } from './tree.ts';
import { findInTree, type TreeSource, tarOfSource } from './tree-files.ts';

export type CopyStep = Extract<Step, { kind: 'copy' }>;

/** Something found that will be copied. */
type Item = Named &
  (
    | { readonly kind: 'host'; readonly source: HostSource }
    | { readonly kind: 'tree'; readonly source: TreeSource }
    | {
        readonly kind: 'bytes';
        readonly content: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
        readonly size: number;
        readonly mode: number;
      }
    | { readonly kind: 'archive'; readonly source: HostSource }
  );

/** A copy whose words have been expanded and whose sources have been found; nothing of the stage has been looked at. */
export type ReadyCopy = {
  readonly step: CopyStep;
  readonly destination: Destination;
  readonly owner: string | undefined;
  readonly mode: ModeChange | undefined;
  readonly items: readonly Item[];
  readonly alone: boolean;
  readonly finding: Finding;
  /** The tree that files come from, for those of another stage or image. */
  readonly from: Tree | undefined;
  readonly key: { readonly [name: string]: KeyPart };
};

/** The tree of another stage or image, and its key. */
export type OtherTree = (origin: Extract<Origin, { kind: 'stage' | 'image' }>) => Promise<{ readonly tree: Tree; readonly key: string }>;

export const readyCopy = async (
  engine: Engine,
  step: CopyStep,
  workdir: string,
  expand: (word: Word) => string,
  other: OtherTree,
): Promise<ReadyCopy> => {
  const place = placeText(step.at);
  const docker = step.manner === 'docker';
  const names = step.sources.map(expand);
  const destinationText = expand(step.destination);
  const destination = destinationOf(destinationText, docker ? workdir : '/');
  const owner = step.owner === undefined ? undefined : expand(step.owner);
  const modeText = step.mode === undefined ? undefined : expand(step.mode);
  const exclude = step.exclude.map(expand);
  const finding: Finding = {
    ...(docker ? contextOf(engine, step.from) : { root: '/', ignore: NOTHING_IGNORED }),
    start: engine.options.directory,
    manner: step.manner,
    outputs: engine.options.outputs,
    exclude: excludeRules(exclude),
    place,
    onNothing: (pattern) => note(engine, nothingText(place, pattern)),
  };
  const found = await findItems(engine, step, names, finding, expand, other);
  return {
    step,
    destination,
    owner,
    mode: modeText === undefined ? undefined : modeChange(modeText, place),
    items: found.items,
    alone: names.length === 1 && !hasWildcard(names[0] ?? ''),
    finding,
    from: found.from,
    key: {
      step: 'copy',
      manner: step.manner,
      destination: destinationText,
      workdir,
      owner,
      mode: modeText,
      exclude,
      parents: step.parents,
      unpack: step.unpack,
      sources: found.key,
    },
  };
};

/** The directory that an origin means, and what of it does not count. */
export const contextOf = ({ options }: Engine, from: Origin): Pick<Finding, 'root' | 'ignore'> =>
  from.kind === 'context' && from.directory !== undefined
    ? { root: from.directory, ignore: NOTHING_IGNORED }
    : { root: options.context, ignore: options.ignore };

type FoundItems = { readonly items: readonly Item[]; readonly key: KeyPart; readonly from: Tree | undefined };

const findItems = async (
  engine: Engine,
  step: CopyStep,
  names: readonly string[],
  finding: Finding,
  expand: (word: Word) => string,
  other: OtherTree,
): Promise<FoundItems> => {
  const { from } = step;
  switch (from.kind) {
    case 'context':
      return findHostItems(engine, step, names, finding, expand);
    case 'inline': {
      const files = from.files.map(({ name, content }) => ({ name, content: Buffer.from(expand(content), 'latin1') }));
      const items = files.map(
        ({ name, content }): Item => ({
          kind: 'bytes',
          name,
          path: name,
          directory: false,
          content: () => [content],
          size: content.length,
          mode: 0o644,
        }),
      );
      return { items, key: files.map(({ name, content }) => [name, createHash('sha256').update(content).digest('hex')]), from: undefined };
    }
    case 'stage':
    case 'image': {
      const { tree, key } = await other(from);
      // What the names stand for follows from the key; it is looked for only when it is copied.
      const items = names.map(
        (name): Item => ({
          kind: 'tree',
          name,
          path: name,
          directory: false,
          source: { name, path: name, type: '', mode: 0, size: 0, mtime: 0 },
        }),
      );
      return { items, key: [key, ...names], from: tree };
    }
    default:
      return from satisfies never;
  }
};

const nothingText = (place: string, pattern: string): string => `${place}: nothing matches ${pattern}, so nothing is copied for it`;

const URL = /^https?:\/\//;

const findHostItems = async (
  engine: Engine,
  step: CopyStep,
  names: readonly string[],
  finding: Finding,
  expand: (word: Word) => string,
): Promise<FoundItems> => {
  const remote = step.unpack ? names.filter((name) => URL.test(name)) : [];
  const local = names.filter((name) => !remote.includes(name));
  const sources = await findSources(local, finding);
  const items: Item[] = [];
  for (const source of sources) {
    const [first] = source.files;
    const named = { name: source.name, path: source.path, directory: first?.type === 'directory' };
    const archive = step.unpack && first?.type === 'file' && (await looksLikeArchive(first.absolute));
    items.push({ kind: archive ? 'archive' : 'host', source, ...named });
  }
  const keys: KeyPart[] = [await digestOfSources(sources, finding, engine.signal)];
  for (const url of remote) {
    const { item, digest } = await fetchItem(engine, url, step.checksum === undefined ? undefined : expand(step.checksum), finding.place);
    items.push(item);
    keys.push(digest);
  }
  return { items, key: keys, from: undefined };
};

const MAX_DOWNLOAD = 2 ** 31;

/** As Docker: mode 0600, named after the last part of the path. */
const fetchItem = async (
  engine: Engine,
  url: string,
  checksum: string | undefined,
  place: string,
): Promise<{ item: Item; digest: string }> =>
  withTask(engine, 'fetch', url, async (progress) => {
    const refuse = (why: string, hint: string): TsrunError =>
      new TsrunError({ code: 'E_FETCH', what: `${place}: cannot add ${url}`, why, hint });
    const name = decodeURIComponent(new globalThis.URL(url).pathname.replace(/\/+$/, '').replace(/^.*\//, ''));
    if (name === '') throw refuse('its address names no file', 'give the address of a file');
    const parts: Uint8Array[] = [];
    const hash = createHash('sha256');
    let size = 0;
    try {
      for await (const part of await engine.fetch(url)) {
        engine.signal.throwIfAborted();
        size += part.length;
        if (size > MAX_DOWNLOAD) throw refuse('it is larger than 2 GiB', 'fetch it in a step that runs');
        hash.update(part);
        parts.push(part);
        progress(size, undefined);
      }
    } catch (error) {
      throw error instanceof TsrunError && error.code === 'E_FETCH' ? refuse(error.why, error.hint ?? 'check the address') : error;
    }
    const digest = `sha256:${hash.digest('hex')}`;
    if (checksum !== undefined && checksum !== digest)
      throw refuse(`its digest is ${digest}, not ${checksum}`, 'the file has changed, or the recipe is wrong');
    const bytes = Buffer.from(name, 'utf8').toString('latin1');
    return { item: { kind: 'bytes', name: bytes, path: bytes, directory: false, content: () => parts, size, mode: 0o600 }, digest };
  });

/** Copies into the tree. Returns the bytes that were written. */
export const copyFiles = async (engine: Engine, copy: ReadyCopy, tree: Tree, place: Workplace, epoch: number): Promise<number> => {
  const { step, destination } = copy;
  const where = placeText(step.at);
  const ids =
    copy.owner === undefined || copy.owner === '' ? { uid: 0, gid: 0 } : ownerOf(await accountsIn(engine, tree), copy.owner, where);
  const items = copy.from === undefined ? copy.items : await findTreeItems(engine, copy, copy.from);
  const spot = spotOf(destination.path, await lookAt(engine, tree, prefixesOf(destination.path)));
  const placed = placements(items, destination, spot, step.manner, step.parents, copy.alone);
  if (placed === undefined || (spot.type === 'other' && destination.mustBeDirectory)) {
    throw new TsrunError({
      code: 'E_COPY_TARGET',
      what: `${where}: cannot copy to ${JSON.stringify(destination.path)}`,
      why:
        placed === undefined ? 'several files are copied, and it is no directory' : 'it is a file in the image, and written as a directory',
      hint:
        placed === undefined
          ? `write it with a slash at its end: ${destination.path}/`
          : 'take the slash at its end away, or choose another name',
    });
  }
  const state: Copying = { engine, copy, tree, spot, ids, epoch, bytes: 0, made: new Set() };
  await putInto(engine, tree, place, copiedTar(state, items, placed));
  return state.bytes;
};

const findTreeItems = async (engine: Engine, { items, finding }: ReadyCopy, from: Tree): Promise<readonly Item[]> => {
  const found: Item[] = [];
  for (const { name } of items) {
    const sources = await findInTree(engine, from, name, finding.place);
    if (sources.length === 0) finding.onNothing(name);
    for (const source of sources) {
      const path = belowPivot(name, source.path.slice(1));
      found.push({ kind: 'tree', name: source.name, path, directory: source.type === 'd', source });
    }
  }
  return found;
};

type Copying = {
  readonly engine: Engine;
  readonly copy: ReadyCopy;
  readonly tree: Tree;
  readonly spot: Spot;
  readonly ids: { readonly uid: number; readonly gid: number };
  /** The time of what has none of its own. */
  readonly epoch: number;
  bytes: number;
  /** Directories that have been made. */
  readonly made: Set<string>;
};

const DIRECTORY: TarEntry = { ...EMPTY_ENTRY, type: 'directory', mode: 0o755 };

/** One archive of all that is copied. */
async function* copiedTar(state: Copying, items: readonly Item[], placed: readonly Placement[]): AsyncGenerator<Uint8Array> {
  const { spot, ids } = state;
  const wanted = [...spot.missing, ...placed.flatMap((placement) => placement.directories)];
  for (const path of wanted) {
    if (state.made.has(path)) continue;
    state.made.add(path);
    yield tarHeader({ ...DIRECTORY, path: path.slice(1), ...ids });
  }
  for (const [at, item] of items.entries()) {
    const target = placed[at]?.target ?? spot.path;
    if (item.kind === 'tree') yield* withoutEnd(treeTar(state, item.source, target));
    else if (item.kind === 'archive') yield* withoutEnd(archiveTar(state, item.source, spot));
    else
      yield* withoutEnd(
        writeTar(counted(state, item.kind === 'host' ? hostItems(state, item.source, target) : bytesItem(state, item, target))),
      );
  }
  // The end of an archive, for which an archive without entries is enough.
  yield* writeTar([]);
}

/** Tar streams are joined before the two zero blocks of each. */
async function* withoutEnd(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held: Uint8Array | undefined;
  for await (const chunk of source) {
    if (held !== undefined) yield held;
    held = chunk;
  }
  if (held === undefined || held.length !== 1024) throw new Error('an archive without its end');
}

async function* counted(state: Copying, items: Iterable<TarItem>): AsyncGenerator<TarItem> {
  for (const item of items) {
    state.bytes += item.entry.size;
    yield item;
  }
}

/** Directories that are there already keep what they are. */
function* hostItems(state: Copying, source: HostSource, target: string): Generator<TarItem> {
  const { copy, ids } = state;
  for (const file of source.files) {
    const path = file.path === '' ? target : `${target === '/' ? '' : target}/${file.path}`;
    if (file.path === '' && file.type === 'directory' && (path === '/' || isThere(state, path))) continue;
    const mode = copy.mode?.(file.mode, file.type === 'directory');
    yield hostItem(file, path.slice(1), { ...ids, mode }, source.name, copy.finding);
  }
}

const isThere = ({ spot, made }: Copying, path: string): boolean => made.has(path) || (spot.type === 'd' && spot.path === path);

function* bytesItem({ copy, ids, epoch }: Copying, item: Extract<Item, { kind: 'bytes' }>, target: string): Generator<TarItem> {
  const mode = copy.mode?.(item.mode, false) ?? item.mode;
  yield {
    entry: { ...DIRECTORY, type: 'file', path: target.slice(1), mode, ...ids, size: item.size, mtime: epoch },
    content: item.content(),
  };
}

const treeTar = (state: Copying, source: TreeSource, target: string): AsyncIterable<Uint8Array> => {
  const { engine, copy, ids } = state;
  return transformTar(tarOfSource(engine, copy.from as Tree, source), source.path, (entry) => {
    const below = entry.path.replace(/^(?:\.?\/)+/, '').replace(/\/+$/, '');
    if (below !== '' && below !== '.' && copy.finding.exclude(below)) return undefined;
    const path = source.type === 'd' ? joined(target, below) : target;
    if (source.type === 'd' && (below === '' || below === '.') && (path === '/' || isThere(state, path))) return undefined;
    state.bytes += entry.size;
    const mode = entry.type === 'symlink' ? entry.mode : (copy.mode?.(entry.mode, entry.type === 'directory') ?? entry.mode);
    const linkpath = entry.type === 'hardlink' ? joined(target, entry.linkpath.replace(/^(?:\.?\/)+/, '')).slice(1) : entry.linkpath;
    return { ...entry, path: path.slice(1), linkpath, mode, ...ids };
  });
};

const joined = (target: string, below: string): string =>
  below === '' || below === '.' ? target : `${target === '/' ? '' : target}/${below}`;

/** Archives that ADD unpacks keep their own owners, as in Docker. */
const archiveTar = (state: Copying, source: HostSource, spot: Spot): AsyncIterable<Uint8Array> => {
  const { copy, ids } = state;
  return archiveEntries(source.files[0]?.absolute ?? '', source.name, (entry, below) => {
    state.bytes += entry.size;
    const owner = copy.owner === undefined ? {} : ids;
    const linkpath = entry.type === 'hardlink' ? joined(spot.path, entry.linkpath).slice(1) : entry.linkpath;
    return { ...entry, ...owner, path: joined(spot.path, below).slice(1), linkpath };
  });
};
