/**
 * The pull side of the distribution API, as the converter and the CLI see it. Entry: `openRegistry` (client.ts).
 *
 *     const store = await openStore(storePlaces(env, config), { onWarning });
 *     const registry = openRegistry({ config: registryConfig(fromFile), env, store, offline, onProgress, onWarning, signal });
 *     const image = await registry.resolve(reference, { platform });    // index, manifest and config: verified, kept in the store
 *     const layers = registry.fetchLayers(image);                       // Map digest → Promise<path in the store>
 *     for (const layer of image.layers.toReversed()) await layers.get(layer.digest);
 *     await registry.close();
 *
 * Digests of blobs are verified before their promise resolves; diffIDs are the converter's, who decompresses.
 */
import type { Descriptor, Digest, Platform } from '../oci/descriptor.ts';
import type { RegistryReference } from '../oci/reference.ts';

/** The registry part of the config file; every field is optional there, `registryConfig` fills the rest. */
export type RegistryConfig = {
  /** Registry host → mirrors tried before it, in order: `HOST[:PORT][/PREFIX]`, optionally with `http://` or `https://`. */
  readonly mirrors: Readonly<Record<string, readonly string[]>>;
  /** Hosts (`HOST[:PORT]`, or `*`) where plain http is allowed besides loopback. Certificates are always checked. */
  readonly insecure: readonly string[];
  /** PEM file of authorities trusted in addition to the built-in and the system's ones. */
  readonly caFile?: string | undefined;
  readonly timeouts: RegistryTimeouts;
  readonly limits: RegistryLimits;
};

/** Milliseconds. */
export type RegistryTimeouts = {
  /** Name look-up, TCP and TLS. */
  readonly connect: number;
  /** A connection that brings fewer than `stallBytes` in this time is given up (and resumed). */
  readonly stall: number;
  /** The longest single wait a registry may ask for with Retry-After, and the longest back-off. */
  readonly retryWait: number;
  /** A credential helper program. */
  readonly helper: number;
};

export type RegistryLimits = {
  readonly manifestBytes: number;
  readonly configBytes: number;
  readonly layers: number;
  /** Sum of the compressed layers of one image. */
  readonly imageBytes: number;
  /** Downloads at a time. */
  readonly parallel: number;
  /** Tries of one request, or of one download without any progress, before giving up. */
  readonly attempts: number;
  readonly redirects: number;
  /** See `RegistryTimeouts.stall`. */
  readonly stallBytes: number;
};

/** A JSON document exactly as it was sent; `digest` is the hash of `bytes`. */
export type RawDocument = { readonly bytes: Uint8Array; readonly digest: Digest; readonly mediaType: string };

export type ResolvedImage = {
  readonly reference: RegistryReference;
  /** `docker://registry/repository[:tag]@digest` of the outermost document: enough to pull the same bytes again. */
  readonly pinned: string;
  /** What the reference pointed at: an index, or the manifest itself. */
  readonly top: RawDocument;
  readonly manifest: RawDocument;
  readonly config: RawDocument;
  /** From base to top, as in the manifest; the same blob may appear twice. */
  readonly layers: readonly Descriptor[];
  /** From the config; `undefined` fields of old configs are filled from the index. */
  readonly platform: Platform;
  /** Answered from the store without asking a registry. */
  readonly fromStore: boolean;
};

export type ResolveOptions = {
  /** `parsePlatform(os.machine())` for this machine, or of what `--arch` says. */
  readonly platform: Platform;
};

export type Progress =
  /** Bytes of one blob now in the store (`bytes` includes what an earlier run left); of every missing layer once with 0 at the start. */
  | { readonly kind: 'download'; readonly digest: Digest; readonly bytes: number; readonly total: number }
  /** The store had it. */
  | { readonly kind: 'cached'; readonly digest: Digest; readonly bytes: number; readonly total: number }
  /** Verified and in the store. */
  | { readonly kind: 'done'; readonly digest: Digest; readonly bytes: number; readonly total: number }
  /** Another process is downloading it. */
  | { readonly kind: 'waiting'; readonly digest: Digest; readonly bytes: number; readonly total: number }
  /** The registry is asked again after `milliseconds`; `why` is a sentence. */
  | { readonly kind: 'retry'; readonly digest?: Digest | undefined; readonly why: string; readonly milliseconds: number };

export type Registry = {
  /**
   * Index → platform → manifest → config, all verified and kept in the store.
   * @throws TsrunError E_IMAGE_NOT_FOUND, E_PLATFORM, E_MANIFEST, E_FOREIGN_LAYER, E_REGISTRY_AUTH, E_REGISTRY, E_OFFLINE, E_DIGEST_MISMATCH
   */
  resolve(reference: RegistryReference, options: ResolveOptions): Promise<ResolvedImage>;
  /**
   * Starts fetching all layers, `limits.parallel` at a time and in shuffled order (so that many nodes do not ask for the same blob
   * at the same moment), after checking that the store has room. One promise per distinct digest, of the blob's path in the store.
   * After a first failure the others are given up. `digests` the caller has no use for can be left out.
   */
  fetchLayers(image: ResolvedImage, layers?: readonly Descriptor[]): ReadonlyMap<Digest, Promise<string>>;
  /** One blob of the image; for layers use `fetchLayers`. */
  fetchBlob(image: ResolvedImage, blob: Descriptor): Promise<string>;
  /** Gives up what is under way (partial downloads stay for the next time) and closes connections. */
  close(): Promise<void>;
};
