/**
 * Metadata streams: the tables of the format are byte streams cut into blocks of 8 KiB, each compressed on its own behind a u16 with its
 * stored length (bit 15: not compressed). A place in one is the offset of its block in the stored stream and the offset in the block.
 */
import type { SyncCompress } from './codec.ts';
import type { Output } from './output.ts';

export const METADATA_BYTES = 8192;
const STORED_BIT = 0x8000;

export type MetadataStream = {
  /** Offset, in the stored stream, of the block the next byte goes to. */
  block(): number;
  /** Offset of the next byte within that block, 0 … 8191. */
  offset(): number;
  put(bytes: Uint8Array): void;
  /** Ends the last block; the stream's stored length. */
  end(): number;
};

/** `emit` gets each stored block in order and must not keep it. */
export const createMetadataStream = (compress: SyncCompress, emit: (stored: Uint8Array) => void): MetadataStream => {
  const buffer = new Uint8Array(METADATA_BYTES);
  const header = new Uint8Array(2);
  let used = 0;
  let stored = 0;

  const flush = (): void => {
    if (used === 0) return;
    const block = buffer.subarray(0, used);
    const compressed = compress(block);
    const bytes = compressed ?? block;
    const word = compressed === undefined ? used | STORED_BIT : bytes.length;
    header[0] = word & 0xff;
    header[1] = word >> 8;
    emit(header);
    emit(bytes);
    stored += 2 + bytes.length;
    used = 0;
  };
  // A full block is ended at once, so that `block` and `offset` never point behind the end of one.
  return {
    block: () => stored,
    offset: () => used,
    put: (bytes) => {
      for (let at = 0; at < bytes.length; ) {
        const count = Math.min(METADATA_BYTES - used, bytes.length - at);
        buffer.set(bytes.subarray(at, at + count), used);
        used += count;
        at += count;
        if (used === METADATA_BYTES) flush();
      }
    },
    end: () => {
      flush();
      return stored;
    },
  };
};

/** A reference to a place in a stream, as u64 fields hold it. */
export const metadataReference = (block: number, offset: number): bigint => (BigInt(block) << 16n) | BigInt(offset);

/**
 * Tables read by index (fragments, ids, inode references, xattr sets): the stream, then the absolute places of its blocks.
 * Returns where the list of places starts, which is what the super block points at; `header` goes before the list.
 */
export const writeIndexedTable = (
  output: Output,
  compress: SyncCompress,
  table: Uint8Array,
  header: Uint8Array = new Uint8Array(0),
): number => {
  const start = output.position;
  const places: bigint[] = [];
  const stream = createMetadataStream(compress, output.append);
  for (let at = 0; at < table.length; at += METADATA_BYTES) {
    places.push(BigInt(start + stream.block()));
    stream.put(table.subarray(at, at + METADATA_BYTES));
  }
  stream.end();
  const list = output.position;
  output.append(header);
  output.append(new Uint8Array(BigUint64Array.from(places).buffer));
  return list;
};
