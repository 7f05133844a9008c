/** The bytes of one regular file on their way from the archive to the handler: runs of data, and the holes around them. */
import type { TarHandler } from './read.ts';
import type { SparseRun } from './sparse.ts';

type Wait = void | Promise<void>;

export type FileData = {
  /** `runs` in order; the file is `size` bytes long, holes included. */
  start(size: number, runs: readonly SparseRun[]): Wait;
  /** Hands on what of `chunk` from `at` belongs to the file. */
  feed(chunk: Buffer, at: number): { readonly used: number; readonly wait: Wait };
};

/** `finished` is called after the handler's `endFile`. */
export const createFileData = (handler: TarHandler, finished: () => void): FileData => {
  let runs: readonly SparseRun[] = [];
  let index = 0;
  let runLeft = 0;
  let position = 0;
  let size = 0;

  /** On to the next bytes that are stored, over the hole before them, or to the end of the file. */
  const advance = (): Wait => {
    while (index < runs.length) {
      const run = runs[index++] as SparseRun;
      const gap = run.offset - position;
      position = run.offset + run.length;
      runLeft = run.length;
      const wait = gap > 0 ? handler.hole(gap) : undefined;
      if (wait !== undefined) return runLeft > 0 ? wait : wait.then(advance);
      if (runLeft > 0) return undefined;
    }
    const wait = size > position ? handler.hole(size - position) : undefined;
    return wait === undefined ? end() : wait.then(end);
  };

  const end = (): void => {
    handler.endFile();
    finished();
  };

  return {
    start: (fileSize, fileRuns) => {
      runs = fileRuns;
      index = 0;
      position = 0;
      size = fileSize;
      return advance();
    },
    feed: (chunk, at) => {
      const used = Math.min(runLeft, chunk.length - at);
      runLeft -= used;
      const wait = handler.data(chunk.subarray(at, at + used));
      if (runLeft > 0) return { used, wait };
      return { used, wait: wait === undefined ? advance() : wait.then(advance) };
    },
  };
};
