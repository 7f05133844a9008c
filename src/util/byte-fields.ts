/** Numbers in byte strings: the planner reads formats where they lie, since in the embedded engine making bytes of a text costs a call for each. */

/** An unsigned number of 2 or 4 bytes at `at`; the text must have them. */
export const fieldAt = (text: string, at: number, length: 2 | 4, little = true): number => {
  const [a, b] = little ? [text.charCodeAt(at), text.charCodeAt(at + 1)] : [text.charCodeAt(at + 1), text.charCodeAt(at)];
  if (length === 2) return a + b * 256;
  const [c, d] = little ? [text.charCodeAt(at + 2), text.charCodeAt(at + 3)] : [text.charCodeAt(at + 3), text.charCodeAt(at + 2)];
  return little ? a + b * 256 + c * 65536 + d * 2 ** 24 : c + d * 256 + a * 65536 + b * 2 ** 24;
};
