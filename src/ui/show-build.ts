/**
 * Shows a build while it works. On a terminal with ink, which is loaded only when the work takes longer than a moment; elsewhere in lines.
 * Drawing has a rhythm of its own: however fast events come, the screen is drawn ten times a second.
 */
import type { BuildEvent, BuildListener } from '../build/events.ts';
import { createLines } from './build-lines.ts';
import { createBuildState } from './build-view.ts';

export type ShowOptions = {
  /** Usually process.stderr: stdout is for what a program may read. */
  readonly output: NodeJS.WriteStream;
  readonly quiet: boolean;
  /** Every line that steps write. On a terminal they are then told in lines too. */
  readonly verbose: boolean;
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

export const showBuild = ({ output, quiet, verbose }: ShowOptions): Shown => {
  if (quiet) return { hear: () => {}, end: async () => {} };
  const capable = output.isTTY === true && process.env['TERM'] !== 'dumb';
  return capable && !verbose ? onTerminal(output) : inLines(output, verbose);
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

type Screen = { readonly draw: () => void; readonly close: () => Promise<void> };

const onTerminal = (output: NodeJS.WriteStream): Shown => {
  const state = createBuildState();
  let screen: Screen | undefined;
  let opening: Promise<void> | undefined;
  let failed: unknown;
  const open = (): void => {
    opening ??= openScreen(output, state.view).then(
      (opened) => {
        screen = opened;
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

const openScreen = async (output: NodeJS.WriteStream, view: (now: number) => ReturnType<ReturnType<typeof createBuildState>['view']>) => {
  const [{ render }, { createElement }, { BuildScreen }] = await Promise.all([import('ink'), import('react'), import('./build-screen.ts')]);
  let frame = 0;
  const element = () =>
    createElement(BuildScreen, {
      view: view(performance.now()),
      frame: frame++,
      rows: output.rows || 24,
      columns: output.columns || 80,
    });
  // Ctrl-C belongs to cli/interrupt.ts, and what others print is not ours to move.
  const app = render(element(), { stdout: output, stderr: output, exitOnCtrlC: false, patchConsole: false });
  return {
    draw: () => app.rerender(element()),
    close: async () => {
      const over = app.waitUntilExit();
      app.unmount();
      await over;
    },
  };
};
