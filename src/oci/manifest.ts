/**
 * Index, manifest and the two facts of a config that selection needs, read from hostile JSON (image-spec 1.1; Docker schema 2).
 * Everything returned has been checked for shape and bounds; unknown fields are ignored.
 */
import { TsrunError } from '../util/errors.ts';
import { type Descriptor, type Digest, isDigest } from './descriptor.ts';
import { CONFIG_TYPES, INDEX_TYPES, isForeignLayer, isSchema1, layerCompression, MANIFEST_TYPES } from './media-types.ts';

export type Index = { readonly kind: 'index'; readonly manifests: readonly Descriptor[] };
export type Manifest = { readonly kind: 'manifest'; readonly config: Descriptor; readonly layers: readonly Descriptor[] };

/** More entries than any real index or image has; keeps hostile documents from costing more than their bytes. */
const MAX_ENTRIES = 10_000;

/**
 * @param mediaType what the transport or the pointing descriptor said; the document's own `mediaType` wins.
 * @param name of the document in errors, say `docker://docker.io/library/alpine:3`.
 * @throws TsrunError E_MANIFEST
 */
export const parseManifest = (bytes: Uint8Array, mediaType: string, name: string): Index | Manifest => {
  const json = parseJsonObject(bytes, name);
  const own = json['mediaType'];
  const type = typeof own === 'string' ? own : mediaType;
  if (isSchema1(type) || json['schemaVersion'] === 1) {
    reject(
      name,
      'it is a Docker schema 1 manifest, a format abandoned in 2017',
      'push the image again with a current docker, podman or skopeo',
    );
  }
  if (json['schemaVersion'] !== 2) reject(name, `schemaVersion is ${JSON.stringify(json['schemaVersion'])?.slice(0, 40)}, not 2`);
  const looksLikeIndex = Array.isArray(json['manifests']);
  const looksLikeManifest = json['config'] !== undefined || json['layers'] !== undefined;
  // A document that is both would be read as one thing here and as another elsewhere (CVE-2021-41190).
  if (looksLikeIndex && looksLikeManifest) reject(name, 'it has manifests and layers at once');
  const isIndex = INDEX_TYPES.includes(type) || (!MANIFEST_TYPES.includes(type) && looksLikeIndex);
  if (isIndex) {
    if (!looksLikeIndex) reject(name, `its type is ${type}, but it has no list of manifests`);
    return { kind: 'index', manifests: parseDescriptors(json['manifests'], name, 'manifests') };
  }
  if (!MANIFEST_TYPES.includes(type) && !looksLikeManifest) reject(name, `media type ${quote(type)} is not an image manifest or index`);
  return {
    kind: 'manifest',
    config: parseDescriptor(json['config'], name, 'config'),
    layers: parseDescriptors(json['layers'], name, 'layers'),
  };
};

/**
 * Is this manifest a container image whose every layer tsrun can read? Before any layer is fetched.
 * @throws TsrunError E_MANIFEST, E_FOREIGN_LAYER
 */
export const requireImage = (manifest: Manifest, name: string): void => {
  if (!CONFIG_TYPES.includes(manifest.config.mediaType)) {
    const sif = manifest.config.mediaType.startsWith('application/vnd.sylabs.sif.');
    reject(
      name,
      `it is an artifact (${quote(manifest.config.mediaType)}), not a container image`,
      sif ? 'it holds a SIF file: fetch it with oras pull or Apptainer and give tsrun that file' : undefined,
    );
  }
  if (manifest.layers.length === 0) reject(name, 'the image has no layers');
  for (const [index, layer] of manifest.layers.entries()) {
    const label = `layer ${index + 1} of ${manifest.layers.length} (${layer.digest})`;
    if (isForeignLayer(layer.mediaType)) {
      throw new TsrunError({
        code: 'E_FOREIGN_LAYER',
        what: `cannot use ${name}`,
        why: `${label} is foreign: registries do not hold its content (${quote(layer.mediaType)})`,
        hint: 'foreign layers belong to Windows images; choose a Linux image',
      });
    }
    if (layerCompression(layer.mediaType) === undefined) {
      const hint = layer.mediaType.includes('+encrypted') ? 'decrypt the image first: skopeo copy --decryption-key …' : undefined;
      reject(name, `${label} has type ${quote(layer.mediaType)}, which tsrun cannot read`, hint);
    }
  }
};

export type ConfigFacts = {
  readonly os: string | undefined;
  readonly architecture: string | undefined;
  readonly variant: string | undefined;
  /** Digests of the uncompressed layers, base first. */
  readonly diffIds: readonly Digest[];
};

/** @throws TsrunError E_MANIFEST */
export const parseConfigFacts = (bytes: Uint8Array, name: string): ConfigFacts => {
  const json = parseJsonObject(bytes, name);
  const text = (key: string): string | undefined => {
    const value = json[key];
    return typeof value === 'string' && value !== '' ? platformWord(value) : undefined;
  };
  const rootfs = json['rootfs'];
  const diffIds = isObject(rootfs) ? rootfs['diff_ids'] : undefined;
  if (!Array.isArray(diffIds) || !diffIds.every((id): id is Digest => typeof id === 'string' && isDigest(id))) {
    return reject(name, 'rootfs.diff_ids is not a list of digests');
  }
  return { os: text('os'), architecture: text('architecture'), variant: text('variant'), diffIds };
};

// --- pieces

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

const parseJsonObject = (bytes: Uint8Array, name: string): Record<string, unknown> => {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    return reject(
      name,
      `it is not JSON: ${error instanceof Error ? error.message.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 120) : 'unreadable'}`,
    );
  }
  return isObject(value) ? value : reject(name, 'it is JSON, but not an object');
};

const parseDescriptors = (value: unknown, name: string, field: string): Descriptor[] => {
  if (!Array.isArray(value)) return reject(name, `${field} is not a list`);
  if (value.length > MAX_ENTRIES) return reject(name, `${field} has ${value.length} entries, more than ${MAX_ENTRIES}`);
  return value.map((entry, index) => parseDescriptor(entry, name, `${field}[${index}]`));
};

const parseDescriptor = (value: unknown, name: string, field: string): Descriptor => {
  if (!isObject(value)) return reject(name, `${field} is not a descriptor`);
  const { mediaType, digest, size, urls, annotations, artifactType, platform } = value;
  if (typeof mediaType !== 'string' || mediaType === '') return reject(name, `${field}.mediaType is missing`);
  if (typeof digest !== 'string' || !isDigest(digest))
    return reject(name, `${field}.digest is ${quote(digest)}, not a sha256 or sha512 digest`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
    return reject(name, `${field}.size is ${quote(size)}, not a size`);
  return {
    mediaType,
    digest,
    size,
    ...(Array.isArray(urls) && urls.every((url) => typeof url === 'string') ? { urls } : {}),
    ...(isObject(annotations) ? { annotations: stringsOf(annotations) } : {}),
    ...(typeof artifactType === 'string' ? { artifactType } : {}),
    ...(isObject(platform) ? { platform: platformOf(platform) } : {}),
  };
};

const stringsOf = (record: Record<string, unknown>): Record<string, string> =>
  Object.fromEntries(Object.entries(record).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));

const platformOf = ({ os, architecture, variant }: Record<string, unknown>): NonNullable<Descriptor['platform']> => ({
  os: platformWord(os),
  architecture: platformWord(architecture),
  ...(platformWord(variant) === '' ? {} : { variant: platformWord(variant) }),
});

/** These words end up in messages; what is no word counts as an unknown platform. */
const platformWord = (value: unknown): string => (typeof value === 'string' && /^[\w.-]{1,64}$/.test(value) ? value : '');

const quote = (value: unknown): string => (JSON.stringify(value) ?? 'missing').slice(0, 120);

const reject = (name: string, why: string, hint?: string): never => {
  throw new TsrunError({ code: 'E_MANIFEST', what: `cannot use ${name}`, why, hint });
};
