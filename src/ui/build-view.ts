/**
 * What a build's events add up to, as plain values for whoever draws them: steps that are over, what is under way, how long, how fast. No
 * terminal in here, no clock but the times of the events.
 */
import type { BuildEvent, StepInfo } from '../build/events.ts';
import { printableLine } from '../util/printable.ts';
import { readable } from '../util/utf8.ts';

export type EndedStep = {
  readonly step: StepInfo;
  readonly stage: string;
  readonly how: 'done' | 'cached' | 'failed';
  readonly milliseconds: number;
  readonly bytes: number;
  /** Of a failed one. */
  readonly status: number | undefined;
  readonly output: readonly string[];
};

export type RunningStep = {
  readonly step: StepInfo;
  readonly stage: string;
  readonly milliseconds: number;
  /** The last lines, clean of control characters. */
  readonly output: readonly string[];
};

export type RunningTask = {
  readonly id: number;
  /** "fetching docker://…" */
  readonly text: string;
  readonly done: number;
  readonly total: number | undefined;
  /** Bytes in a second over the last seconds. */
  readonly rate: number | undefined;
  readonly milliseconds: number;
};

export type BuildView = {
  readonly target: string;
  readonly milliseconds: number;
  readonly steps: { readonly over: number; readonly all: number };
  /** Whether the results of steps are kept for the next build. */
  readonly keeps: boolean;
  readonly ended: readonly EndedStep[];
  readonly running: readonly RunningStep[];
  readonly tasks: readonly RunningTask[];
  readonly notes: readonly string[];
  readonly end: 'done' | 'failed' | undefined;
  readonly result: { readonly bytes: number; readonly cached: number } | undefined;
};

export type BuildState = {
  hear(event: BuildEvent): void;
  /** @param now milliseconds of `performance.now()` */
  view(now: number): BuildView;
};

/** Of a running step. */
const KEPT_LINES = 200;
const RATE_WINDOW = 5_000;

type Task = {
  readonly id: number;
  readonly text: string;
  readonly since: number;
  done: number;
  total: number | undefined;
  samples: { readonly at: number; readonly done: number }[];
};

export const createBuildState = (): BuildState => {
  let target = '';
  let began: number | undefined;
  let ended = 0;
  let all = 0;
  let keeps = false;
  let end: BuildView['end'];
  let result: BuildView['result'];
  const stages = new Map<number, string>();
  const over: EndedStep[] = [];
  const notes: string[] = [];
  const running = new Map<number, { readonly step: StepInfo; readonly since: number; readonly output: string[] }>();
  const tasks = new Map<number, Task>();

  const stageOf = (step: StepInfo): string => stages.get(step.stage) ?? '';

  const endStep = (id: number, at: number, more: Pick<EndedStep, 'how' | 'bytes' | 'status' | 'output'>): void => {
    const found = running.get(id);
    if (found === undefined) return;
    running.delete(id);
    over.push({ step: found.step, stage: stageOf(found.step), milliseconds: at - found.since, ...more });
  };

  const hear = (event: BuildEvent): void => {
    began ??= event.at;
    ended = Math.max(ended, event.at);
    switch (event.kind) {
      case 'plan':
        target = event.target;
        all = event.steps;
        keeps = event.keeps;
        // A single stage needs no name.
        if (event.stages.length > 1) for (const { index, name } of event.stages) stages.set(index, shown(name));
        break;
      case 'stage-started':
      case 'stage-done':
        break;
      case 'step-started':
        running.set(event.step.id, { step: shownStep(event.step), since: event.at, output: [] });
        break;
      case 'step-cached':
        over.push({
          step: shownStep(event.step),
          stage: stageOf(event.step),
          how: 'cached',
          milliseconds: 0,
          bytes: 0,
          status: 0,
          output: [],
        });
        break;
      case 'output': {
        const lines = running.get(event.step)?.output;
        if (lines === undefined) break;
        const text = lineText(event.line);
        if (text !== '') lines.push(text);
        if (lines.length > 2 * KEPT_LINES) lines.splice(0, lines.length - KEPT_LINES);
        break;
      }
      case 'step-done':
        endStep(event.step, event.at, { how: 'done', bytes: event.bytes, status: 0, output: [] });
        break;
      case 'step-failed':
        endStep(event.step, event.at, { how: 'failed', bytes: 0, status: event.status, output: event.output.map(lineText) });
        break;
      case 'task-started': {
        const text = `${TASKS[event.task]} ${shown(event.label)}`.trim();
        tasks.set(event.id, { id: event.id, text, since: event.at, done: 0, total: undefined, samples: [] });
        break;
      }
      case 'task-progress': {
        const task = tasks.get(event.id);
        if (task === undefined) break;
        task.done = event.done;
        task.total = event.total;
        task.samples.push({ at: event.at, done: event.done });
        while (task.samples.length > 2 && event.at - (task.samples[1]?.at ?? event.at) >= RATE_WINDOW) task.samples.shift();
        break;
      }
      case 'task-done':
        tasks.delete(event.id);
        break;
      case 'note':
        notes.push(shown(event.text));
        break;
      case 'done':
        end = 'done';
        result = { bytes: event.bytes, cached: event.cached };
        break;
      case 'failed':
        end = 'failed';
        break;
      default:
        event satisfies never;
    }
  };

  const view = (now: number): BuildView => {
    const time = end === undefined ? now : ended;
    return {
      target,
      milliseconds: began === undefined ? 0 : time - began,
      steps: { over: over.length, all },
      keeps,
      ended: over,
      running: [...running.values()].map(({ step, since, output }) => ({ step, stage: stageOf(step), milliseconds: time - since, output })),
      tasks: [...tasks.values()].map(({ id, text, since, done, total, samples }) => ({
        id,
        text,
        done,
        total,
        rate: rateOf(samples),
        milliseconds: time - since,
      })),
      notes,
      end,
      result,
    };
  };

  return { hear, view };
};

const TASKS: Readonly<Record<Extract<BuildEvent, { kind: 'task-started' }>['task'], string>> = {
  fetch: 'fetching',
  unpack: 'unpacking',
  wait: 'waiting for',
  write: 'writing',
  test: 'testing',
};

const rateOf = (samples: Task['samples']): number | undefined => {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined || last.at - first.at < 500 || last.done <= first.done) return undefined;
  return ((last.done - first.done) / (last.at - first.at)) * 1000;
};

/** What stands in recipes are byte strings. */
const shown = (text: string): string => printableLine(readable(text));
const shownStep = (step: StepInfo): StepInfo => ({ ...step, title: shown(step.title) });

/** Colours and cursor movements of a program are not for our screen; of a line that was written over, the last state counts. */
export const lineText = (line: string): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what goes
  const plain = line.replace(/\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])/g, '');
  const last = plain.replace(/\r+$/, '');
  return printableLine(last.slice(last.lastIndexOf('\r') + 1).replaceAll('\t', '    ')).trimEnd();
};

// --- numbers for people

/** "0.4 s", "12 s", "3 min 05 s", "1 h 02 min" */
export const durationText = (milliseconds: number): string => {
  const seconds = milliseconds / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor(whole / 60) % 60).padStart(2, '0')} min`;
};

/** "830 kB", "4.2 MB", "1.3 GB" */
export const bytesText = (bytes: number): string => {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  const [amount, unit] = bytes < 1e9 ? [bytes / 1e6, 'MB'] : [bytes / 1e9, 'GB'];
  return `${amount.toFixed(amount < 10 ? 1 : 0)} ${unit}`;
};

/** "[2/5]", "[build 2/5]" */
export const stepMark = (step: StepInfo, stage: string): string => `[${stage === '' ? '' : `${stage} `}${step.number}/${step.of}]`;

/** For somebody who has interrupted it: what was under way, and what there is now. */
export const interruptedText = ({ target, running, tasks, ended, keeps, end }: BuildView): string => {
  if (end === 'done') return `interrupted in the second build: ${target} is written, and was not compared`;
  const [step] = running;
  const [task] = tasks;
  const at =
    step !== undefined ? ` in ${stepMark(step.step, step.stage)} ${step.step.title}` : task !== undefined ? ` while ${task.text}` : '';
  const finished = ended.filter(({ how }) => how !== 'failed').length;
  const kept =
    finished === 0
      ? 'no step was finished'
      : keeps
        ? `${stepsText(finished)} before it ${finished === 1 ? 'is' : 'are'} kept for the next build`
        : 'no step is kept here';
  return `interrupted${at}: ${target} was not written; ${kept}`;
};

export const stepsText = (count: number): string => `${count} ${count === 1 ? 'step' : 'steps'}`;

/** "120 of 200 MB, 45 MB/s, 3.1 s" */
export const taskNumbers = ({ done, total, rate, milliseconds }: RunningTask): string =>
  [
    done === 0 && total === undefined ? '' : total === undefined ? bytesText(done) : `${bytesText(done)} of ${bytesText(total)}`,
    rate === undefined ? '' : `${bytesText(rate)}/s`,
    durationText(milliseconds),
  ]
    .filter((part) => part !== '')
    .join(', ');

/** Of what was written, before more is said of it; a directory has no size of its own. */
export const sizeText = (bytes: number): string => (bytes === 0 ? '' : `${bytesText(bytes)}, `);

export const endedNumbers = ({ how, milliseconds, bytes, status }: EndedStep): string => {
  switch (how) {
    case 'cached':
      return 'cached';
    case 'failed':
      return `${status === undefined ? 'failed' : `exit status ${status}`} after ${durationText(milliseconds)}`;
    case 'done':
      return bytes === 0 ? durationText(milliseconds) : `${durationText(milliseconds)}, ${bytesText(bytes)}`;
    default:
      return how satisfies never;
  }
};
