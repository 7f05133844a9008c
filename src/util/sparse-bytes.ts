/** bytesOf (util/bytes.ts) for texts that are mostly zeros, such as the head of a SIF: the embedded engine pays for every char it looks at. */

const BLOCK = 64;

/** The bytes of a byte string; chars above 255 lose their upper bits. */
export const sparseBytesOf = (text: string): Uint8Array => {
  const zeros = '\0'.repeat(BLOCK);
  const bytes = new Uint8Array(text.length);
  for (let start = 0; start < text.length; start += BLOCK) {
    if (text.startsWith(zeros, start)) continue;
    const end = Math.min(start + BLOCK, text.length);
    for (let at = start; at < end; at++) bytes[at] = text.charCodeAt(at);
  }
  return bytes;
};
