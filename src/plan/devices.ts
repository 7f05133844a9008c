/** /dev of a contained run: what programs cannot do without, and nothing of the host's disks, inputs and screens. */
import { failed, type Host } from '../util/host.ts';
import { type MountTable, put } from './mount-table.ts';

const ALWAYS = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];

const LINKS: readonly (readonly [string, string])[] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['ptmx', 'pts/ptmx'],
];

const MAX_DEVICES = 4096;

export const putDevice = (table: MountTable, path: string, why: string): void =>
  put(table, { op: 'bind', source: path, target: path, flags: ['optional', 'dev'], why }, true);

export const putMinimalDevices = (table: MountTable, host: Host, ownIpc: boolean): void => {
  const why = 'contained: a minimal /dev';
  put(table, { op: 'tmpfs', target: '/dev', mode: 0o755, size: 0, why });
  for (const name of ALWAYS) putDevice(table, `/dev/${name}`, why);
  for (const [name, link] of LINKS) put(table, { op: 'symlink', target: `/dev/${name}`, link, why });
  put(table, { op: 'tmpfs', target: '/dev/shm', mode: 0o1777, size: 0, why });
  put(table, { op: 'devpts', target: '/dev/pts', why });
  // The terminal's own name is not in the new /dev/pts; where programs look next, it can be found.
  const terminal = host.isTerminal(0) ? host.readlink('/proc/self/fd/0') : '';
  if (!failed(terminal) && terminal.startsWith('/dev/'))
    put(table, { op: 'bind', source: terminal, target: '/dev/console', flags: ['optional', 'dev'], why: 'the terminal' }, true);
  // It is there in kernels with POSIX message queues, also where nobody has mounted them.
  if (ownIpc && !failed(host.stat('/proc/sys/fs/mqueue')))
    put(table, { op: 'mqueue', target: '/dev/mqueue', why: 'message queues of its own' });
};

/** Names in /dev that begin with `start`; none where /dev cannot be read. */
export const devicesNamed = (host: Host, start: string): readonly { readonly path: string; readonly directory: boolean }[] => {
  const entries = host.readdir('/dev', MAX_DEVICES);
  if (failed(entries)) return [];
  return entries
    .filter((entry) => entry.name.startsWith(start))
    .map((entry) => ({ path: `/dev/${entry.name}`, directory: entry.kind === 'directory' }))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
};
