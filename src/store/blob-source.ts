/** How the bytes of a blob get into the store: whoever fetches fills a sink. (Apart from types.ts, which the planner reads too: it has no AbortSignal.) */

/**
 * Takes the bytes of one blob, in order, beginning at `offset`: an earlier, broken download may have left some.
 * `write` hashes and stores at once; it throws on more than `size` bytes (E_DIGEST_MISMATCH) and on a full disk (E_STORE_FULL).
 */
export type BlobSink = {
  /** Bytes taken so far. */
  readonly offset: () => number;
  readonly write: (chunk: Uint8Array) => void;
  /** Drops everything taken: the source could not resume, or what came was wrong. */
  readonly restart: () => void;
  /** All bytes are there and their digest is the right one. */
  readonly verified: () => boolean;
};

/** Fills the sink, however often it has to be tried; returns when `sink.verified()`, throws what it gave up on. */
export type BlobSource = (sink: BlobSink, signal: AbortSignal | undefined) => Promise<void>;
