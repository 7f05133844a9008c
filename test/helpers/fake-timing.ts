/** Time that passes only by sleeping: every sleep returns at once and is written down. */
import type { Timing } from '../../src/util/timing.ts';

export type FakeTiming = Timing & { readonly sleeps: number[] };

/** @param onSleep for what happens meanwhile */
export const fakeTiming = (onSleep: (milliseconds: number, count: number) => void | Promise<void> = () => undefined): FakeTiming => {
  const sleeps: number[] = [];
  let clock = Date.parse('2026-03-01T12:00:00Z');
  return {
    sleeps,
    now: () => clock,
    random: () => 0.5,
    sleep: async (milliseconds, signal) => {
      signal?.throwIfAborted();
      sleeps.push(milliseconds);
      clock += milliseconds;
      await onSleep(milliseconds, sleeps.length);
    },
  };
};
