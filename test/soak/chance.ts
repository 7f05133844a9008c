/** Choices that a seed repeats. */
export type Chance = {
  /** A number from 0 to below `end`. */
  readonly below: (end: number) => number;
  readonly pick: <T>(from: readonly T[]) => T;
  /** True so many times of a hundred. */
  readonly percent: (of100: number) => boolean;
  /** Chances of its own for one of several that choose at the same time. */
  readonly fork: (name: string) => Chance;
};

/** mulberry32 */
export const chanceOf = (seed: number): Chance => {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (end: number): number => Math.floor(next() * end);
  return {
    below,
    pick: (from) => {
      if (from.length === 0) throw new Error('nothing to choose from');
      return from[below(from.length)] as (typeof from)[number];
    },
    percent: (of100) => next() * 100 < of100,
    fork: (name) => chanceOf([...name].reduce((hash, char) => Math.imul(hash, 31) + char.charCodeAt(0), seed)),
  };
};
