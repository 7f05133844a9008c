/**
 * Typed arrays that grow. `transfer` gives the old memory back at once instead of leaving it to the collector, which matters when the
 * arrays hold a million files.
 */

/** The capacity to take when `needed` no longer fits: half as much again. */
export const nextCapacity = (capacity: number, needed: number): number => Math.max(needed, Math.ceil(capacity * 1.5), 64);

export const growU8 = (array: Uint8Array<ArrayBuffer>, capacity: number): Uint8Array<ArrayBuffer> =>
  new Uint8Array(array.buffer.transfer(capacity));
export const growU16 = (array: Uint16Array<ArrayBuffer>, capacity: number): Uint16Array<ArrayBuffer> =>
  new Uint16Array(array.buffer.transfer(capacity * 2));
export const growU32 = (array: Uint32Array<ArrayBuffer>, capacity: number): Uint32Array<ArrayBuffer> =>
  new Uint32Array(array.buffer.transfer(capacity * 4));
export const growI32 = (array: Int32Array<ArrayBuffer>, capacity: number): Int32Array<ArrayBuffer> =>
  new Int32Array(array.buffer.transfer(capacity * 4));
export const growF64 = (array: Float64Array<ArrayBuffer>, capacity: number): Float64Array<ArrayBuffer> =>
  new Float64Array(array.buffer.transfer(capacity * 8));

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
