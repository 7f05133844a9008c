/**
 * `return skip('needs /dev/fuse')` in a test that cannot run on this machine. The runner counts the test as skipped, not as
 * passed, and prints where and why. Only for what the machine lacks: on the project's own CI nothing may be skipped.
 */
export type Skip = { readonly at: string; readonly reason: string };

const skips: Skip[] = [];

export const skip = (reason: string): void => {
  // Second line of the stack: the caller, as `file:///path/x.test.ts:12:10`.
  const caller = new Error().stack?.split('\n')[2] ?? '';
  const at = /(?:file:\/\/)?(\/[^\s()]+:\d+):\d+/.exec(caller)?.[1] ?? 'unknown place';
  skips.push({ at, reason });
};

export const skipsSoFar = (): readonly Skip[] => skips;
