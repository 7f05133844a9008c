/** Numbers in byte strings: the planner reads formats where they lie, since in the embedded engine making bytes of a text costs a call for each. */

/** The little-endian numbers of 2, 4 and 8 bytes at `at`, which the text must have. 8 bytes are exact below 2^53. */
export const u16At = (text: string, at: number): number => text.charCodeAt(at) + text.charCodeAt(at + 1) * 256;
export const u32At = (text: string, at: number): number =>
  text.charCodeAt(at) + text.charCodeAt(at + 1) * 0x100 + text.charCodeAt(at + 2) * 0x10000 + text.charCodeAt(at + 3) * 0x1000000;
export const u64At = (text: string, at: number): number => u32At(text, at) + u32At(text, at + 4) * 2 ** 32;

/** Big-endian. */
export const u16BigAt = (text: string, at: number): number => text.charCodeAt(at) * 256 + text.charCodeAt(at + 1);
export const u32BigAt = (text: string, at: number): number => u16BigAt(text, at) * 65536 + u16BigAt(text, at + 2);
