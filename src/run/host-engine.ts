/** The machine as the embedded engine shows it: every question is one call of `__host` (native/host.def). */
import { EIO, type Errno, type Fields, failed, type Host, type Stat } from '../util/host.ts';
import { CALLS, entryOf, idsOf, statOf } from './host-calls.ts';

/** A list, a byte string, a number, or a negative errno. */
export type HostAnswer = Fields | string | number;

/** The one door of the engine: number and arguments in, the answer out. */
export type HostCall = (number: number, ...args: readonly (string | number)[]) => HostAnswer;

/** An answer of the kind that the call has: what should be a text or a list and is a number says what went wrong. */
const text = (answer: HostAnswer): string | Errno => (typeof answer === 'string' ? answer : problem(answer));
const list = <Item extends string | number>(answer: HostAnswer): readonly Item[] | Errno =>
  typeof answer === 'object' ? (answer as readonly Item[]) : problem(answer);
const number = (answer: HostAnswer): number => (typeof answer === 'number' ? answer : EIO);
const problem = (answer: HostAnswer): Errno => (failed(answer) ? answer : EIO);

const stat = (answer: HostAnswer): Stat | Errno => (typeof answer === 'object' ? statOf(answer) : problem(answer));

const must = <T>(answer: T | Errno): T => {
  if (failed(answer)) throw new Error(`a host call failed with errno ${-answer}`);
  return answer as T;
};

/** @param door the global object: its `__host` is looked up at each call, since it is there only while the native program asks. */
export const engineHost = (door: { readonly __host: HostCall }): Host => {
  const uname = (field: number): string => must(list<string>(door.__host(CALLS.uname)))[field] ?? '';
  return {
    args: () => must(list<string>(door.__host(CALLS.args))),
    getenv: (name) => {
      const answer = door.__host(CALLS.getenv, name);
      return typeof answer === 'string' ? answer : undefined;
    },
    environ: (words) => must(list(door.__host(CALLS.environ, words))),
    getcwd: () => text(door.__host(CALLS.getcwd)),
    ids: () => idsOf(must(list<number>(door.__host(CALLS.ids)))),
    accounts: (name) => must(list(door.__host(CALLS.accounts, name))),
    findLine: (value, field, wanted) => text(door.__host(CALLS.find_line, value, field, wanted)),
    machine: () => uname(3),
    hostname: () => uname(1),
    selfExe: () => text(door.__host(CALLS.self_exe)),
    isTerminal: (descriptor) => number(door.__host(CALLS.isatty, descriptor)) === 1,
    stat: (path) => stat(door.__host(CALLS.stat, path)),
    lstat: (path) => stat(door.__host(CALLS.lstat, path)),
    sameFile: (one, other) => door.__host(CALLS.same_file, one, other) === 1,
    access: (path, mode) => {
      const answer = number(door.__host(CALLS.access, path, mode));
      return answer < 0 ? answer : 0;
    },
    fileSystemType: (path) => number(door.__host(CALLS.statfs, path)),
    readlink: (path) => text(door.__host(CALLS.readlink, path)),
    readdir: (path, limit) => {
      const entries = list<string>(door.__host(CALLS.readdir, path, limit));
      return failed(entries) ? entries : entries.map(entryOf);
    },
    read: (path, offset, limit) => text(door.__host(CALLS.read, path, offset, limit)),
    realPath: (path) => text(door.__host(CALLS.real_path, path)),
    openKeep: (path) => number(door.__host(CALLS.open_keep, path)),
    pread: (handle, offset, length) => text(door.__host(CALLS.pread, handle, offset, length)),
    fstat: (handle) => stat(door.__host(CALLS.fstat, handle)),
    unpack: (handle, offset, layout) => list(door.__host(CALLS.unpack, handle, offset, layout)),
    isLauncher: true,
    getent: (database, key) => text(door.__host(CALLS.getent, database, key)),
    json: (value, names) => list(door.__host(CALLS.json, value, names)),
    member: (object, name) => text(door.__host(CALLS.member, object, name)),
    members: (object, names) => list(door.__host(CALLS.members, object, names)),
    fnv64: (value) => must(text(door.__host(CALLS.fnv64, value))),
    log: (line) => {
      door.__host(CALLS.log, line);
    },
  };
};
