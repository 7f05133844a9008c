/** How far a long piece of work is: one line that is written over on a terminal, else a line every ten seconds. Silent when it is quick. */

export type Progress = {
  /** `total` when it is known. Bytes. */
  update(done: number, total: number | undefined): void;
  /** Takes the line away. */
  end(): void;
};

export type ProgressOutput = { write(text: string): unknown; readonly isTTY?: boolean | undefined; readonly columns?: number | undefined };

const TERMINAL_INTERVAL = 100;
const LOG_INTERVAL = 10_000;
/** Work that is done sooner shows nothing. */
const PATIENCE = 500;

/** @param label "converting docker://alpine:3"; @param now milliseconds, monotonic */
export const createProgress = (
  label: string,
  output: ProgressOutput,
  quiet: boolean,
  now: () => number = () => performance.now(),
): Progress => {
  if (quiet) return { update: () => {}, end: () => {} };
  const terminal = output.isTTY === true;
  const started = now();
  let next = started + (terminal ? PATIENCE : LOG_INTERVAL);
  let shown = false;
  return {
    update: (done, total) => {
      const time = now();
      if (time < next) return;
      next = time + (terminal ? TERMINAL_INTERVAL : LOG_INTERVAL);
      const text = progressText(label, done, total, (time - started) / 1000);
      shown = terminal;
      output.write(terminal ? `\r\x1b[K${text.slice(0, (output.columns ?? 80) - 1)}` : `${text}\n`);
    },
    end: () => {
      if (shown) output.write('\r\x1b[K');
      shown = false;
    },
  };
};

const progressText = (label: string, done: number, total: number | undefined, seconds: number): string => {
  const amount = total === undefined || total === 0 ? megabytes(done) : `${Math.floor((done / total) * 100)}% of ${megabytes(total)}`;
  return `tsrun: ${label}: ${amount}, ${Math.round(seconds)} s`;
};

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
