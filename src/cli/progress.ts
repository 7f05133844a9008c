/**
 * How far a long piece of work is: one line that is written over on a terminal, else a line every ten seconds. Silent when it is quick.
 *
 *     tsrun: …/team/pipeline:1.2: fetching 120 of 200 MB, 3 of 7 layers, 45 MB/s, 3 s
 *     tsrun: …/team/pipeline:1.2: converting 40% of 200 MB, 61 MB/s, 5 s
 */
import type { Progress as Fetched } from '../registry/types.ts';

export type Progress = {
  /** What the registry client says of its blobs. */
  fetched(progress: Fetched): void;
  /** Stored bytes read by the converter, of `total` when it is known. */
  converted(done: number, total: number | undefined): void;
  /** Another process makes what we need. */
  waiting(): void;
  /** Takes the line away. */
  end(): void;
};

export type ProgressOutput = { write(text: string): unknown; readonly isTTY?: boolean | undefined; readonly columns?: number | undefined };

const TERMINAL_INTERVAL = 100;
const LOG_INTERVAL = 10_000;
/** Work that is done sooner shows nothing. */
const PATIENCE = 500;

type Blob = { readonly bytes: number; readonly total: number; readonly done: boolean };

type State = {
  /** Layers by digest. What the store had from the start is no download and not among them. */
  readonly blobs: Map<string, Blob>;
  /** Of the converter, bytes. */
  done: number;
  total: number | undefined;
  /** Said instead of a figure, as long as it is the last that was heard. */
  notice: string | undefined;
};

/** @param label "docker://alpine:3"; @param now milliseconds, monotonic */
export const createProgress = (
  label: string,
  output: ProgressOutput,
  quiet: boolean,
  now: () => number = () => performance.now(),
): Progress => {
  if (quiet) return { fetched: () => {}, converted: () => {}, waiting: () => {}, end: () => {} };
  const terminal = output.isTTY === true;
  const started = now();
  const state: State = { blobs: new Map(), done: 0, total: undefined, notice: undefined };
  const rate = createRate();
  let next = started + (terminal ? PATIENCE : LOG_INTERVAL);
  let shown = false;

  const show = (): void => {
    const time = now();
    const phase = phaseOf(state);
    const speed = rate(phase.name, phase.bytes, time);
    if (time < next) return;
    next = time + (terminal ? TERMINAL_INTERVAL : LOG_INTERVAL);
    const parts = [phase.text, speed === undefined ? '' : `${megabytes(speed)}/s`, `${Math.round((time - started) / 1000)} s`];
    const text = parts.filter((part) => part !== '').join(', ');
    shown = terminal;
    output.write(terminal ? `\r\x1b[K${fitted(label, text, (output.columns || 80) - 1)}` : `tsrun: ${label}: ${text}\n`);
  };

  return {
    fetched: (progress) => {
      hear(state, progress);
      show();
    },
    converted: (done, total) => {
      state.done = done;
      state.total = total;
      show();
    },
    waiting: () => {
      state.notice = 'waiting for another tsrun that converts it';
      show();
    },
    end: () => {
      if (shown) output.write('\r\x1b[K');
      shown = false;
    },
  };
};

const hear = (state: State, progress: Fetched): void => {
  state.notice = undefined;
  switch (progress.kind) {
    case 'cached':
      break;
    case 'download':
    case 'done':
      state.blobs.set(progress.digest, { bytes: progress.bytes, total: progress.total, done: progress.kind === 'done' });
      break;
    case 'waiting':
      state.blobs.set(progress.digest, { bytes: progress.bytes, total: progress.total, done: false });
      state.notice = 'waiting for another tsrun that fetches it';
      break;
    case 'retry':
      state.notice = `${progress.why}; trying again in ${Math.ceil(progress.milliseconds / 1000)} s`;
      break;
    default:
      progress satisfies never;
  }
};

type Phase = { readonly name: string; readonly bytes: number; readonly text: string };

/** While something is fetched, that is what takes the time; the converter follows close behind. */
const phaseOf = ({ blobs, done, total, notice }: State): Phase => {
  if (notice !== undefined) return { name: notice, bytes: 0, text: notice };
  const all = [...blobs.values()];
  if (all.some((blob) => !blob.done)) {
    const bytes = all.reduce((sum, blob) => sum + blob.bytes, 0);
    const layers = `${all.filter((blob) => blob.done).length} of ${all.length} ${all.length === 1 ? 'layer' : 'layers'}`;
    return {
      name: 'fetch',
      bytes,
      text: `fetching ${megabytes(bytes)} of ${megabytes(all.reduce((sum, blob) => sum + blob.total, 0))}, ${layers}`,
    };
  }
  const amount = total === undefined || total === 0 ? megabytes(done) : `${Math.floor((done / total) * 100)}% of ${megabytes(total)}`;
  return { name: 'convert', bytes: done, text: `converting ${amount}` };
};

/** Over the last seconds, so that a stall is seen. */
const RATE_WINDOW = 5_000;

/** Bytes in a second; `undefined` until there is something to divide. A new phase begins anew. */
const createRate = (): ((phase: string, bytes: number, time: number) => number | undefined) => {
  let current = '';
  let samples: { readonly time: number; readonly bytes: number }[] = [];
  return (phase, bytes, time) => {
    if (phase !== current) samples = [];
    current = phase;
    const last = samples.at(-1);
    if (last === undefined || time - last.time >= TERMINAL_INTERVAL) samples.push({ time, bytes });
    while (samples.length > 2 && time - (samples[1]?.time ?? time) >= RATE_WINDOW) samples.shift();
    const [first] = samples;
    return first === undefined || time - first.time < PATIENCE || bytes <= first.bytes
      ? undefined
      : ((bytes - first.bytes) / (time - first.time)) * 1000;
  };
};

const SHORTEST_LABEL = 12;

/** Where the line is too long, the label loses its beginning: its end says which image. */
const fitted = (label: string, text: string, columns: number): string => {
  const room = Math.max(SHORTEST_LABEL, columns - 'tsrun: : '.length - text.length);
  const short = label.length <= room ? label : `…${label.slice(label.length - room + 1)}`;
  return `tsrun: ${short}: ${text}`.slice(0, columns);
};

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
