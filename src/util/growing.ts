/**
 * Typed arrays that grow where they are. A resizable buffer is address space reserved from the start, of which only what is used takes
 * memory: no copies, no slack, and nothing freed in the middle of the allocator's heap, which for a million files cost 200 MB.
 */

/** Elements to make room for when `needed` no longer fit: half as much again. */
export const nextCapacity = (capacity: number, needed: number): number => Math.max(needed, Math.ceil(capacity * 1.5), 64);

/** Room to grow to, at first in bytes and then as a multiple. Reserved address space counts in `ulimit -v`, so it is not boundless. */
const FIRST_RESERVATION = 16 << 20;
const NEXT_RESERVATION = 4;

/** The buffer, resized in place, or a new one with its bytes when the reservation is used up. */
const growBuffer = (buffer: ArrayBuffer, bytes: number): ArrayBuffer => {
  if (buffer.resizable && bytes <= buffer.maxByteLength) {
    buffer.resize(bytes);
    return buffer;
  }
  const grown = new ArrayBuffer(bytes, { maxByteLength: Math.max(FIRST_RESERVATION, bytes * NEXT_RESERVATION) });
  new Uint8Array(grown).set(new Uint8Array(buffer));
  buffer.transfer(0); // gives the memory back now
  return grown;
};

export const growU8 = (array: Uint8Array<ArrayBuffer>, capacity: number): Uint8Array<ArrayBuffer> =>
  new Uint8Array(growBuffer(array.buffer, capacity));
export const growU16 = (array: Uint16Array<ArrayBuffer>, capacity: number): Uint16Array<ArrayBuffer> =>
  new Uint16Array(growBuffer(array.buffer, capacity * 2));
export const growU32 = (array: Uint32Array<ArrayBuffer>, capacity: number): Uint32Array<ArrayBuffer> =>
  new Uint32Array(growBuffer(array.buffer, capacity * 4));
export const growI32 = (array: Int32Array<ArrayBuffer>, capacity: number): Int32Array<ArrayBuffer> =>
  new Int32Array(growBuffer(array.buffer, capacity * 4));
export const growF64 = (array: Float64Array<ArrayBuffer>, capacity: number): Float64Array<ArrayBuffer> =>
  new Float64Array(growBuffer(array.buffer, capacity * 8));

/** Byte strings one behind the other. */
export type ByteArena = { bytes: Uint8Array<ArrayBuffer>; used: number };

export const createArena = (capacity: number): ByteArena => ({ bytes: new Uint8Array(capacity), used: 0 });

/** Makes room for `length` bytes and returns their offset; the caller fills them through `arena.bytes`. */
export const reserve = (arena: ByteArena, length: number): number => {
  const at = arena.used;
  if (at + length > arena.bytes.length) arena.bytes = growU8(arena.bytes, nextCapacity(arena.bytes.length, at + length));
  arena.used = at + length;
  return at;
};

export const append = (arena: ByteArena, bytes: Uint8Array): number => {
  const at = reserve(arena, bytes.length);
  arena.bytes.set(bytes, at);
  return at;
};
