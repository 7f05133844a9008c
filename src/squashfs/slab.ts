/**
 * A slab: one block of shared memory with input, results and compressed output, filled by the main thread, worked on by one thread, emptied
 * by the main thread. Slabs are made once; their number is the bound on memory and on how far reading runs ahead of writing.
 *
 * The input is cut into segments. What a thread does with a segment is its kind:
 *   blocks  part of a large file: each block is compressed on its own, each chunk hashed; blocks of zeros get size 0
 *   small   a file below the block size: hashed only; the main thread packs it into a fragment block later
 *   plain   one block (a fragment block, metadata): compressed only
 *   hole    a stretch of zeros without input; `offset` and `length` mean nothing
 */
const SLAB_BYTES = 1 << 19;
/** Bounds the tables of a slab full of tiny files. */
export const MAX_SEGMENTS = 1024;
export const DIGEST_BYTES = 32;
/** Of the SHA-256 of a block's stored bytes. */
export const CHECK_BYTES = 16;
/** Contents are hashed in pieces of this size, whatever the block size. Part of the definition of the tree digest. */
export const CHUNK_BYTES = 128 * 1024;
/** In a block's size: the bytes are stored as they are (SQUASHFS_COMPRESSED_BIT_BLOCK). */
export const STORED_BIT = 1 << 24;

export const SEGMENT = { blocks: 0, small: 1, plain: 2, hole: 3 } as const;
export const STATE = { idle: 0, queued: 1, done: 2, failed: 3 } as const;

const HEADER_WORDS = 4;
const STATE_WORD = 0;
const SEGMENTS_WORD = 1;
const MESSAGE_WORD = 2;

export type Slab = {
  readonly index: number;
  readonly header: Int32Array;
  /** Columns of the segments; a thread reads them, the main thread writes them. */
  readonly kind: Uint32Array;
  readonly offset: Uint32Array;
  readonly length: Uint32Array;
  readonly input: Uint8Array;
  /** Results, in the order of segments and blocks: sizes as the format stores them, bytes back to back, digests. */
  readonly sizes: Uint32Array;
  readonly output: Uint8Array;
  /**
   * Of each blocks or small segment: one digest per chunk, then, for blocks when the block size is not the chunk size, one per block. Of a plain
   * segment the block's, when stored blocks are listed.
   */
  readonly digests: Uint8Array;
  /** CHECK_BYTES of each stored block, when they are listed. */
  readonly checks: Uint8Array;
};

/** Of input and of output: a block never takes more room compressed. */
const slabBytes = (blockSize: number): number => Math.max(SLAB_BYTES, blockSize);
const maxBlocks = (blockSize: number): number => slabBytes(blockSize) / blockSize + MAX_SEGMENTS;
const maxDigests = (blockSize: number): number =>
  slabBytes(blockSize) / CHUNK_BYTES + MAX_SEGMENTS + (blockSize === CHUNK_BYTES ? 0 : maxBlocks(blockSize));

export const slabMemory = (blockSize: number): SharedArrayBuffer =>
  new SharedArrayBuffer(
    4 * (HEADER_WORDS + 3 * MAX_SEGMENTS + maxBlocks(blockSize)) +
      CHECK_BYTES * maxBlocks(blockSize) +
      DIGEST_BYTES * maxDigests(blockSize) +
      2 * slabBytes(blockSize),
  );

/** The same views on both sides of the memory. */
export const slabViews = (memory: SharedArrayBuffer, index: number, blockSize: number): Slab => {
  let at = 0;
  const words = (count: number): Uint32Array => {
    const view = new Uint32Array(memory, at, count);
    at += 4 * count;
    return view;
  };
  const bytes = (count: number): Uint8Array => {
    const view = new Uint8Array(memory, at, count);
    at += count;
    return view;
  };
  const header = words(HEADER_WORDS);
  return {
    index,
    header: new Int32Array(header.buffer, header.byteOffset, HEADER_WORDS),
    kind: words(MAX_SEGMENTS),
    offset: words(MAX_SEGMENTS),
    length: words(MAX_SEGMENTS),
    sizes: words(maxBlocks(blockSize)),
    digests: bytes(DIGEST_BYTES * maxDigests(blockSize)),
    checks: bytes(CHECK_BYTES * maxBlocks(blockSize)),
    input: bytes(slabBytes(blockSize)),
    output: bytes(slabBytes(blockSize)),
  };
};

export const slabState = (slab: Slab): number => Atomics.load(slab.header, STATE_WORD);
export const setSlabState = (slab: Slab, state: number): void => {
  Atomics.store(slab.header, STATE_WORD, state);
};

export const segmentCount = (slab: Slab): number => slab.header[SEGMENTS_WORD] as number;
export const setSegmentCount = (slab: Slab, count: number): void => {
  slab.header[SEGMENTS_WORD] = count;
};

/** What a thread says of a failed slab, carried in its output. */
export const writeFailure = (slab: Slab, message: string): void => {
  const written = new TextEncoder().encode(message.slice(0, 2000));
  slab.output.set(written);
  slab.header[MESSAGE_WORD] = written.length;
  setSlabState(slab, STATE.failed);
};
export const readFailure = (slab: Slab): string => Buffer.from(slab.output.slice(0, slab.header[MESSAGE_WORD] as number)).toString('utf8');
