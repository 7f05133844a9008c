/** Archives of `docker save` and `podman save --format docker-archive`: manifest.json → config → layers, in any order, linked or not. */
import type { Digest, Platform } from './descriptor.ts';
import { type Files, readWhole, sourceError } from './files.ts';
import { layerLabel, type OciImage } from './image.ts';
import type { LayoutOptions } from './layout.ts';
import { parseConfigFacts } from './manifest.ts';
import { formatPlatform, platformFit, refusePlatform } from './platform.ts';

const MAX_DOCUMENT = 8 * 1024 * 1024;
const MAX_LAYERS = 10_000;

type Entry = { readonly config: string; readonly tags: readonly string[]; readonly layers: readonly string[] };

/** @throws TsrunError E_SOURCE, E_MANIFEST, E_PLATFORM */
export const openDockerArchive = async (files: Files, { tag, platform, origin }: LayoutOptions): Promise<OciImage> => {
  const name = files.name;
  const text = await readWhole(files, 'manifest.json', MAX_DOCUMENT);
  if (text === undefined) {
    const hint =
      (await files.size('index.json')) === undefined ? 'for a root file system write tar:FILE' : 'write oci-archive: in front of its path';
    throw sourceError(name, 'it has no manifest.json, so it was not made by docker save', hint);
  }
  const entry = choose(parseEntries(text, name), tag, name);
  const config = await readWhole(files, entry.config, MAX_DOCUMENT);
  if (config === undefined) throw sourceError(name, `it lacks its config ${JSON.stringify(entry.config.slice(0, 200))}`);
  const facts = parseConfigFacts(config, `the config of ${name}`);
  if (facts.diffIds.length !== entry.layers.length) {
    throw sourceError(name, `its config names ${facts.diffIds.length} layers, its manifest ${entry.layers.length}`);
  }
  const own: Platform = { os: facts.os ?? 'linux', architecture: facts.architecture ?? '', variant: facts.variant };
  if (own.architecture !== '' && platformFit(own, platform) === undefined) refusePlatform(name, platform, [formatPlatform(own)]);
  return {
    name,
    origin,
    layers: await Promise.all(entry.layers.map((path, at) => layerOf(files, path, facts.diffIds[at], at, entry.layers.length))),
    config,
    manifest: undefined,
    manifestDigest: undefined,
    platform: own,
    close: () => files.close(),
  };
};

const layerOf = async (files: Files, path: string, diffId: Digest | undefined, at: number, count: number) => {
  const label = layerLabel(at, count, diffId);
  const size = await files.size(path);
  if (size === undefined) throw sourceError(files.name, `it lacks ${label}, ${JSON.stringify(path.slice(0, 200))}`, 'save the image again');
  return { label, mediaType: undefined, digest: undefined, size, diffId, reopenable: true, open: () => files.open(path) };
};

const parseEntries = (bytes: Uint8Array, name: string): readonly Entry[] => {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw sourceError(name, `its manifest.json is not JSON: ${(error as Error).message.slice(0, 120)}`);
  }
  if (!Array.isArray(value) || value.length === 0) throw sourceError(name, 'its manifest.json is not a list of images');
  return value.map((item: unknown) => parseEntry(item, name));
};

const parseEntry = (item: unknown, name: string): Entry => {
  const { Config, RepoTags, Layers } = (typeof item === 'object' && item !== null ? item : {}) as Record<string, unknown>;
  if (typeof Config !== 'string' || !isTexts(Layers) || Layers.length === 0 || Layers.length > MAX_LAYERS) {
    throw sourceError(name, 'its manifest.json names no config or no layers');
  }
  return { config: Config, tags: isTexts(RepoTags) ? RepoTags : [], layers: Layers };
};

const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every((text) => typeof text === 'string');

const choose = (entries: readonly Entry[], tag: string | undefined, name: string): Entry => {
  const hint = `give one of its tags: ${entries
    .flatMap(({ tags }) => tags)
    .slice(0, 20)
    .join(', ')}, or @0 to @${entries.length - 1}`;
  if (tag === undefined) {
    if (entries.length > 1) throw sourceError(name, `it holds ${entries.length} images and none was chosen`, hint);
    return entries[0] as Entry;
  }
  const number = /^@([0-9]{1,5})$/.exec(tag)?.[1];
  const wanted = plainName(tag);
  const found = number === undefined ? entries.find(({ tags }) => tags.some((own) => plainName(own) === wanted)) : entries[Number(number)];
  if (found === undefined) throw sourceError(name, `it has no image ${JSON.stringify(tag.slice(0, 200))}`, hint);
  return found;
};

/** Tools differ in how much of Docker Hub's defaults they write out. */
const plainName = (name: string): string => {
  const short = name.replace(/^(?:docker\.io\/)?(?:library\/)?/, '');
  return short.lastIndexOf(':') > short.lastIndexOf('/') ? short : `${short}:latest`;
};
