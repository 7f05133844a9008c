/** Checks the writer's options and fills in what was left out. */
import { availableParallelism } from 'node:os';
import { TsrunError } from '../util/errors.ts';
import type { CodecOptions } from './codec.ts';
import { DEFAULT_LEVELS, MAX_LEVELS } from './codec.ts';
import type { WriterOptions } from './types.ts';
import { COMPRESSOR_IDS } from './types.ts';

const DEFAULT_BLOCK = 128 * 1024;
const MIN_BLOCK = 4096;
const MAX_BLOCK = 1 << 20;
/** A thread takes up to 75 MB, most of it zlib buffers that V8 lets pile up outside its heap; the process is to stay below 600 MB. */
const DEFAULT_MAX_THREADS = 3;
const MAX_THREADS = 64;

export type CheckedOptions = { readonly codec: CodecOptions; readonly threads: number; readonly offset: number };

export const checkOptions = (options: WriterOptions): CheckedOptions => {
  const { compressor = 'zstd', blockSize = DEFAULT_BLOCK, offset = 0, codecCommand = [] } = options;
  const level = options.level ?? DEFAULT_LEVELS[compressor];
  const threads = options.threads ?? Math.min(availableParallelism(), DEFAULT_MAX_THREADS);
  require(Object.hasOwn(COMPRESSOR_IDS, compressor), `unknown compressor ${compressor}`, 'choose zstd, gzip, xz or lz4');
  const maxLevel = MAX_LEVELS[compressor];
  require(Number.isInteger(level) &&
    level >= Math.min(1, maxLevel) &&
    level <= maxLevel, `${compressor} has no level ${level}`, maxLevel === 0
    ? `leave the level out: ${compressor} takes none`
    : `choose a level from 1 to ${maxLevel}`);
  require(Number.isInteger(Math.log2(blockSize)) &&
    blockSize >= MIN_BLOCK &&
    blockSize <= MAX_BLOCK, `a block size of ${blockSize} bytes is not in the format`, 'choose a power of two from 4096 to 1048576');
  require(Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS, `${threads} threads`, `choose from 1 to ${MAX_THREADS}`);
  require(Number.isSafeInteger(offset) && offset >= 0, `offset ${offset}`, 'the image starts at a byte of the file');
  require(options.mkfsTime === undefined ||
    (Number.isInteger(options.mkfsTime) &&
      options.mkfsTime >= 0 &&
      options.mkfsTime < 2 ** 32), `a creation time of ${options.mkfsTime}`, 'choose seconds since 1970, below 2^32');
  const needsProgram = compressor === 'xz' || compressor === 'lz4';
  require(!needsProgram ||
    codecCommand.length > 0, `${compressor} needs the native program`, 'use the tsrun that has bin/tsrun, or zstd or gzip');
  return { codec: { compressor, level, blockSize, codecCommand }, threads, offset };
};

const require = (holds: boolean, why: string, hint: string): void => {
  if (!holds) throw new TsrunError({ code: 'E_SQUASHFS_OPTION', what: 'cannot write a SquashFS image', why, hint });
};
