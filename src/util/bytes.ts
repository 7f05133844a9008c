/**
 * Random access to bytes and little-endian fields, for the format readers. No Node API: they run in the embedded engine too.
 */

/** Something with a size that is read at offsets: a file, a part of one, bytes in memory. */
export type ByteSource = {
  /** In bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`; throws when the source does not have them. Callers check against `size` first. */
  read(offset: number, length: number): Uint8Array;
};

export const bytesSource = (bytes: Uint8Array): ByteSource => ({
  size: bytes.length,
  read: (offset, length) => {
    if (offset < 0 || length < 0 || offset + length > bytes.length) throw new RangeError(`read of ${length} bytes at ${offset}`);
    return bytes.subarray(offset, offset + length);
  },
});

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const isExact = (value: number): boolean => Number.isSafeInteger(value);

/** A 64-bit unsigned field; null when it is above 2^53 - 1 (no size or offset of a real file is). */
export const u64 = (view: DataView, at: number): number | null => {
  const value = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
  return isExact(value) ? value : null;
};

/** A 64-bit signed field; null outside ±(2^53 - 1). */
export const i64 = (view: DataView, at: number): number | null => {
  const value = view.getInt32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
  return isExact(value) ? value : null;
};

export const setI64 = (view: DataView, at: number, value: number): void => {
  view.setUint32(at, value % 2 ** 32, true);
  view.setInt32(at + 4, Math.floor(value / 2 ** 32), true);
};

/** Bytes as a byte string: one char of 0..255 per byte. */
export const byteString = (bytes: Uint8Array): string => {
  let text = '';
  for (let start = 0; start < bytes.length; start += 4096) text += String.fromCharCode(...bytes.subarray(start, start + 4096));
  return text;
};

/** The bytes of a byte string; a char above 255 has no byte and is a mistake of the caller. */
export const bytesOf = (text: string): Uint8Array => {
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code > 255) throw new RangeError(`char ${code} in a byte string`);
    bytes[at] = code;
  }
  return bytes;
};

/** A byte string up to its first NUL, or up to the end of `bytes`. */
export const untilNul = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0);
  return byteString(end < 0 ? bytes : bytes.subarray(0, end));
};

export const alignUp = (value: number, alignment: number): number => Math.ceil(value / alignment) * alignment;
