/** Runs programs side by side: interleaved rounds, wall time, CPU time and peak memory of the whole process tree, medians and ratios. */
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export type Contender = {
  readonly name: string;
  /** For `sh -c`. */
  readonly command: string;
  readonly env?: Readonly<Record<string, string>>;
};

export type Sample = {
  readonly seconds: number;
  /** Sum of the peaks of all processes of the tree: what they can have held at most at once. */
  readonly peakBytes: number;
};

export type Summary = {
  readonly name: string;
  readonly medianSeconds: number;
  readonly peakBytes: number;
  readonly samples: readonly Sample[];
};

const POLL_MILLISECONDS = 10;

/** @throws Error when the command fails */
export const measureOnce = async ({ name, command, env }: Contender): Promise<Sample> => {
  const started = performance.now();
  const child = spawn('sh', ['-c', command], { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } });
  let complaint = '';
  child.stderr.on('data', (text: Buffer) => {
    complaint = (complaint + text.toString()).slice(-2000);
  });
  const peaks = new Map<number, number>();
  const poll = setInterval(() => recordPeaks(child.pid ?? 0, peaks), POLL_MILLISECONDS);
  const status = await new Promise<number | null>((done) => child.on('close', done));
  clearInterval(poll);
  if (status !== 0) throw new Error(`${name}: ${command} ended with ${status}\n${complaint}`);
  const seconds = (performance.now() - started) / 1000;
  return { seconds, peakBytes: [...peaks.values()].reduce((sum, peak) => sum + peak, 0) };
};

/** VmHWM only grows while a process lives, so the last look at it is its peak but for the last milliseconds. */
const recordPeaks = (root: number, peaks: Map<number, number>): void => {
  for (const pid of processTree(root)) {
    const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(readQuietly(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
    if (peak > 0) peaks.set(pid, Math.max(peak, peaks.get(pid) ?? 0));
  }
};

const processTree = (root: number): readonly number[] => {
  const tree = [root];
  for (const pid of tree) {
    for (const thread of listQuietly(`/proc/${pid}/task`)) {
      tree.push(...readQuietly(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean).map(Number));
    }
  }
  return tree;
};

const readQuietly = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // it has ended
  }
};

const listQuietly = (path: string): readonly string[] => {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
};

/**
 * Every contender once in each round, so that what else happens on the machine meets all alike; each round begins with another one. Before each run what the one before it has
 * written is on the disk, and `inputs` are in memory: some systems take the page cache back within seconds, and then the first to read would pay for the others.
 */
export const compare = async (
  contenders: readonly Contender[],
  rounds: number,
  onRun: (text: string) => void,
  inputs: readonly string[] = [],
): Promise<readonly Summary[]> => {
  const samples = contenders.map((): Sample[] => []);
  for (let round = 1; round <= rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const at = (turn + round - 1) % contenders.length;
      const contender = contenders[at] as Contender;
      execFileSync('sh', ['-c', 'sync; cat "$@" >/dev/null', 'sh', ...inputs], { stdio: ['ignore', 'ignore', 'inherit'] });
      const sample = await measureOnce(contender);
      samples[at]?.push(sample);
      onRun(`${round}/${rounds} ${contender.name}: ${sample.seconds.toFixed(2)} s, ${megabytes(sample.peakBytes)}`);
    }
  }
  return contenders.map(({ name }, at) => summarize(name, samples[at] ?? []));
};

export const summarize = (name: string, samples: readonly Sample[]): Summary => ({
  name,
  medianSeconds: median(samples.map(({ seconds }) => seconds)),
  peakBytes: Math.max(...samples.map(({ peakBytes }) => peakBytes)),
  samples,
});

export const median = (values: readonly number[]): number => spreadOf(values).median;

/** What lies in the middle of so many values: their median, and between which two the middle half of them lies. */
export type Spread = { readonly median: number; readonly lower: number; readonly upper: number };

export const spreadOf = (values: readonly number[]): Spread => {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (part: number): number => {
    const place = (sorted.length - 1) * part;
    const [below = Number.NaN, above = below] = sorted.slice(Math.floor(place));
    return below + (above - below) * (place % 1);
  };
  return { median: at(0.5), lower: at(0.25), upper: at(0.75) };
};

/** Median of the ratios of each round: both sides of a pair ran at nearly the same time. */
export const pairedRatio = (ours: Summary, theirs: Summary): number =>
  median(ours.samples.map(({ seconds }, at) => seconds / (theirs.samples[at]?.seconds ?? Number.NaN)));

export const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
