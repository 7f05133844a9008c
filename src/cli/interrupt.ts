/** Ctrl-C and its kin during long work: what is under way is put away, then the process ends by that signal as if nobody had caught it. */

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Putting away takes milliseconds; work that hangs in a read is not waited for. */
const PATIENCE = 2_000;

export type Tidying = {
  /** Where more is to be put away, such as a step's files, this long: milliseconds. A second signal ends it at once. */
  readonly patience: number;
  /** Called when it takes longer than people expect. */
  readonly onSlow: () => void;
  /** Called when everything is put away. */
  readonly onTidy: () => void;
};

const SLOW = 1_000;

/** @returns what `work` returns. When a signal comes, `work`'s is aborted, and this neither returns nor throws. */
export const interruptible = async <T>(work: (signal: AbortSignal) => Promise<T>, tidying?: Tidying): Promise<T> => {
  const patience = tidying?.patience ?? PATIENCE;
  const controller = new AbortController();
  let caught: NodeJS.Signals | undefined;
  const end = (): void => {
    stopWatching();
    process.kill(process.pid, caught ?? 'SIGINT');
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    if (caught !== undefined) end();
    caught = signal;
    controller.abort(new Error(`interrupted by ${signal}`));
    setTimeout(end, patience).unref();
    if (tidying !== undefined) setTimeout(tidying.onSlow, SLOW).unref();
  };
  const stopWatching = (): void => {
    for (const signal of SIGNALS) process.off(signal, onSignal);
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    if (caught !== undefined) {
      tidying?.onTidy();
      end();
      // The signal arrives between two steps of the event loop; nothing may be printed until then.
      await new Promise(() => setTimeout(() => {}, patience));
    }
    stopWatching();
  }
};
