/**
 * zstd with any number of frames. Node's decoder stops after the first one without a word, so the input is cut where frames end
 * (RFC 8878, 3.1) and every frame is decoded on its own: small ones at once, large ones as a stream.
 */
import { Readable } from 'node:stream';
import { createZstdDecompress, zstdDecompressSync } from 'node:zlib';

/** Input that is no zstd, or a frame cut off; the caller adds which layer it was. */
export class ZstdFormatError extends Error {}

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;
const MEBIBYTE = 1 << 20;
/** Compressed size up to which a frame is collected and decoded in one call. */
const SMALL_FRAME = 2 * MEBIBYTE;
/** A small frame that decodes to more goes through the stream, which never holds more than a chunk. */
const SMALL_OUTPUT = 16 * MEBIBYTE;

/**
 * Chunks of 1 MiB: with the default of 16 KiB decoders are 2.6 times slower. And room for a few of them, so that the decoder's thread goes
 * on by itself while this one hashes and parses (an option of all streams, which the types of zlib lack).
 */
export const DECODER_OPTIONS: { readonly chunkSize: number; readonly readableHighWaterMark: number } = {
  chunkSize: MEBIBYTE,
  readableHighWaterMark: 4 * MEBIBYTE,
};

type Piece = { readonly bytes: Buffer; readonly end: boolean };

/** @throws ZstdFormatError, and zlib's errors for damaged frames */
export async function* zstdDecode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const pieces = framePieces(source);
  try {
    yield* frames(pieces);
  } finally {
    // Whoever stops reading lets the source go. Not waited for: it may be in the middle of a read.
    pieces.return(undefined).catch(() => undefined);
  }
}

async function* frames(pieces: AsyncGenerator<Piece>): AsyncGenerator<Buffer> {
  for (;;) {
    const { head, complete } = await collect(pieces, SMALL_FRAME);
    if (head.length === 0) return;
    const frame = Buffer.concat(head);
    const whole = complete ? decodeSmall(frame) : undefined;
    if (whole !== undefined) {
      if (whole.length > 0) yield whole;
      continue;
    }
    const rest = complete ? [] : restOfFrame(pieces);
    const decoder = createZstdDecompress(DECODER_OPTIONS);
    const input = Readable.from(joined(frame, rest), { objectMode: false, highWaterMark: MEBIBYTE });
    input.on('error', (error) => decoder.destroy(error));
    try {
      yield* input.pipe(decoder) as AsyncIterable<Buffer>;
    } finally {
      input.destroy();
    }
  }
}

async function* joined(first: Buffer, rest: AsyncIterable<Buffer> | readonly Buffer[]): AsyncGenerator<Buffer> {
  yield first;
  yield* rest;
}

/** The pieces of one frame, as long as they are together below `limit`. */
const collect = async (pieces: AsyncGenerator<Piece>, limit: number): Promise<{ head: Buffer[]; complete: boolean }> => {
  const head: Buffer[] = [];
  for (let size = 0; size < limit; ) {
    const next = await pieces.next();
    if (next.done === true) return { head, complete: true };
    head.push(next.value.bytes);
    size += next.value.bytes.length;
    if (next.value.end) return { head, complete: true };
  }
  return { head, complete: false };
};

async function* restOfFrame(pieces: AsyncGenerator<Piece>): AsyncGenerator<Buffer> {
  for (;;) {
    const next = await pieces.next();
    if (next.done === true) return;
    yield next.value.bytes;
    if (next.value.end) return;
  }
}

/** `undefined`: it holds more than a small frame should. */
const decodeSmall = (frame: Buffer): Buffer | undefined => {
  try {
    const chunkSize = Math.min(Math.max(frame.length * 4, 64 * 1024), MEBIBYTE);
    return zstdDecompressSync(frame, { maxOutputLength: SMALL_OUTPUT, chunkSize });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE') return undefined;
    throw error;
  }
};

/** The input cut at frame ends; skippable frames are left out. Every frame ends with a piece whose `end` is true. */
async function* framePieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<Piece> {
  const walker = createFrameWalker();
  // The first bytes of a frame whose kind is not known yet.
  let held = Buffer.alloc(0);
  for await (const chunk of source) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let start = 0;
    while (start < bytes.length) {
      const { used, end, skip } = walker.walk(bytes, start);
      const piece = bytes.subarray(start, start + used);
      start += used;
      if (skip === undefined) held = Buffer.concat([held, piece]);
      else {
        if (!skip) yield { bytes: held.length > 0 ? Buffer.concat([held, piece]) : piece, end };
        held = Buffer.alloc(0);
      }
    }
  }
  if (!walker.atFrameStart()) throw new ZstdFormatError('the compressed data is cut off');
}

/** `skip`: of a skippable frame; `undefined` within the magic number, which tells. */
type Step = { readonly used: number; readonly end: boolean; readonly skip: boolean | undefined };

/**
 * Finds the end of a frame without decoding it: header, then blocks of three bytes `last | type << 1 | size << 3` and their data.
 * Only fields that span chunks are copied.
 */
const createFrameWalker = (): { walk(bytes: Buffer, start: number): Step; atFrameStart(): boolean } => {
  type Phase = 'magic' | 'descriptor' | 'header' | 'block' | 'data' | 'checksum' | 'skip-length' | 'skip-data';
  let phase: Phase = 'magic';
  const field = Buffer.alloc(4);
  let filled = 0;
  /** Bytes to pass over in the phases header, data, checksum and skip-data. */
  let left = 0;
  let lastBlock = false;
  let checksum = false;
  let skipping = false;

  const fieldLength = (): number => (phase === 'descriptor' ? 1 : phase === 'block' ? 3 : 4);

  const takeField = (): boolean => {
    filled = 0;
    switch (phase) {
      case 'magic': {
        const magic = field.readUInt32LE(0);
        skipping = (magic & 0xfffffff0) >>> 0 === SKIPPABLE;
        if (!skipping && magic !== MAGIC) throw new ZstdFormatError('a zstd frame was expected, but something else is there');
        phase = skipping ? 'skip-length' : 'descriptor';
        return false;
      }
      case 'skip-length':
        left = field.readUInt32LE(0);
        phase = left > 0 ? 'skip-data' : 'magic';
        return left === 0;
      case 'descriptor': {
        const descriptor = field[0] as number;
        const single = (descriptor & 0x20) !== 0;
        checksum = (descriptor & 0x04) !== 0;
        const dictionary = [0, 1, 2, 4][descriptor & 3] as number;
        const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
        left = (single ? 0 : 1) + dictionary + contentSize;
        phase = left > 0 ? 'header' : 'block';
        return false;
      }
      default: {
        const block = (field[0] as number) | ((field[1] as number) << 8) | ((field[2] as number) << 16);
        lastBlock = (block & 1) !== 0;
        // A run-length block carries one byte, whatever size it stands for.
        left = ((block >> 1) & 3) === 1 ? 1 : block >> 3;
        phase = 'data';
        return left === 0 ? afterData() : false;
      }
    }
  };

  const afterData = (): boolean => {
    if (!lastBlock) phase = 'block';
    else if (checksum) {
      left = 4;
      phase = 'checksum';
    } else phase = 'magic';
    return phase === 'magic';
  };

  const afterPass = (): boolean => {
    if (phase === 'header') phase = 'block';
    else if (phase === 'data') return afterData();
    else phase = 'magic';
    return phase === 'magic';
  };

  return {
    atFrameStart: () => phase === 'magic' && filled === 0,
    walk: (bytes, start) => {
      let at = start;
      while (at < bytes.length) {
        const passing = phase === 'header' || phase === 'data' || phase === 'checksum' || phase === 'skip-data';
        let ended = false;
        if (passing) {
          const length = Math.min(left, bytes.length - at);
          at += length;
          left -= length;
          if (left === 0) ended = afterPass();
        } else {
          field[filled++] = bytes[at++] as number;
          if (filled === fieldLength()) ended = takeField();
        }
        if (ended) return { used: at - start, end: true, skip: skipping };
      }
      return { used: at - start, end: false, skip: phase === 'magic' ? undefined : skipping };
    },
  };
};
