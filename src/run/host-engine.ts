/** The machine as the embedded engine shows it: every question is one call of `__host` (native/host.def). */
import { EIO, type Errno, type Host } from '../util/host.ts';
import { CALLS, parseEntries, parseIds, parseList, parseStat } from './host-calls.ts';

type Argument = string | number;

/** The one door of the engine: number and arguments in; a byte string, a number, or a negative errno out. */
export type HostCall = (number: number, ...args: readonly Argument[]) => string | number;

/** An answer of the kind that the call has: what should be a text and is a number says what went wrong. */
const text = (answer: string | number): string | Errno => (typeof answer === 'string' ? answer : answer < 0 ? answer : EIO);
const number = (answer: string | number): number => (typeof answer === 'number' ? answer : EIO);

const parsed = <T>(answer: string | number, parse: (text: string) => T): T | Errno =>
  typeof answer === 'string' ? parse(answer) : answer < 0 ? answer : EIO;

const must = (answer: string | number): string => {
  if (typeof answer === 'number') throw new Error(`a host call failed with errno ${-answer}`);
  return answer;
};

/** @param door the global object: its `__host` is looked up at each call, since it is there only while the native program asks. */
export const engineHost = (door: { readonly __host: HostCall }): Host => {
  const uname = (field: number): string => parseList(must(door.__host(CALLS.uname)))[field] ?? '';
  return {
    args: () => parseList(must(door.__host(CALLS.args))),
    environ: () => parseList(must(door.__host(CALLS.environ))),
    getcwd: () => text(door.__host(CALLS.getcwd)),
    ids: () => parseIds(must(door.__host(CALLS.ids))),
    machine: () => uname(3),
    hostname: () => uname(1),
    selfExe: () => text(door.__host(CALLS.self_exe)),
    isTerminal: (descriptor) => number(door.__host(CALLS.isatty, descriptor)) === 1,
    stat: (path) => parsed(door.__host(CALLS.stat, path), parseStat),
    lstat: (path) => parsed(door.__host(CALLS.lstat, path), parseStat),
    access: (path, mode) => {
      const answer = number(door.__host(CALLS.access, path, mode));
      return answer < 0 ? answer : 0;
    },
    fileSystemType: (path) => parsed(door.__host(CALLS.statfs, path), (line) => Number.parseInt(line, 10)),
    readlink: (path) => text(door.__host(CALLS.readlink, path)),
    readdir: (path, limit) => parsed(door.__host(CALLS.readdir, path, limit), parseEntries),
    read: (path, offset, limit) => text(door.__host(CALLS.read, path, offset, limit)),
    lines: (path, values) => text(door.__host(CALLS.lines, path, values.join(':'))),
    openKeep: (path) => number(door.__host(CALLS.open_keep, path)),
    pread: (handle, offset, length) => text(door.__host(CALLS.pread, handle, offset, length)),
    fstat: (handle) => parsed(door.__host(CALLS.fstat, handle), parseStat),
    keepsHandles: true,
    getent: (database, key) => text(door.__host(CALLS.getent, database, key)),
    fnv64: (value) => must(door.__host(CALLS.fnv64, value)),
    log: (line) => {
      door.__host(CALLS.log, line);
    },
  };
};
