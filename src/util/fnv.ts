/** FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/): short names for long texts. Not for anything an attacker gains from. */

/** 16 hex digits of a byte string's hash. */
export const fnv64 = (text: string): string => {
  let high = 0xcbf29ce4;
  let low = 0x84222325;
  for (let at = 0; at < text.length; at++) {
    low = (low ^ text.charCodeAt(at)) >>> 0;
    // Times 2^40 + 0x1b3, modulo 2^64.
    const product = low * 0x1b3;
    high = (high * 0x1b3 + Math.floor(product / 2 ** 32) + low * 256) % 2 ** 32;
    low = product % 2 ** 32;
  }
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
};
