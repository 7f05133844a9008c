/** What a stage begins with: an image's layers for the result, and the same unpacked once for the steps that run in it. */
import type { Stats } from 'node:fs';
import { lstat, open, readdir, stat, unlink } from 'node:fs/promises';
import type { Platform } from '../../oci/descriptor.ts';
import type { OciImage } from '../../oci/image.ts';
import type { LayerSource } from '../../oci/layer.ts';
import { DEFAULT_LIMITS } from '../../oci/limits.ts';
import { parsePlatform, refusePlatform } from '../../oci/platform.ts';
import { TsrunError } from '../../util/errors.ts';
import { type ConvertOptions, writeImage } from '../convert.ts';
import { OBJECTS } from '../records.ts';
import type { Source } from '../sources.ts';
import { objectText, openSquashFile } from '../squash-file.ts';
import { type Layer, produceLayer, type Workplace } from './cache.ts';
import { type Engine, withTask } from './engine.ts';
import { type Key, keyOf } from './key.ts';
import { layerSource, unpackSquash } from './native.ts';
import { type ConfigJson, parseConfig } from './stage-state.ts';

export type Base = {
  /** As the recipe names it. */
  readonly name: string;
  readonly key: Key;
  readonly origin: OciImage['origin'];
  /** Of its manifest, where it has one. */
  readonly digest?: string | undefined;
  readonly config: ConfigJson;
  /** Layers of the result; none for scratch. */
  readonly layers: () => Promise<readonly LayerSource[]>;
  /** The same as one layer without whiteouts. */
  readonly whole: () => Promise<readonly LayerSource[]>;
  /** The unpacked files, made when first asked for. */
  readonly directory: () => Promise<string>;
  readonly close: () => Promise<void>;
};

/** Done once, by whoever comes first. */
export const once = <T>(work: () => Promise<T>): (() => Promise<T>) => {
  let result: Promise<T> | undefined;
  return () => {
    result ??= work();
    return result;
  };
};

export const scratchBase = (engine: Engine): Base => {
  const key = keyOf({ base: 'scratch' });
  return {
    name: 'scratch',
    key,
    origin: { bootstrap: 'scratch', from: '' },
    config: {},
    layers: async () => [],
    whole: async () => [],
    directory: once(async () => (await produceBase(engine, key, async () => 0)).files),
    close: async () => {},
  };
};

export const imageBase = async (engine: Engine, reference: string, platform: string | undefined): Promise<Base> => {
  const source = await engine.open(reference, platform);
  return source.kind === 'squashfs'
    ? squashBase(engine, reference, source, platform === undefined ? engine.platform : parsePlatform(platform))
    : layersBase(engine, reference, source.image);
};

const layersBase = async (engine: Engine, reference: string, image: OciImage): Promise<Base> => {
  const identity = await identityOf(image);
  const key = keyOf({ base: 'layers', of: identity.lines });
  const produce = once(() => produceBase(engine, key, (place, progress) => unpackLayers(engine, image, place, progress), reference));
  // What belongs to the caller belongs to root inside, or to whom the record says.
  const own = (path: string): LayerSource =>
    layerSource({ ...engine, ids: { kind: 'single' } }, { files: path, owners: '' }, `the files of ${reference}`, undefined);
  return {
    name: reference,
    key,
    origin: image.origin,
    digest: image.manifestDigest,
    config: image.config === undefined ? {} : parseConfig(image.config),
    layers: async () => (identity.own ? [own(image.path as string)] : image.layers),
    whole: async () => [
      identity.own ? own(image.path as string) : layerSource(engine, await produce(), `the files of ${reference}`, undefined),
    ],
    // Nothing is written to a base, so a directory serves as it is, unless somebody else's files are in it: the kernel copies those up for nobody.
    directory: async () => (identity.own ? (image.path as string) : (await produce()).files),
    close: image.close,
  };
};

const squashBase = async (
  engine: Engine,
  reference: string,
  { path }: Extract<Source, { kind: 'squashfs' }>,
  platform: Platform,
): Promise<Base> => {
  const file = openSquashFile(path);
  const arch = file.sif?.header.arch ?? 'unknown';
  if (arch !== 'unknown' && arch !== platform.architecture) refusePlatform(reference, platform, [`linux/${arch}`]);
  const key = keyOf({ base: 'squashfs', of: fileIdentity(await stat(path)) });
  const produce = once(() =>
    produceBase(
      engine,
      key,
      async (place) => {
        await unpackSquash(engine, file, place.files, place.owners);
        return file.size;
      },
      reference,
    ),
  );
  const layers = async (): Promise<readonly LayerSource[]> => [
    layerSource(engine, await produce(), `the files of ${reference}`, undefined),
  ];
  return {
    name: reference,
    key,
    origin: { bootstrap: 'localimage', from: path.slice(path.lastIndexOf('/') + 1) },
    config: parseConfig(objectText(file, 'generic-json', OBJECTS.ociConfig)),
    layers,
    whole: layers,
    directory: async () => (await produce()).files,
    close: async () => {},
  };
};

export type Progress = (done: number, total: number | undefined) => void;
type Unpack = (place: Workplace, progress: Progress) => Promise<number>;

/** Kept with the layers of steps, under a key of its own. */
export const produceBase = async (engine: Engine, key: Key, unpack: Unpack, label = 'scratch', anew = false): Promise<Layer> => {
  const { layer } = await produceLayer(engine.cache, key, {
    signal: engine.signal,
    anew,
    onWait: () => void withTask(engine, 'wait', label, async () => {}),
    make: (place) =>
      label === 'scratch' ? unpack(place, () => {}) : withTask(engine, 'unpack', label, (progress) => unpack(place, progress)),
  });
  return layer;
};

/** By way of one SquashFS, since layers hide and link what others have, and there is one place that knows how they come together. */
const unpackLayers = async (engine: Engine, image: OciImage, place: Workplace, progress: Progress): Promise<number> => {
  const path = `${place.path}/base.squashfs`;
  const options: ConvertOptions = {
    compressor: 'zstd',
    level: 1,
    blockSize: 128 * 1024,
    threads: undefined,
    limits: DEFAULT_LIMITS,
    force: false,
    signal: engine.signal,
    onProgress: progress,
  };
  const file = await open(path, 'wx+', 0o600);
  let size: number;
  try {
    size = await writeImage(file.fd, 0, image, options, async (writer, { tree }) => (await writer.finish(tree)).bytes);
  } finally {
    await file.close();
  }
  await unpackSquash(engine, { path, offset: 0, size }, place.files, place.owners);
  await unlink(path);
  return size;
};

/** Digests where there are any; of files and directories without, what the file system says of them. */
const identityOf = async (image: OciImage): Promise<Identity> => {
  if (image.manifestDigest !== undefined) return { lines: [image.manifestDigest], own: false };
  if (image.layers.every((layer) => layer.diffId !== undefined))
    return { lines: image.layers.map((layer) => layer.diffId as string), own: false };
  if (image.path === undefined) {
    throw new TsrunError({
      code: 'E_SOURCE',
      what: `cannot build on ${image.name}`,
      why: 'it can be read only once',
      hint: 'write it to a file first',
    });
  }
  const found = await stat(image.path);
  return found.isDirectory() ? directoryIdentity(image.path) : { lines: [fileIdentity(found)], own: false };
};

const fileIdentity = ({ dev, ino, size, mtimeMs, ctimeMs }: Stats): string => [dev, ino, size, mtimeMs, ctimeMs].join(' ');

/** `own`: a directory in which everything belongs to the caller. */
type Identity = { readonly lines: readonly string[]; readonly own: boolean };

/** A directory may change anywhere below. */
const directoryIdentity = async (path: string): Promise<Identity> => {
  const lines: string[] = [];
  let own = true;
  const walk = async (at: Buffer): Promise<void> => {
    const found = await lstat(at);
    own &&= found.uid === process.getuid?.() && found.gid === process.getgid?.();
    lines.push(`${at.toString('latin1')} ${found.mode} ${found.uid} ${found.gid} ${fileIdentity(found)}`);
    if (!found.isDirectory()) return;
    const names = await readdir(at, { encoding: 'buffer' }).catch(() => []);
    for (const name of names.sort(Buffer.compare)) await walk(Buffer.concat([at, Buffer.from('/'), name]));
  };
  await walk(Buffer.from(path));
  return { lines, own };
};
