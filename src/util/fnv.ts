/** FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/): short names for long texts. Not for anything an attacker gains from. */

/** 16 hex digits of a byte string's hash. */
export const fnv64 = (text: string): string => {
  const { imul } = Math;
  let high = 0xcbf29ce4;
  let low = 0x84222325;
  for (let at = 0; at < text.length; at++) {
    low ^= text.charCodeAt(at);
    // Times 2^40 + 0x1b3, modulo 2^64; what the lower half carries over comes from its two halves.
    const upper = (low >>> 16) * 0x1b3 + (((low & 0xffff) * 0x1b3) >>> 16);
    high = (imul(high, 0x1b3) + (upper >>> 16) + (low << 8)) | 0;
    low = imul(low, 0x1b3);
  }
  return hex(high) + hex(low);
};

const hex = (half: number): string => (half >>> 0).toString(16).padStart(8, '0');
