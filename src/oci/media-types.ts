/** The media types tsrun reads (image-spec media-types.md; Docker image manifest v2 schema 2) and those it names in errors. */

export const INDEX_TYPES: readonly string[] = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];

export const MANIFEST_TYPES: readonly string[] = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];

export const CONFIG_TYPES: readonly string[] = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];

export const isSchema1 = (mediaType: string): boolean =>
  mediaType === 'application/vnd.docker.distribution.manifest.v1+json' ||
  mediaType === 'application/vnd.docker.distribution.manifest.v1+prettyjws';

export type LayerCompression = 'none' | 'gzip' | 'zstd';

const LAYERS: Readonly<Record<string, LayerCompression>> = {
  'application/vnd.oci.image.layer.v1.tar': 'none',
  'application/vnd.oci.image.layer.v1.tar+gzip': 'gzip',
  'application/vnd.oci.image.layer.v1.tar+zstd': 'zstd',
  'application/vnd.docker.image.rootfs.diff.tar': 'none',
  'application/vnd.docker.image.rootfs.diff.tar.gzip': 'gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd': 'zstd',
};

/** `undefined`: not a layer tsrun can read. */
export const layerCompression = (mediaType: string): LayerCompression | undefined =>
  Object.hasOwn(LAYERS, mediaType) ? LAYERS[mediaType] : undefined;

/** Layers whose content may not be kept in registries (Windows base layers). */
export const isForeignLayer = (mediaType: string): boolean =>
  mediaType.startsWith('application/vnd.oci.image.layer.nondistributable.') ||
  mediaType.startsWith('application/vnd.docker.image.rootfs.foreign.');
