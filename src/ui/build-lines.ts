/** A build told in plain lines, for logs and pipes: one for each step, and every ten seconds what is under way. */
import type { BuildEvent, BuildListener } from '../build/events.ts';
import { createBuildState, durationText, endedNumbers, lineText, sizeText, stepMark, stepsText, taskNumbers } from './build-view.ts';

export type Lines = { readonly hear: BuildListener; readonly tick: () => void };

const INTERVAL = 10_000;

/** @param outputToo every line of the steps' programs as well; @param now milliseconds of `performance.now()` */
export const createLines = (write: (text: string) => void, outputToo: boolean, now: () => number): Lines => {
  const state = createBuildState();
  let told = 0;
  let notes = 0;
  let next = now() + INTERVAL;

  const say = (text: string): void => {
    write(`tsrun: ${text}\n`);
    next = now() + INTERVAL;
  };

  const tellEnded = (): void => {
    const { ended } = state.view(now());
    for (; told < ended.length; told++) {
      const each = ended[told];
      if (each === undefined) continue;
      say(`${stepMark(each.step, each.stage)} ${each.step.title}: ${endedNumbers(each)}`);
      // The end of it: the cause is seldom far from it. What was shown as it came is not repeated.
      if (each.how === 'failed' && !outputToo) for (const line of each.output) write(`  ${line}\n`);
    }
  };

  return {
    hear: (event: BuildEvent) => {
      state.hear(event);
      if (event.kind === 'output' && outputToo) write(`  ${lineText(event.line)}`.trimEnd().concat('\n'));
      tellEnded();
      const view = state.view(now());
      for (; notes < view.notes.length; notes++) say(view.notes[notes] ?? '');
      if (event.kind === 'done')
        say(
          `${view.target}: ${sizeText(event.bytes)}${stepsText(event.steps)} (${event.cached} cached), ${durationText(event.milliseconds)}`,
        );
    },
    tick: () => {
      if (now() < next) return;
      const { running, tasks } = state.view(now());
      for (const { step, stage, milliseconds, output } of running) {
        const last = output.at(-1);
        say(`${stepMark(step, stage)} ${step.title}: ${durationText(milliseconds)}${last === undefined ? '' : `: ${last}`}`);
      }
      for (const task of tasks) say(`${task.text}: ${taskNumbers(task)}`);
      next = now() + INTERVAL;
    },
  };
};
