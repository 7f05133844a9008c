/** What reaches the terminal: errors with cause and cure, notes, and nothing at all on success. */
import { EXIT_TSRUN, formatError, TsrunError } from '../util/errors.ts';
import { readable } from '../util/utf8.ts';

/** Prints the error and returns the exit status. An error that is not ours is a mistake in tsrun: it says so, with the stack on --debug. */
export const reportFailure = (error: unknown, debug: boolean, write: (text: string) => void = writeStderr): number => {
  if (error instanceof TsrunError) {
    write(readable(formatError(error)));
    if (debug && error.cause !== undefined) write(`${stackOf(error.cause)}\n`);
    return error.exitCode;
  }
  write(
    formatError(
      new TsrunError({
        code: 'E_INTERNAL',
        what: 'an unexpected error',
        why: error instanceof Error ? error.message : String(error),
        hint: debug ? undefined : 'this is a mistake in tsrun: run it again with --debug and report what it prints',
      }),
    ),
  );
  if (debug) write(`${stackOf(error)}\n`);
  return EXIT_TSRUN;
};

const stackOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

const writeStderr = (text: string): void => {
  process.stderr.write(text);
};

export const note = (text: string, quiet: boolean): void => {
  if (!quiet) writeStderr(`tsrun: ${text}\n`);
};
