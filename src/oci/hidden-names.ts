/**
 * Which names of a lower layer are hidden by the layers above it, by their spelling. A guess good enough to leave out content on
 * sight: symbolic links and hard links can make it wrong, which the exact replay (apply.ts) finds and merge.ts puts right.
 *
 * An open-addressing table of 64-bit hashes, 9 bytes a slot: a million names take about 18 MB.
 */

/** Bits of a name: it exists above (TAKEN), it hides what lies below it (COVERS), it is opaque: hides that, but not itself (OPAQUE). */
const TAKEN = 1;
const COVERS = 2;
const OPAQUE = 4;

export type HiddenNames = {
  /** What a layer has, told once the layer is done: `directory` leaves lower children visible, `other` and `whiteout` do not. */
  add(path: string, what: 'directory' | 'other' | 'whiteout' | 'opaque'): void;
  hides(path: string): boolean;
};

const SLASH = 0x2f;
const SEED_A = 0x811c9dc5 | 0;
const SEED_B = 0x9747b28c | 0;

export const createHiddenNames = (): HiddenNames => {
  let keys = new Uint32Array(2 * 4096);
  let bits = new Uint8Array(4096);
  let used = 0;

  const slotOf = (a: number, b: number): number => {
    const mask = bits.length - 1;
    let slot = (a ^ (b << 7)) & mask;
    while (bits[slot] !== 0 && (keys[2 * slot] !== a >>> 0 || keys[2 * slot + 1] !== b >>> 0)) slot = (slot + 1) & mask;
    return slot;
  };

  const put = (a: number, b: number, value: number): void => {
    const slot = slotOf(a, b);
    if (bits[slot] === 0) used++;
    keys[2 * slot] = a;
    keys[2 * slot + 1] = b;
    bits[slot] = (bits[slot] as number) | value;
  };

  const grow = (): void => {
    const oldKeys = keys;
    const oldBits = bits;
    keys = new Uint32Array(oldKeys.length * 2);
    bits = new Uint8Array(oldBits.length * 2);
    used = 0;
    for (let i = 0; i < oldBits.length; i++) {
      if (oldBits[i] !== 0) put((oldKeys[2 * i] as number) | 0, (oldKeys[2 * i + 1] as number) | 0, oldBits[i] as number);
    }
  };

  return {
    add: (path, what) => {
      if ((used + 1) * 3 > bits.length * 2) grow();
      let a = SEED_A;
      let b = SEED_B;
      for (let i = 0; i < path.length; i++) {
        const char = path.charCodeAt(i);
        a = mixA(a, char);
        b = mixB(b, char);
      }
      const value = what === 'opaque' ? OPAQUE : what === 'directory' ? TAKEN : TAKEN | COVERS;
      put(finish(a), finish(b), value);
    },
    hides: (path) => {
      if (used === 0) return false;
      let a = SEED_A;
      let b = SEED_B;
      const above = (): number => bits[slotOf(finish(a), finish(b))] as number;
      if ((above() & OPAQUE) !== 0) return true;
      for (let i = 0; i < path.length; i++) {
        const char = path.charCodeAt(i);
        if (char === SLASH && (above() & (COVERS | OPAQUE)) !== 0) return true;
        a = mixA(a, char);
        b = mixB(b, char);
      }
      return (above() & TAKEN) !== 0;
    },
  };
};

const mixA = (hash: number, char: number): number => Math.imul(hash ^ char, 0x01000193);
const mixB = (hash: number, char: number): number => Math.imul(hash ^ char, 0x5bd1e995) + 0x3c6ef372;

const finish = (hash: number): number => {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return mixed ^ (mixed >>> 13);
};
