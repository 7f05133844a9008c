/** The machine as the embedded engine shows it: every question is one call of `__host` (native/host.def). */
import { EIO, type Errno, failed, type Host } from '../util/host.ts';
import { CALLS, parseEntries, parseIds, parseList, parseStat } from './host-calls.ts';

type Argument = string | number;

/** The one door of the engine: number and arguments in; a byte string, a number, or a negative errno out. */
export type HostCall = (number: number, ...args: readonly Argument[]) => string | number;

export const engineHost = (call: HostCall): Host => {
  const text = (number: number, ...args: readonly Argument[]): string | Errno => {
    const answer = call(number, ...args);
    return typeof answer === 'string' ? answer : answer < 0 ? answer : EIO;
  };
  const number = (code: number, ...args: readonly Argument[]): number => {
    const answer = call(code, ...args);
    return typeof answer === 'number' ? answer : EIO;
  };
  const parsed = <T>(answer: string | Errno, parse: (text: string) => T): T | Errno => (failed(answer) ? answer : parse(answer));
  const must = (answer: string | Errno): string => {
    if (failed(answer)) throw new Error(`a host call failed with errno ${-answer}`);
    return answer;
  };
  const uname = (field: number): string => parseList(must(text(CALLS.uname)))[field] ?? '';
  return {
    args: () => parseList(must(text(CALLS.args))),
    environ: () => parseList(must(text(CALLS.environ))),
    getcwd: () => text(CALLS.getcwd),
    ids: () => parseIds(must(text(CALLS.ids))),
    machine: () => uname(3),
    hostname: () => uname(1),
    selfExe: () => text(CALLS.self_exe),
    isTerminal: (descriptor) => number(CALLS.isatty, descriptor) === 1,
    stat: (path) => parsed(text(CALLS.stat, path), parseStat),
    lstat: (path) => parsed(text(CALLS.lstat, path), parseStat),
    access: (path, mode) => {
      const answer = number(CALLS.access, path, mode);
      return answer < 0 ? answer : 0;
    },
    fileSystemType: (path) => parsed(text(CALLS.statfs, path), (line) => Number.parseInt(line, 10)),
    readlink: (path) => text(CALLS.readlink, path),
    readdir: (path, limit) => parsed(text(CALLS.readdir, path, limit), parseEntries),
    read: (path, offset, limit) => text(CALLS.read, path, offset, limit),
    openKeep: (path) => number(CALLS.open_keep, path),
    pread: (handle, offset, length) => text(CALLS.pread, handle, offset, length),
    fstat: (handle) => parsed(text(CALLS.fstat, handle), parseStat),
    keepsHandles: true,
    getent: (database, key) => text(CALLS.getent, database, key),
    log: (line) => {
      call(CALLS.log, line);
    },
  };
};
