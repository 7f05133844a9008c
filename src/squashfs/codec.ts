/**
 * Compresses single blocks. zstd and gzip are Node's, in one-shot calls only: the streaming zstd encoder writes a 2 MiB window into the frame,
 * which the kernel refuses with EIO while unsquashfs reads it. xz and lz4, which Node lacks, are done by a child process (codec-process.ts).
 */
import { constants, deflateSync, zstdCompressSync } from 'node:zlib';
import { createProcessCodec } from './codec-process.ts';
import type { Compressor } from './types.ts';

export type CodecOptions = {
  readonly compressor: Compressor;
  readonly level: number;
  readonly blockSize: number;
  readonly codecCommand: readonly string[];
};

export type Codec = {
  /** The compressed bytes, valid until the next call, or undefined when they would not be shorter. */
  compress(block: Uint8Array): Uint8Array | undefined | Promise<Uint8Array | undefined>;
  close(): void;
};

export type SyncCompress = (block: Uint8Array) => Uint8Array | undefined;

const MIN_CHUNK = 8192;

/** xz and lz4 have no level here. */
export const DEFAULT_LEVELS: Readonly<Record<Compressor, number>> = { zstd: 3, gzip: 6, xz: 0, lz4: 0 };
export const MAX_LEVELS: Readonly<Record<Compressor, number>> = { zstd: 22, gzip: 9, xz: 0, lz4: 0 };

/** Undefined for compressors that need a process. */
export const nodeCompress = ({ compressor, level, blockSize }: CodecOptions): SyncCompress | undefined => {
  // One output buffer for most blocks, two for the rest. Buffers of a whole block are as fast, but garbage of twice the size.
  const chunkSize = Math.max(blockSize / 2, MIN_CHUNK);
  if (compressor === 'zstd') {
    const options = { chunkSize, params: { [constants.ZSTD_c_compressionLevel]: level } };
    return (block) => shorter(block, zstdCompressSync(block, options));
  }
  if (compressor === 'gzip') return (block) => shorter(block, deflateSync(block, { chunkSize, level }));
  return undefined;
};

export const createCodec = (options: CodecOptions): Codec => {
  const compress = nodeCompress(options);
  return compress === undefined ? createProcessCodec(options) : { compress, close: () => {} };
};

const shorter = (block: Uint8Array, compressed: Uint8Array): Uint8Array | undefined =>
  compressed.length < block.length ? compressed : undefined;
