/** OCI image layouts (image-spec image-layout.md), as a directory or a tar file: reference → index → platform → manifest → layers. */
import { createHash } from 'node:crypto';
import { TsrunError } from '../util/errors.ts';
import { type Descriptor, type Digest, digestAlgorithm, digestHex, type Platform } from './descriptor.ts';
import { type Files, readWhole, sourceError } from './files.ts';
import { layerLabel, type OciImage } from './image.ts';
import type { LayerSource } from './layer.ts';
import { type Index, type Manifest, parseConfigFacts, parseManifest, requireImage } from './manifest.ts';
import { INDEX_TYPES, MANIFEST_TYPES } from './media-types.ts';
import { choosePlatform, formatPlatform, platformFit, refusePlatform } from './platform.ts';

const MAX_DOCUMENT = 8 * 1024 * 1024;
/** Index in index in index: deeper ones do not exist in practice. */
const MAX_DEPTH = 4;

export type LayoutOptions = {
  readonly tag: string | undefined;
  readonly platform: Platform;
  readonly origin: OciImage['origin'];
};

/** @throws TsrunError E_SOURCE, E_MANIFEST, E_PLATFORM, E_FOREIGN_LAYER, E_DIGEST_MISMATCH */
export const openLayout = async (files: Files, { tag, platform, origin }: LayoutOptions): Promise<OciImage> => {
  const name = files.name;
  const text = await readWhole(files, 'index.json', MAX_DOCUMENT);
  if (text === undefined) throw await noLayout(files);
  const top = parseManifest(text, INDEX_TYPES[0] as string, `index.json of ${name}`);
  if (top.kind !== 'index') throw sourceError(name, 'its index.json is no index');
  const chosen = await chooseManifest(files, named(top, tag, name), platform, 0);
  const { manifest, bytes, digest } = chosen ?? refusePlatform(name, platform, choosePlatform(top.manifests, platform).offered);
  requireImage(manifest, name);
  const config = await readBlob(files, manifest.config);
  const facts = parseConfigFacts(config, `the config of ${name}`);
  const { layers } = manifest;
  if (facts.diffIds.length !== layers.length) {
    throw sourceError(name, `its config names ${facts.diffIds.length} layers, its manifest ${layers.length}`);
  }
  const own: Platform = { os: facts.os ?? 'linux', architecture: facts.architecture ?? '', variant: facts.variant };
  if (own.architecture !== '' && platformFit(own, platform) === undefined) refusePlatform(name, platform, [formatPlatform(own)]);
  return {
    name,
    origin,
    layers: await Promise.all(layers.map((layer, at) => layerOf(files, layer, facts.diffIds[at], at, layers.length))),
    config,
    manifest: bytes,
    manifestDigest: digest,
    platform: own,
    close: () => files.close(),
  };
};

const layerOf = async (
  files: Files,
  { mediaType, digest, size }: Descriptor,
  diffId: Digest | undefined,
  at: number,
  count: number,
): Promise<LayerSource> => {
  const label = layerLabel(at, count, digest);
  const found = await files.size(blobPath(digest));
  if (found === undefined) throw sourceError(files.name, `it lacks the blob of ${label}`, 'copy the image again, with all its layers');
  return { label, mediaType, digest, size, diffId, reopenable: true, open: () => files.open(blobPath(digest)) };
};

const blobPath = (digest: Digest): string => `blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;

const REF_NAME = 'org.opencontainers.image.ref.name';
/** containerd and Docker put the whole name here, and only the tag into ref.name. */
const FULL_NAMES = ['io.containerd.image.name', 'com.docker.image.name'];

const named = (index: Index, tag: string | undefined, name: string): readonly Descriptor[] => {
  const { manifests } = index;
  const namesOf = ({ annotations }: Descriptor): string[] =>
    [REF_NAME, ...FULL_NAMES].flatMap((key) => annotations?.[key] ?? []).filter((text) => text !== '');
  const hint = `give one of its tags: ${[...new Set(manifests.flatMap(namesOf))].slice(0, 20).join(', ') || 'it has none'}`;
  if (tag !== undefined) {
    const found = manifests.filter((entry) => namesOf(entry).includes(tag) || entry.digest === tag);
    if (found.length === 0) throw sourceError(name, `it has no image ${JSON.stringify(tag.slice(0, 200))}`, hint);
    return found;
  }
  if (manifests.length === 0) throw sourceError(name, 'its index is empty');
  if (new Set(manifests.map((entry) => entry.annotations?.[REF_NAME])).size > 1) {
    throw sourceError(name, `it holds ${manifests.length} images and none was chosen`, hint);
  }
  return manifests;
};

type Chosen = { readonly manifest: Manifest; readonly bytes: Uint8Array; readonly digest: Digest };

const chooseManifest = async (
  files: Files,
  entries: readonly Descriptor[],
  platform: Platform,
  depth: number,
): Promise<Chosen | undefined> => {
  if (depth > MAX_DEPTH) throw sourceError(files.name, `its indexes are nested more than ${MAX_DEPTH} deep`);
  const choice = choosePlatform(entries, platform);
  for (const entry of [...choice.fitting, ...choice.unlabelled]) {
    if (!INDEX_TYPES.includes(entry.mediaType) && !MANIFEST_TYPES.includes(entry.mediaType)) continue;
    const bytes = await readBlob(files, entry);
    const document = parseManifest(bytes, entry.mediaType, `manifest ${entry.digest} of ${files.name}`);
    if (document.kind === 'manifest') return { manifest: document, bytes, digest: entry.digest };
    const inner = await chooseManifest(files, document.manifests, platform, depth + 1);
    if (inner !== undefined) return inner;
  }
  return undefined;
};

/** A small blob: a manifest or config. */
const readBlob = async (files: Files, { digest, size }: Descriptor): Promise<Uint8Array> => {
  const bytes = await readWhole(files, blobPath(digest), MAX_DOCUMENT);
  if (bytes === undefined) throw sourceError(files.name, `it lacks the blob ${digest}`, 'copy the image again, with all its parts');
  const found = `${digestAlgorithm(digest)}:${createHash(digestAlgorithm(digest)).update(bytes).digest('hex')}`;
  if (found === digest && bytes.length === size) return bytes;
  throw new TsrunError({
    code: 'E_DIGEST_MISMATCH',
    what: `cannot use blob ${digest} of ${files.name}`,
    why: found === digest ? `it has ${bytes.length} bytes, its descriptor says ${size}` : `the digest of its content is ${found}`,
    hint: 'the image is damaged or was changed: fetch or make it again',
  });
};

const noLayout = async (files: Files): Promise<TsrunError> => {
  const docker = (await files.size('manifest.json')) !== undefined;
  return sourceError(
    files.name,
    'it has no index.json, so it is no OCI layout',
    docker
      ? 'it was made by docker save: write docker-archive: in front of its path'
      : 'for a root file system write tar:FILE, or the plain path of a directory',
  );
};
