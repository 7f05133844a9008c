/**
 * Asking again: 408, 429 and 5xx, broken connections. Retry-After is obeyed up to a limit (seconds or a date, RFC 9110 10.2.3);
 * without it the waits double, with chance in them, so that a thousand nodes do not come back together.
 */
import type { Timing } from '../util/timing.ts';
import { isTransient, TransferFailure } from './failure.ts';
import type { HttpResponse } from './http.ts';
import type { Progress, RegistryConfig } from './types.ts';

export type RetryContext = {
  readonly config: RegistryConfig;
  readonly timing: Timing;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress: (progress: Progress) => void;
};

const FIRST_WAIT = 500;

/**
 * Repeats `attempt` while it throws transient TransferFailures.
 * @param hasMoved says after a failure whether it brought something: then the count starts again.
 */
export const withRetries = async <T>(
  context: RetryContext,
  attempt: () => Promise<T>,
  hasMoved: () => boolean = () => false,
): Promise<T> => {
  const { config, timing, signal, onProgress } = context;
  for (let count = 1; ; count++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof TransferFailure) || !isTransient(error)) throw error;
      if (hasMoved()) count = 1;
      const wait = waitBefore(error, count, timing, config);
      if (count >= config.limits.attempts || wait > config.timeouts.retryWait) throw giveUp(error, count, wait, config);
      onProgress({ kind: 'retry', why: error.message, milliseconds: wait });
      await timing.sleep(wait, signal);
    }
  }
};

const waitBefore = ({ retryAfter }: TransferFailure, count: number, timing: Timing, config: RegistryConfig): number => {
  // Never earlier than asked, a little later by chance.
  if (retryAfter !== undefined) return Math.round(retryAfter + Math.min(retryAfter, 10_000) * 0.2 * timing.random());
  const longest = Math.min(FIRST_WAIT * 2 ** (count - 1), config.timeouts.retryWait);
  return Math.round(longest * (0.5 + 0.5 * timing.random()));
};

const giveUp = (error: TransferFailure, count: number, wait: number, config: RegistryConfig): TransferFailure => {
  const { kind, url, why, status } = error;
  const end = wait > config.timeouts.retryWait ? `it asks to wait ${describeWait(wait)}` : `given up after ${count} tries`;
  return new TransferFailure(kind, url, `${why}; ${end}`, { cause: error, ...(status === undefined ? {} : { status }) });
};

const describeWait = (milliseconds: number): string =>
  milliseconds < 120_000 ? `${Math.round(milliseconds / 1000)} seconds` : `${Math.round(milliseconds / 60_000)} minutes`;

/** @throws TransferFailure `busy` when the status says "later". @param detail what the server wrote */
export const refuseBusy = (response: HttpResponse, timing: Timing, detail = ''): void => {
  const { status, headers, url } = response;
  if (status !== 408 && status !== 429 && status < 500) return;
  response.discard();
  const meaning = status === 429 ? 'too many requests (429)' : `status ${status}`;
  throw new TransferFailure('busy', url, detail === '' ? meaning : `${meaning}: ${detail}`, {
    status,
    retryAfter: parseRetryAfter(headers['retry-after'], timing.now()),
  });
};

/** Milliseconds from `now`; `undefined` when absent or nonsense. */
export const parseRetryAfter = (value: string | undefined, now: number): number | undefined => {
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value.trim())) return Number(value) * 1000;
  // Date.parse alone takes nearly anything.
  const date = /^[A-Z][a-z]{2,8},? /.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
};
