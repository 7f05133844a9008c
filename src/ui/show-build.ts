/**
 * Shows a build while it works. On a terminal with ink, which is loaded only when the work takes longer than a moment; elsewhere in lines.
 * Drawing has a rhythm of its own: however fast events come, the screen is drawn ten times a second.
 */
import type { BuildEvent, BuildListener } from '../build/events.ts';
import { createLines } from './build-lines.ts';
import type { Screen } from './build-terminal.ts';
import { createBuildState } from './build-view.ts';

export type ShowOptions = {
  /** Usually process.stderr: stdout is for what a program may read. */
  readonly output: NodeJS.WriteStream;
  readonly quiet: boolean;
  /** Every line that steps write. On a terminal they are then told in lines too. */
  readonly verbose: boolean;
  /** A shell may come into the terminal (--debug-shell): nothing is drawn over what stands there. */
  readonly shared?: boolean;
};

export type Shown = {
  readonly hear: BuildListener;
  /** Draws for the last time; to be awaited before anything else is printed. */
  end(): Promise<void>;
};

/** Work that is done sooner is told in its last state only. */
const PATIENCE = 200;
const FRAME = 100;
const SECOND = 1_000;

export const showBuild = ({ output, quiet, verbose, shared = false }: ShowOptions): Shown => {
  if (quiet) return { hear: () => {}, end: async () => {} };
  const capable = output.isTTY === true && process.env['TERM'] !== 'dumb';
  return capable && !verbose && !shared ? onTerminal(output) : inLines(output, verbose);
};

const inLines = (output: NodeJS.WriteStream, verbose: boolean): Shown => {
  const lines = createLines(
    (text) => output.write(text),
    verbose,
    () => performance.now(),
  );
  const timer = setInterval(lines.tick, SECOND);
  timer.unref();
  return { hear: lines.hear, end: async () => clearInterval(timer) };
};

const onTerminal = (output: NodeJS.WriteStream): Shown => {
  const state = createBuildState();
  let screen: Screen | undefined;
  let opening: Promise<void> | undefined;
  let failed: unknown;
  const open = (): void => {
    opening ??= import('./build-terminal.ts').then(
      ({ openScreen }) => {
        screen = openScreen(output, state.view);
      },
      (error: unknown) => {
        failed = error;
      },
    );
  };
  const patience = setTimeout(open, PATIENCE);
  const frames = setInterval(() => screen?.draw(), FRAME);
  frames.unref();
  return {
    hear: (event: BuildEvent) => state.hear(event),
    end: async () => {
      clearTimeout(patience);
      clearInterval(frames);
      open();
      await opening;
      if (failed !== undefined) throw failed;
      screen?.draw();
      await screen?.close();
    },
  };
};
