/** Lets a stream work before it is asked: its next chunks are fetched while others are used, up to a bound. */

export type ReadAhead = AsyncIterable<Uint8Array> & {
  /** Harmless when called again; iterating starts too. */
  start(): void;
  /** Nobody will read on: lets go of what is held, and of the source with its next chunk. */
  stop(): void;
};

/** `limit` in bytes; one chunk may go beyond it. */
export const readAhead = (source: AsyncIterable<Uint8Array>, limit: number): ReadAhead => {
  const ready: Uint8Array[] = [];
  let held = 0;
  let started = false;
  let ended = false;
  let failure: { readonly error: unknown } | undefined;
  let wakeReader: (() => void) | undefined;
  let wakePump: (() => void) | undefined;

  const wake = (): void => {
    wakeReader?.();
    wakeReader = undefined;
  };

  const pump = async (): Promise<void> => {
    try {
      for await (const chunk of source) {
        ready.push(chunk);
        held += chunk.length;
        wake();
        if (held >= limit && !ended) {
          await new Promise<void>((resolve) => {
            wakePump = resolve;
          });
        }
        if (ended) return;
      }
    } catch (error) {
      failure = { error };
    } finally {
      ended = true;
      wake();
    }
  };

  const start = (): void => {
    if (started) return;
    started = true;
    void pump();
  };

  const stop = (): void => {
    ended = true;
    ready.length = 0;
    wakePump?.();
  };

  const read = async function* (): AsyncGenerator<Uint8Array> {
    start();
    try {
      for (;;) {
        const chunk = ready.shift();
        if (chunk !== undefined) {
          held -= chunk.length;
          wakePump?.();
          wakePump = undefined;
          yield chunk;
        } else if (failure !== undefined) throw failure.error;
        else if (ended) return;
        else {
          await new Promise<void>((resolve) => {
            wakeReader = resolve;
          });
        }
      }
    } finally {
      stop();
    }
  };

  return { start, stop, [Symbol.asyncIterator]: read };
};
