/**
 * Layers → one tree, and every content that is in it → the SquashFS writer, each once.
 *
 *   1. The layers are decoded once, topmost first. Names go into a log; a file that no upper layer hides by its name is written on
 *      sight, so bytes that upper layers replaced or removed do not reach the image.
 *   2. The logs are replayed, base first, exactly as an unpacker would work on a directory (apply.ts). That is the tree.
 *   3. Files whose content was left out but that the tree needs (another hard link keeps them, a symbolic link led elsewhere) are
 *      fetched from their layer in a second reading. When instead content was written that the tree does not show, and the
 *      layers can be read again, all is done once more with exact knowledge (`Rewrite`).
 */
import { createTree, setFileContent, type Tree } from '../squashfs/tree.ts';
import type { FileContent } from '../squashfs/types.ts';
import type { Writer } from '../squashfs/writer.ts';
import type { TarEntry } from '../tar/entry.ts';
import { createTarReader, type TarHandler } from '../tar/read.ts';
import type { TsrunError } from '../util/errors.ts';
import { readAhead } from '../util/read-ahead.ts';
import { applyLayer, type MissingContent } from './apply.ts';
import { createHiddenNames, type HiddenNames } from './hidden-names.ts';
import { type LayerSource, layerTar } from './layer.ts';
import { createLayerLog, createXattrTable, type LayerLog, type LayerRecord } from './layer-log.ts';
import { cleanPath, layerName } from './layer-path.ts';
import { type Limits, limitError } from './limits.ts';
import { aliveContents, EMPTY, exactContents, stillMissing } from './reachable.ts';

export type MergeOptions = {
  /** Of the image, for errors. */
  readonly name: string;
  /** Base first. */
  readonly layers: readonly LayerSource[];
  readonly writer: Writer;
  readonly limits: Limits;
  /** How many bytes of the file of that path to keep in memory (0: none), for image facts. */
  readonly keep: (path: string) => number;
  /** Told of stored bytes as they are read. */
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal;
  /** Which files of which layer are in the image (layer → record indexes), learnt by an earlier attempt. */
  readonly exact: ExactContents | undefined;
  /** Stands between the reader of a layer and the merge, as build/normalize.ts does; must do the same each time a layer is read. */
  readonly filter?: ((handler: TarHandler, layer: number) => TarHandler) | undefined;
};

/** The first bytes of a file, and how long the whole of it is. */
export type KeptContent = { readonly bytes: Uint8Array; readonly size: number };

export type ExactContents = readonly ReadonlySet<number>[];

export type Merged = {
  readonly tree: Tree;
  /** First bytes of the files `keep` asked for. */
  readonly kept: ReadonlyMap<FileContent, KeptContent>;
  readonly entries: number;
  /** Set when content was written that no name of the tree shows: what to write instead. */
  readonly rewrite: ExactContents | undefined;
};

/** Layers that are decoded while one is read, and how much of each is held. */
const LAYERS_AHEAD = 2;
const BYTES_AHEAD = 16 * 1024 * 1024;

/** Of `kept` together: nobody needs more than a few programs and lists. */
const KEEP_BYTES = 64 * 1024 * 1024;

/** @throws TsrunError of layer.ts, layer-path.ts, apply.ts, the tar reader and the writer */
export const mergeLayers = async (options: MergeOptions): Promise<Merged> => {
  const { layers, name, limits } = options;
  const work = startWork(options);
  const logs = await readTopmostFirst(work);
  const tree = createTree();
  const missing: MissingContent[] = [];
  for (const [at, log] of logs.entries()) {
    applyLayer(tree, log, at, `${layers[at]?.label} of ${name}`, 2 * limits.entries, missing);
  }
  const needed = stillMissing(tree, missing);
  await fetchMissing(work, tree, needed);
  const dead = work.contents - aliveContents(tree).count;
  const canRewrite = options.exact === undefined && layers.every((layer) => layer.reopenable);
  const rewrite = dead > 0 && canRewrite ? exactContents(tree, logs, needed) : undefined;
  return { tree, kept: work.kept, entries: work.entries, rewrite };
};

/** The options and what is counted while the layers are read. */
type Work = MergeOptions & {
  readonly kept: Map<FileContent, KeptContent>;
  /** Bytes set aside for `kept`. */
  keptBytes: number;
  /** Contents given to the writer. */
  contents: number;
  entries: number;
  /** Bytes of tar streams, and lengths of the files written, holes included. */
  streamed: number;
  logical: number;
};

const startWork = (options: MergeOptions): Work => ({
  ...options,
  kept: new Map(),
  keptBytes: 0,
  contents: 0,
  entries: 0,
  streamed: 0,
  logical: 0,
});

const readTopmostFirst = async (work: Work): Promise<LayerLog[]> => {
  const xattrs = createXattrTable(work.name);
  const hidden = createHiddenNames();
  const streams = work.layers.map((layer) => readAhead(layerTar(layer, work.name, work.limits, work.onBytes), BYTES_AHEAD));
  const logs: LayerLog[] = [];
  try {
    for (let at = streams.length - 1; at >= 0; at--) {
      for (let next = at; next >= Math.max(0, at - LAYERS_AHEAD); next--) streams[next]?.start();
      const log = createLayerLog(xattrs);
      const exact = work.exact?.[at];
      await readLayer(work, at, streams[at] as AsyncIterable<Uint8Array>, {
        wants: (path, index) => (exact === undefined ? !hidden.hides(path) : exact.has(index)),
        record: (record) => log.append(record),
      });
      if (at > 0) log.each((record) => addTo(hidden, record));
      logs[at] = log;
    }
  } finally {
    for (const stream of streams) stream.stop();
  }
  return logs;
};

const addTo = (hidden: HiddenNames, record: LayerRecord): void => {
  switch (record.type) {
    case 'directory':
    case 'whiteout':
    case 'opaque':
      hidden.add(record.path, record.type);
      break;
    case 'aufs-link':
      break;
    default:
      hidden.add(record.path, 'other');
  }
};

/** The second reading, only of layers that have something; to their end, so that their digests are checked again. */
const fetchMissing = async (first: Work, tree: Tree, missing: readonly MissingContent[]): Promise<void> => {
  const layers = Map.groupBy(missing, (item) => item.layer);
  // What is read again does not count twice against the limits.
  const work: Work = { ...startWork(first), kept: first.kept, keptBytes: first.keptBytes };
  for (const at of [...layers.keys()].sort((a, b) => b - a)) {
    const wanted = new Map((layers.get(at) ?? []).map((item) => [item.index, item.inode]));
    const layer = work.layers[at] as LayerSource;
    await readLayer(
      work,
      at,
      layerTar(layer, work.name, work.limits, () => {}),
      {
        wants: (_, index) => wanted.has(index),
        record: (record, index) => {
          const inode = wanted.get(index);
          if (inode !== undefined && record.content !== undefined) setFileContent(tree, inode, record.content);
        },
      },
    );
  }
  first.contents += work.contents;
};

type Visitor = {
  /** Whether the content of that regular file is to be written. */
  wants(path: string, index: number): boolean;
  /** Every entry, in order; a file once its content is written or passed over. */
  record(record: LayerRecord, index: number): void;
};

const readLayer = async (work: Work, at: number, stream: AsyncIterable<Uint8Array>, visitor: Visitor): Promise<void> => {
  const layer = work.layers[at] as LayerSource;
  const where = `${layer.label} of ${work.name}`;
  const verified = layer.digest !== undefined || layer.diffId !== undefined;
  const handler = layerHandler(work, where, visitor);
  const reader = createTarReader({ name: where, handler: work.filter?.(handler, at) ?? handler, requireEnd: !verified });
  for await (const chunk of stream) {
    work.signal.throwIfAborted();
    work.streamed += chunk.length;
    if (work.streamed > work.limits.bytes) throw tooLarge(work);
    const wait = reader.push(chunk);
    if (wait !== undefined) await wait;
  }
  reader.end();
};

const layerHandler = (work: Work, where: string, visitor: Visitor): TarHandler => {
  const { writer } = work;
  let index = 0;
  let file: LayerRecord | undefined;
  let keeping: Buffer | undefined;
  let keptBytes = 0;
  let fileSize = 0;

  const startFile = (record: LayerRecord, size: number): boolean => {
    if (!visitor.wants(record.path, index)) {
      visitor.record(record, index++);
      return false;
    }
    work.logical += size;
    if (work.logical > work.limits.bytes) throw tooLarge(work);
    const keep = Math.min(work.keep(record.path), size, KEEP_BYTES - work.keptBytes);
    work.keptBytes += keep;
    keeping = keep > 0 ? Buffer.alloc(keep) : undefined;
    keptBytes = 0;
    fileSize = size;
    file = record;
    writer.beginFile(size);
    return true;
  };

  return {
    entry: (entry) => {
      const record = recordOf(entry, where);
      if (record === undefined) return false;
      if (++work.entries > work.limits.entries) {
        throw limitError(work.name, `it has more than ${work.limits.entries} entries`, '--limit-files');
      }
      if (record.type === 'file' || record.type === 'aufs-link') return startFile(record, entry.size);
      visitor.record(record, index++);
      return false;
    },
    data: (chunk) => {
      if (keeping !== undefined && keptBytes < keeping.length) {
        keeping.set(chunk.subarray(0, keeping.length - keptBytes), keptBytes);
        keptBytes += chunk.length;
      }
      return writer.write(chunk);
    },
    hole: (length) => {
      keptBytes += length;
      return writer.hole(length);
    },
    endFile: () => {
      const content = writer.endFile();
      if (content !== EMPTY) work.contents++;
      if (keeping !== undefined) work.kept.set(content, { bytes: keeping, size: fileSize });
      if (file !== undefined) visitor.record({ ...file, content }, index++);
    },
  };
};

/** `undefined`: nothing of the file tree. */
const recordOf = (entry: TarEntry, where: string): LayerRecord | undefined => {
  const name = layerName(entry.path, where);
  switch (name.kind) {
    case 'ignored':
      return undefined;
    case 'whiteout':
    case 'opaque':
      return { ...entry, type: name.kind, path: name.path, link: '', content: undefined };
    case 'aufs-link':
      return entry.type === 'file' ? { ...entry, type: 'aufs-link', path: name.path, link: '', content: undefined } : undefined;
    case 'entry': {
      const link = entry.type === 'hardlink' ? cleanPath(entry.linkpath, where) : entry.linkpath;
      return { ...entry, path: name.path, link, content: undefined };
    }
    default:
      return name satisfies never;
  }
};

const tooLarge = (work: Work): TsrunError => limitError(work.name, `it unpacks to more than ${work.limits.bytes} bytes`, '--limit-size');
