/**
 * Output that appears whole or not at all: written to a temporary file beside the target, then renamed over it. A failure, an
 * exit or a signal removes the temporary file and leaves what was at the target; two writers of one target do not meet.
 */
import { randomBytes } from 'node:crypto';
import { accessSync, closeSync, constants, openSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { TsrunError } from './errors.ts';

const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const unfinished = new Set<string>();

const removeUnfinished = (): void => {
  for (const path of unfinished) removeIfThere(path);
};

const removeIfThere = (path: string): void => {
  try {
    unlinkSync(path);
  } catch {
    // Renamed or removed already, or the directory has gone: nothing of ours is left.
  }
};

/** Removes what is unfinished, then lets the signal do what it would have done without us. */
const onSignal = (signal: NodeJS.Signals): void => {
  removeUnfinished();
  stopWatching();
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
};

const startWatching = (): void => {
  for (const signal of ENDING_SIGNALS) process.on(signal, onSignal);
  process.on('exit', removeUnfinished);
};

const stopWatching = (): void => {
  for (const signal of ENDING_SIGNALS) process.off(signal, onSignal);
  process.off('exit', removeUnfinished);
};

/** The usual reasons in words, without the temporary name that Node's own message has. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'its directory does not exist',
  ENOTDIR: 'a part of its path is not a directory',
  EACCES: 'you may not write in its directory',
  EPERM: 'you may not write in its directory',
  EROFS: 'its file system is read-only',
  ENAMETOOLONG: 'its name is too long',
  ELOOP: 'its path has too many symbolic links',
  EISDIR: 'it is a directory',
};

const outputError = (path: string, error: unknown): unknown => {
  if (error instanceof TsrunError || !(error instanceof Error) || !('code' in error) || !('syscall' in error)) return error;
  const full = error.code === 'ENOSPC' || error.code === 'EDQUOT';
  return new TsrunError({
    code: full ? 'E_OUTPUT_FULL' : 'E_OUTPUT',
    what: `cannot write ${path}`,
    why: full ? 'the file system or the quota is full' : (REASONS[String(error.code)] ?? error.message),
    hint: full ? 'free some space, or write to another file system; nothing was left behind' : 'check the directory and its permissions',
    cause: error,
  });
};

/**
 * Before long work starts: could a file be made beside `path`?
 * @throws TsrunError E_OUTPUT
 */
export const requireDirectory = (path: string): void => {
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) throw isDirectory(path);
    accessSync(dirname(path), constants.W_OK | constants.X_OK);
  } catch (error) {
    throw outputError(path, error);
  }
};

const isDirectory = (path: string): TsrunError =>
  new TsrunError({ code: 'E_OUTPUT', what: `cannot write ${path}`, why: 'it is a directory', hint: 'give the name of a file' });

const openBeside = (path: string, mode: number): { readonly fd: number; readonly temporary: string } => {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
    throw isDirectory(path);
  }
  const temporary = join(dirname(path), `.${basename(path).slice(0, 200)}.${randomBytes(6).toString('hex')}.tmp`);
  return { fd: openSync(temporary, 'wx+', mode), temporary };
};

/**
 * Calls `write` with a new, empty file open for reading and writing; when it is done the file is at `path`.
 * `mode` is subject to the umask. Errors: E_OUTPUT, E_OUTPUT_FULL, and what `write` throws.
 */
export const writeOutputFile = async <T>(path: string, mode: number, write: (fd: number) => Promise<T>): Promise<T> => {
  let temporary: string | undefined;
  try {
    const opened = openBeside(path, mode);
    temporary = opened.temporary;
    if (unfinished.size === 0) startWatching();
    unfinished.add(temporary);
    let result: T;
    try {
      result = await write(opened.fd);
    } finally {
      // Network file systems tell of a full disk or quota only now, so this error counts like one of a write.
      closeSync(opened.fd);
    }
    renameSync(temporary, path);
    return result;
  } catch (error) {
    if (temporary !== undefined) removeIfThere(temporary);
    throw outputError(path, error);
  } finally {
    if (temporary !== undefined) {
      unfinished.delete(temporary);
      if (unfinished.size === 0) stopWatching();
    }
  }
};
