/** `tsrun optimize IN.sif OUT.sif -- command…`: run it once to see what it reads, then write the image again with that first. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { refuseExisting } from '../build/convert.ts';
import { type Optimized, optimizeImage } from '../build/optimize.ts';
import { openSquashFile, type SquashFile } from '../build/squash-file.ts';
import { TsrunError } from '../util/errors.ts';
import { nativeProgram } from '../util/native-program.ts';
import { requireDirectory } from '../util/output-file.ts';
import { threadsOf } from './build.ts';
import { interruptible } from './interrupt.ts';
import { createProgress } from './progress.ts';
import { note } from './report.ts';

export type OptimizeArguments = {
  readonly image: string;
  readonly target: string;
  readonly command: readonly string[];
  /** Where the record of the command is kept. */
  readonly record: string | undefined;
  /** Records that are there. */
  readonly replay: readonly string[];
  readonly threads: string | undefined;
  readonly force: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly env: NodeJS.ProcessEnv;
};

/** @throws TsrunError */
export const optimize = async (args: OptimizeArguments): Promise<void> => {
  const { command, record, replay, quiet } = args;
  if (command.length === 0 && replay.length === 0)
    throw usage('there is neither a command to run nor a record', `tsrun optimize ${args.image} ${args.target} -- COMMAND`);
  if (command.length === 0 && record !== undefined)
    throw usage('--record is about a command, and there is none', 'take --replay FILE for a record that is there');
  const image = openSquashFile(args.image);
  const target = resolve(args.target);
  const threads = threadsOf(args.threads);
  refuseExisting(target, args.force);
  requireDirectory(target);
  const scratch = command.length > 0 && record === undefined ? mkdtempSync(join(tmpdir(), 'tsrun-record-')) : undefined;
  try {
    const own = scratch === undefined ? record : join(scratch, 'record');
    if (command.length > 0) await runRecorded(image, own as string, command, args.env);
    const progress = createProgress(args.target, process.stderr, quiet);
    const made = await interruptible((signal) =>
      optimizeImage(image, [...(command.length > 0 ? [own as string] : []), ...replay], target, {
        force: args.force,
        threads,
        signal,
        onProgress: progress.converted,
      }).finally(progress.end),
    );
    tell(made, args);
  } finally {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
  }
};

const usage = (why: string, hint: string): TsrunError => new TsrunError({ code: 'E_USAGE', what: 'cannot optimize', why, hint });

const tell = ({ hotFiles, hotBytes, bytes, pieces, notes }: Optimized, { quiet, verbose }: OptimizeArguments): void => {
  for (const text of notes) note(text, quiet);
  if (verbose)
    note(`${hotFiles} files with ${megabytes(hotBytes)} of ${megabytes(bytes)} come first; ${pieces} blocks are read ahead`, quiet);
};

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Its output is the user's. A command that fails has not shown what a good run reads. */
const runRecorded = async (image: SquashFile, record: string, command: readonly string[], env: NodeJS.ProcessEnv): Promise<void> => {
  const child = spawn(nativeProgram(), ['exec', '--record', resolve(record), resolve(image.path), ...command], { stdio: 'inherit', env });
  // A Ctrl-C is for the command, which belongs to the terminal's foreground too; what it makes of it is seen below.
  const ignore = (): void => {};
  process.on('SIGINT', ignore);
  const [status, signal] = await new Promise<readonly [number | null, NodeJS.Signals | null]>((done, fail) => {
    child.on('error', fail);
    child.on('close', (...how) => done(how));
  }).finally(() => process.off('SIGINT', ignore));
  if (status === 0) return;
  throw new TsrunError({
    code: 'E_RECORD',
    what: `cannot optimize ${image.path}`,
    why: `the command ended with ${signal ?? `status ${status}`}: what it read says little of a good run`,
    hint: 'where such an end is usual: tsrun exec --record FILE IMAGE COMMAND, then tsrun optimize --replay FILE',
  });
};
