/** What the registry client says of its blobs, as one task of a build's events: it begins with the first download and ends when none is under way. */
import type { Progress } from '../registry/types.ts';
import type { BuildListener } from './events.ts';

/** No other task of a build has it: those count from 1. */
const TASK = 0;

/** @param now milliseconds of `performance.now()` */
export const createFetchEvents = (hear: BuildListener, now: () => number): ((progress: Progress) => void) => {
  const blobs = new Map<string, { readonly bytes: number; readonly total: number; readonly done: boolean }>();
  let running = false;

  const tell = (): void => {
    const all = [...blobs.values()];
    const done = all.reduce((sum, blob) => sum + blob.bytes, 0);
    const total = all.reduce((sum, blob) => sum + blob.total, 0);
    if (!running) hear({ kind: 'task-started', at: now(), task: 'fetch', id: TASK, label: 'base images' });
    running = true;
    hear({ kind: 'task-progress', at: now(), id: TASK, done, total });
    if (!all.every((blob) => blob.done)) return;
    hear({ kind: 'task-done', at: now(), id: TASK, bytes: done });
    running = false;
    blobs.clear();
  };

  return (progress) => {
    switch (progress.kind) {
      case 'cached':
        break;
      case 'download':
      case 'waiting':
      case 'done':
        // A blob that was there as soon as it was asked for is no download.
        if (progress.kind === 'done' && !blobs.has(progress.digest)) break;
        blobs.set(progress.digest, { bytes: progress.bytes, total: progress.total, done: progress.kind === 'done' });
        tell();
        break;
      case 'retry':
        hear({ kind: 'note', at: now(), text: `${progress.why}; trying again in ${Math.ceil(progress.milliseconds / 1000)} s` });
        break;
      default:
        progress satisfies never;
    }
  };
};
