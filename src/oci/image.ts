/**
 * An image as the converter takes it, whatever it came from: layers that can be opened, and the documents that go with them.
 * Made by layout.ts (OCI layouts and archives), docker-archive.ts, and src/build/sources.ts (registries, tar files, directories).
 */
import type { Digest, Platform } from './descriptor.ts';
import type { LayerSource } from './layer.ts';

export type OciImage = {
  /** What the user typed, for messages. */
  readonly name: string;
  /** Transport and address for the definition of the SIF: bootstrap: docker, from: alpine:3. */
  readonly origin: { readonly bootstrap: string; readonly from: string };
  /** The directory or tar file that it is, where it is one. */
  readonly path?: string | undefined;
  /** The recipe it was built from, as a byte string; absent: what the origin says is all there is. */
  readonly definition?: string | undefined;
  /** Base first, at least one. */
  readonly layers: readonly LayerSource[];
  /** The bytes as they were found; absent where the source has none. */
  readonly config: Uint8Array | undefined;
  readonly manifest: Uint8Array | undefined;
  readonly manifestDigest: Digest | undefined;
  /** From the config; `undefined` for a root file system without one. */
  readonly platform: Platform | undefined;
  /** Lets go of temporary files and connections. */
  close(): Promise<void>;
};

/** Uncompressed-looking media types and sizes of all layers, for progress; `undefined` when some size is unknown. */
export const storedBytes = (image: OciImage): number | undefined => {
  let sum = 0;
  for (const { size } of image.layers) {
    if (size === undefined) return undefined;
    sum += size;
  }
  return sum;
};

/** "layer 2 of 5 (sha256:0123456789ab)" */
export const layerLabel = (index: number, count: number, digest: string | undefined): string => {
  const shown = digest === undefined ? '' : ` (${digest.slice(0, digest.indexOf(':') + 13)})`;
  return count === 1 && digest === undefined ? 'the archive' : `layer ${index + 1} of ${count}${shown}`;
};
