/** An image that can be run. */
import type { ImageFacts } from './facts.ts';

/** The data object (type generic) of a SIF that holds its hot list. */
export const HOT_LIST_OBJECT = 'tsrun-hot-list';

export type SquashImage = {
  readonly kind: 'squashfs';
  readonly container: 'SIF' | 'SquashFS';
  /** Absolute where the current directory is known. */
  readonly path: string;
  /** A host handle, or -1 where handles mean nothing to the launcher. */
  readonly handle: number;
  /** Of the SquashFS in the file, bytes. */
  readonly offset: number;
  readonly size: number;
  /** Where in the file its hot list lies, when it has one: what a run will want first (native/hot.h). */
  readonly hot?: { readonly offset: number; readonly size: number } | undefined;
  /**
   * The file's identity as a name (image/identity.ts), and its file system's device, decimal: together its identity on this node. Asked for where it is
   * needed: it costs a question to the file system.
   */
  readonly identity: () => { readonly key: string; readonly device: string };
  readonly facts: ImageFacts;
};

export type DirectoryImage = { readonly kind: 'directory'; readonly path: string; readonly facts: ImageFacts };

export type Image = (SquashImage | DirectoryImage) & {
  /** As the user typed it. */
  readonly reference: string;
};

/** The full program has to do something first, with these arguments; then one may ask again. */
export type Prepare = { readonly prepare: readonly string[] };
