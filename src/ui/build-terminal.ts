/** The part of showing a build that needs ink and React: loaded when there is something to draw. They are bundled with it, so it names them statically. */
import { render } from 'ink';
import { createElement, type ReactElement } from 'react';
import { BuildScreen } from './build-screen.ts';
import type { BuildView } from './build-view.ts';

export type Screen = { readonly draw: () => void; readonly close: () => Promise<void> };

/** Draws once. @param view what to show at a time of `performance.now()` */
export const openScreen = (output: NodeJS.WriteStream, view: (now: number) => BuildView): Screen => {
  let frame = 0;
  const element = (): ReactElement =>
    createElement(BuildScreen, { view: view(performance.now()), frame: frame++, rows: output.rows || 24, columns: output.columns || 80 });
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
