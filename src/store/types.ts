/** What the store holds and hands out. The functions over these values: layout, open, blobs, produce, documents, clean. */
import type { Digest } from '../oci/descriptor.ts';

/** Where tsrun keeps things; computed by `storePlaces`, nothing is made yet. Absolute paths. */
export type StorePlaces = {
  /** The digest-keyed cache; may lie on a network file system and be shared by nodes. */
  readonly store: Place;
  /** Node-local, private to the user: extraction, sockets, temporary stores. */
  readonly local: Place;
};

/** `origin` names the variable or file that decided, for `--explain` and for errors. */
export type Place = { readonly path: string; readonly origin: string };

/** An opened store: a plain value, no open descriptors, nothing to close (but a temporary one: `removeTemporaryStore`). */
export type Store = {
  /** Where new things are written. */
  readonly path: string;
  /** Stores that are only read, looked into after `path`: the configured one, when it could not be written. */
  readonly lowers: readonly string[];
  /** Made for this process because the configured store could not be written. */
  readonly temporary: boolean;
};

/** The tag → digest memory of the store. */
export type RememberedReference = {
  /** Of the outermost document: an index or a manifest. */
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** ISO 8601, when the registry last said so. */
  readonly seen: string;
};

export type StoreItem = {
  readonly kind: 'blob' | 'image' | 'facts' | 'reference' | 'partial' | 'staged' | 'layer' | 'mount' | 'blocks';
  /** Digest, image key, facts key or `registry/repository:tag`. */
  readonly name: string;
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since the last use (the later of mtime and atime). */
  readonly age: number;
};
