/** A build on a terminal: what is over scrolls away above, what is under way stays below and is drawn over. */
import { Box, Static, Text } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import {
  type BuildView,
  durationText,
  type EndedStep,
  endedNumbers,
  type RunningStep,
  type RunningTask,
  sizeText,
  stepMark,
  stepsText,
  taskNumbers,
} from './build-view.ts';

/** `frame` counts up; it turns the spinner. `rows`: of the terminal. */
export type ScreenProps = { readonly view: BuildView; readonly frame: number; readonly rows: number; readonly columns: number };

type Item = { readonly key: string; readonly element: ReactElement };

export const BuildScreen = ({ view, frame, rows, columns }: ScreenProps): ReactElement => {
  const items: readonly Item[] = [
    ...view.ended.map((ended) => ({ key: `step ${ended.step.id}`, element: h(Ended, { ended, columns }) })),
    ...view.notes.map((text, at) => ({ key: `note ${at}`, element: h(Text, { color: 'yellow', wrap: 'wrap' }, `! ${text}`) })),
  ];
  return h(
    Box,
    { flexDirection: 'column' },
    // biome-ignore lint/correctness/noChildrenProp: what Static draws is a function of its items
    h(Static<Item>, { items: [...items], children: (item: Item) => h(Box, { key: item.key }, item.element) }),
    view.end === undefined ? h(UnderWay, { view, frame, rows, columns }) : h(Summary, { view }),
  );
};

/** The title gives way to the numbers. */
const Line = ({ mark, title, numbers, columns }: { mark: ReactElement; title: string; numbers: string; columns: number }): ReactElement => {
  const room = Math.max(10, columns - 2 - 2 - numbers.length - 1);
  const short = title.length > room ? `${title.slice(0, room - 1)}…` : title;
  return h(Text, { wrap: 'truncate-end' }, mark, ' ', short, h(Text, { dimColor: true }, `  ${numbers}`));
};

const MARKS: Readonly<Record<EndedStep['how'], ReactElement>> = {
  done: h(Text, { color: 'green' }, '✔'),
  cached: h(Text, { color: 'cyan' }, '='),
  failed: h(Text, { color: 'red' }, '✘'),
};

const Ended = ({ ended, columns }: { ended: EndedStep; columns: number }): ReactElement => {
  const title = `${stepMark(ended.step, ended.stage)} ${ended.step.title}`;
  const line = h(Line, { mark: MARKS[ended.how], title, numbers: endedNumbers(ended), columns });
  if (ended.how !== 'failed') return line;
  return h(
    Box,
    { flexDirection: 'column' },
    line,
    h(
      Box,
      {
        flexDirection: 'column',
        borderStyle: 'single',
        borderColor: 'red',
        borderRight: false,
        borderTop: false,
        borderBottom: false,
        paddingLeft: 1,
      },
      ...ended.output.map((text, at) => h(Text, { key: at, wrap: 'wrap' }, text)),
      ended.output.length === 0 ? h(Text, { dimColor: true }, '(it wrote nothing)') : null,
    ),
    h(Text, { dimColor: true }, `  ${ended.step.place}`),
  );
};

const SPINNER = '⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏';
/** Of one step; fewer when several are under way. */
const OUTPUT_LINES = 8;

const UnderWay = ({ view, frame, rows, columns }: ScreenProps): ReactElement => {
  const spinner = h(Text, { color: 'yellow' }, SPINNER[frame % SPINNER.length] ?? '');
  const count = view.running.length + view.tasks.length;
  // What is taller than the terminal cannot be drawn over.
  const lines = Math.min(OUTPUT_LINES, Math.floor((rows - 3 - count) / Math.max(1, view.running.length)));
  return h(
    Box,
    { flexDirection: 'column' },
    ...view.tasks.slice(0, Math.max(1, rows - 4)).map((task) => h(Task, { key: `task ${task.id}`, task, spinner, columns })),
    ...view.running.map((running) => h(Running, { key: `step ${running.step.id}`, running, spinner, lines: Math.max(0, lines), columns })),
    h(Text, { dimColor: true }, `  ${view.steps.over} of ${view.steps.all} steps, ${durationText(view.milliseconds)}`),
  );
};

const Running = (props: { running: RunningStep; spinner: ReactElement; lines: number; columns: number }): ReactElement => {
  const { running, spinner, lines, columns } = props;
  const title = `${stepMark(running.step, running.stage)} ${running.step.title}`;
  const output = lines === 0 ? [] : running.output.slice(-lines);
  return h(
    Box,
    { flexDirection: 'column' },
    h(Line, { mark: spinner, title, numbers: durationText(running.milliseconds), columns }),
    ...output.map((text, at) => h(Text, { key: at, dimColor: true, wrap: 'truncate-end' }, `  │ ${text}`)),
  );
};

const BAR = 20;

const Task = ({ task, spinner, columns }: { task: RunningTask; spinner: ReactElement; columns: number }): ReactElement => {
  const share = task.total === undefined || task.total === 0 ? undefined : Math.min(1, task.done / task.total);
  const filled = Math.round((share ?? 0) * BAR);
  const bar = share === undefined || columns < 70 ? '' : `${'━'.repeat(filled)}${'─'.repeat(BAR - filled)} `;
  return h(Line, { mark: spinner, title: task.text, numbers: `${bar}${taskNumbers(task)}`, columns });
};

const Summary = ({ view }: { view: BuildView }): ReactElement | null => {
  if (view.end !== 'done' || view.result === undefined) return null;
  const { over } = view.steps;
  const cached = view.result.cached === 0 ? '' : `, ${view.result.cached} cached`;
  const text = `${view.target}  ${sizeText(view.result.bytes)}${stepsText(over)}${cached}, ${durationText(view.milliseconds)}`;
  return h(Text, null, MARKS.done, ' ', text);
};
