/** Clock, waiting and chance as one value, so that tests need no time and no luck. */
import { setTimeout as delay } from 'node:timers/promises';

export type Timing = {
  /** Resolves after `milliseconds`; rejects with an AbortError when `signal` is aborted. */
  readonly sleep: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
};

export const realTiming: Timing = {
  sleep: async (milliseconds, signal) => {
    await delay(milliseconds, undefined, signal === undefined ? {} : { signal });
  },
  now: Date.now,
  random: Math.random,
};
