/** Entry of the planner bundle: the functions the native program calls in its embedded engine. */
import type { Fields } from './plan/encode.ts';
import { engineHost, type HostCall } from './run/host-engine.ts';
import { failure, start } from './run/start.ts';
import { warm } from './run/warm.ts';

const host = engineHost(globalThis as unknown as { readonly __host: HostCall });

Object.assign(globalThis, {
  tsrunStart: (input: string): readonly Fields[] => start(host, input),
  tsrunFailure: (input: string): readonly Fields[] => failure(host, input),
  tsrunWarm: (): string => warm(host, globalThis as unknown as Parameters<typeof warm>[1]),
});
