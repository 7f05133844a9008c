/** A host that remembers every question, for --explain. */
import { failed, type Host } from './host.ts';

export type Read = {
  readonly call: string;
  /** Path or key. */
  readonly about: string;
  /** What came back, in a few words. */
  readonly answer: string;
};

const inWords = (answer: unknown): string => {
  if (failed(answer)) return `errno ${-answer}`;
  if (typeof answer === 'string') return answer.length > 40 || /[^ -~]/.test(answer) ? `${answer.length} bytes` : answer;
  if (Array.isArray(answer)) return `${answer.length} entries`;
  if (typeof answer === 'object' && answer !== null && 'kind' in answer && 'size' in answer)
    return `${String(answer.kind)}, ${String(answer.size)} bytes`;
  return typeof answer === 'object' ? '' : String(answer);
};

/** Calls go through unchanged; each is added to `reads`. */
export const recordingHost = (host: Host, reads: Read[]): Host => {
  const note = <T>(call: string, about: string, answer: T): T => {
    reads.push({ call, about, answer: inWords(answer) });
    return answer;
  };
  return {
    ...host,
    getcwd: () => note('getcwd', '', host.getcwd()),
    ids: () => note('ids', '', host.ids()),
    accounts: (name) => note('accounts', '/etc/passwd, /etc/group', host.accounts(name)),
    isTerminal: (descriptor) => note('isatty', String(descriptor), host.isTerminal(descriptor)),
    stat: (path) => note('stat', path, host.stat(path)),
    lstat: (path) => note('lstat', path, host.lstat(path)),
    sameFile: (one, other) => note('stat', `${one}, ${other}`, host.sameFile(one, other)),
    access: (path, mode) => note('access', path, host.access(path, mode)),
    fileSystemType: (path) => note('statfs', path, host.fileSystemType(path)),
    readlink: (path) => note('readlink', path, host.readlink(path)),
    realPath: (path) => note('realpath', path, host.realPath(path)),
    readdir: (path, limit) => note('readdir', path, host.readdir(path, limit)),
    read: (path, offset, limit) => note('read', path, host.read(path, offset, limit)),
    openKeep: (path) => note('open', path, host.openKeep(path)),
    pread: (handle, offset, length) => note('pread', `${length} bytes at ${offset}`, host.pread(handle, offset, length)),
    fstat: (handle) => note('fstat', 'the image', host.fstat(handle)),
    unpack: (handle, offset, layout) => note('unpack', `fields at ${offset}`, host.unpack(handle, offset, layout)),
    getent: (database, key) => note('getent', `${database} ${key}`, host.getent(database, key)),
  };
};
