/**
 * Takes file contents and lays them into data slabs. Where a slab ends depends on the sizes of the files alone, never on how the bytes
 * arrive or on the threads: that is what makes the image the same everywhere.
 */
import { TsrunError } from '../util/errors.ts';
import type { Contents } from './contents.ts';
import { addContent } from './contents.ts';
import type { Slab } from './slab.ts';
import { CHUNK_BYTES, MAX_SEGMENTS, SEGMENT, segmentCount, setSegmentCount } from './slab.ts';
import type { FileContent } from './types.ts';

/** A data slab with what the main thread must remember of its segments. */
export type FilledSlab = {
  readonly slab: Slab;
  /** Position in the order of all data slabs. */
  readonly ordinal: number;
  readonly content: Uint32Array;
  /** Bytes of the file each segment stands for; for holes more than a slab could hold. */
  readonly bytes: Float64Array;
};

export type IntakeOptions = {
  readonly blockSize: number;
  readonly contents: Contents;
  /** Undefined when all data slabs are under way. */
  readonly acquire: () => Slab | undefined;
  /** Resolves when acquire is worth another try. */
  readonly progress: () => Promise<void>;
  readonly submit: (filled: FilledSlab) => void;
};

export type Intake = {
  beginFile(size: number): void;
  write(chunk: Uint8Array): void | Promise<void>;
  hole(length: number): Promise<void>;
  endFile(): FileContent;
  /** Hands over the last slab, full or not. */
  flush(): void;
};

/** 2 TiB in one file and 4 TiB in all at the default block size: block lists are held in memory, and sizes in layers are mere claims. */
const MAX_FILE_BLOCKS = 2 ** 24;
const MAX_BLOCKS = 2 ** 25;
const ALIGNMENT = 8;
const ZEROS = new Uint8Array(CHUNK_BYTES);
const NO_FILE = -1;

export const createIntake = ({ blockSize, contents, acquire, progress, submit }: IntakeOptions): Intake => {
  /** Large files are cut at multiples of this only, so that blocks and chunks are whole within one slab. */
  const unit = Math.max(blockSize, CHUNK_BYTES);
  let filled: FilledSlab | undefined;
  let ordinal = 0;
  let used = 0;
  let segmentRoom = 0;
  let content = NO_FILE as FileContent;
  let size = 0;
  let position = 0;
  let declaredBlocks = 0;

  const submitFilled = (): void => {
    if (filled === undefined) return;
    submit(filled);
    filled = undefined;
  };

  /** The slab to add a segment to, or undefined when none is free. */
  const slabWithSegments = (): FilledSlab | undefined => {
    if (filled !== undefined && segmentCount(filled.slab) === MAX_SEGMENTS) submitFilled();
    if (filled !== undefined) return filled;
    const slab = acquire();
    if (slab === undefined) return undefined;
    used = 0;
    filled = { slab, ordinal: ordinal++, content: new Uint32Array(MAX_SEGMENTS), bytes: new Float64Array(MAX_SEGMENTS) };
    return filled;
  };

  const addSegment = ({ slab, ...log }: FilledSlab, kind: number, bytes: number): void => {
    const segment = segmentCount(slab);
    slab.kind[segment] = kind;
    slab.offset[segment] = used;
    slab.length[segment] = kind === SEGMENT.hole ? 0 : bytes;
    log.content[segment] = content;
    log.bytes[segment] = bytes;
    setSegmentCount(slab, segment + 1);
  };

  /** Opens a segment for the next bytes of the file; false when no slab is free. */
  const openSegment = (): boolean => {
    const remaining = size - position;
    for (;;) {
      const target = slabWithSegments();
      if (target === undefined) return false;
      used = Math.ceil(used / ALIGNMENT) * ALIGNMENT;
      const space = target.slab.input.length - used;
      const room = remaining <= space ? remaining : size < blockSize ? 0 : Math.floor(space / unit) * unit;
      if (room > 0) {
        addSegment(target, size < blockSize ? SEGMENT.small : SEGMENT.blocks, room);
        segmentRoom = room;
        return true;
      }
      submitFilled();
    }
  };

  /** A hole begins where the open segment could go on: what it does not get is taken back. */
  const closeSegment = (): void => {
    if (segmentRoom === 0 || filled === undefined) return;
    const last = segmentCount(filled.slab) - 1;
    const kept = (filled.bytes[last] as number) - segmentRoom;
    filled.bytes[last] = kept;
    filled.slab.length[last] = kept;
    segmentRoom = 0;
    if (kept === 0) setSegmentCount(filled.slab, last);
  };

  const accept = (length: number): void => {
    if (content !== NO_FILE && position + length <= size) return;
    throw contentError(content === NO_FILE ? 'no file was begun' : `more than the ${size} bytes announced were given`);
  };

  /** Copies until the chunk ends or a slab is missing; returns how much was taken. */
  const take = (chunk: Uint8Array, from: number): number => {
    let at = from;
    while (at < chunk.length) {
      if (segmentRoom === 0 && !openSegment()) return at;
      const count = Math.min(segmentRoom, chunk.length - at);
      (filled as FilledSlab).slab.input.set(count === chunk.length ? chunk : chunk.subarray(at, at + count), used);
      used += count;
      position += count;
      segmentRoom -= count;
      at += count;
    }
    return at;
  };

  const takeAll = async (chunk: Uint8Array, from: number): Promise<void> => {
    for (let at = take(chunk, from); at < chunk.length; at = take(chunk, at)) await progress();
  };

  const fill = async (length: number): Promise<void> => {
    for (let left = length; left > 0; left -= ZEROS.length) await takeAll(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS, 0);
  };

  return {
    beginFile: (fileSize) => {
      if (content !== NO_FILE) throw contentError('the file before it was not ended');
      const blocks = Math.ceil(fileSize / blockSize);
      declaredBlocks += blocks;
      if (!Number.isSafeInteger(fileSize) || fileSize < 0 || blocks > MAX_FILE_BLOCKS || declaredBlocks > MAX_BLOCKS)
        throw sizeError(fileSize, blockSize);
      size = fileSize;
      position = 0;
      content = fileSize === 0 ? (0 as FileContent) : addContent(contents, fileSize);
    },
    write: (chunk) => {
      accept(chunk.length);
      const taken = take(chunk, 0);
      return taken === chunk.length ? undefined : takeAll(chunk, taken);
    },
    hole: async (length) => {
      accept(length);
      const toUnit = size < blockSize ? length : Math.min(length, (unit - (position % unit)) % unit);
      await fill(toUnit);
      const rest = length - toUnit;
      const whole = position + rest === size ? rest : Math.floor(rest / unit) * unit;
      if (whole > 0) {
        closeSegment();
        let target = slabWithSegments();
        for (; target === undefined; target = slabWithSegments()) await progress();
        addSegment(target, SEGMENT.hole, whole);
        position += whole;
      }
      await fill(rest - whole);
    },
    endFile: () => {
      if (content === NO_FILE || position !== size) throw contentError(`${position} of ${size} bytes were given`);
      const ended = content;
      content = NO_FILE as FileContent;
      return ended;
    },
    flush: () => {
      if (content !== NO_FILE) throw contentError('the last file was not ended');
      submitFilled();
    },
  };
};

const contentError = (why: string): TsrunError =>
  new TsrunError({
    code: 'E_SQUASHFS_CONTENT',
    what: 'cannot store a file',
    why,
    hint: 'the source changed while it was read, or is damaged: try again',
  });

const sizeError = (size: number, blockSize: number): TsrunError =>
  new TsrunError({
    code: 'E_SQUASHFS_SIZE',
    what: `cannot store a file of ${size} bytes`,
    why: `at ${blockSize} bytes a block it is beyond ${MAX_FILE_BLOCKS} blocks, or all files together beyond ${MAX_BLOCKS}`,
    hint: 'take a larger block size, or leave huge sparse files out of the image',
  });
