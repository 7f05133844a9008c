/** Entry of the planner bundle: the functions the native program calls in its embedded engine. */
import { engineHost, type HostCall } from './run/host-engine.ts';
import { failure, start } from './run/start.ts';
import { warm } from './run/warm.ts';

declare const __host: HostCall;

// __host is looked up at each call: it is there only while the native program asks.
const host = engineHost((number, ...args) => __host(number, ...args));

Object.assign(globalThis, {
  tsrunStart: (input: string): string => start(host, input),
  tsrunFailure: (input: string): string => failure(host, input),
  tsrunWarm: (): string => warm(host, globalThis as unknown as Parameters<typeof warm>[1]),
});
