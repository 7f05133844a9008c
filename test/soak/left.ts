/** What calls have left behind: the answer should always be nothing. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { allProcesses, childrenOf, field, linkOf, nameOf, textOf } from '../helpers/processes.ts';
import { inRole, ROLES } from './harm.ts';
import type { Place } from './place.ts';

const isAlive = (pid: number): boolean => !(field(pid, 'State') ?? 'Z').startsWith('Z');

/** Of a process's descriptors, how many there are of each kind. */
const descriptorsOf = (pid: number): Readonly<Record<string, number>> => {
  const kinds: Record<string, number> = {};
  const names = existsSync(`/proc/${pid}/fd`) ? readdirSync(`/proc/${pid}/fd`) : [];
  for (const fd of names) {
    const kind = linkOf(`/proc/${pid}/fd/${fd}`).replace(/[:\d[\]]+/g, '');
    if (kind !== '') kinds[kind] = (kinds[kind] ?? 0) + 1;
  }
  return kinds;
};

const describe = (pid: number): string => {
  const tasks = existsSync(`/proc/${pid}/task`) ? readdirSync(`/proc/${pid}/task`) : [];
  const waits = tasks.map(
    (task) => `${textOf(`/proc/${pid}/task/${task}/wchan`)} ${textOf(`/proc/${pid}/task/${task}/stack`).replaceAll('\n', ' ')}`,
  );
  return `${nameOf(pid)} ${pid} of ${field(pid, 'PPid')}, ${field(pid, 'State')}: ${JSON.stringify(descriptorsOf(pid))} ${waits.join(' | ')}`;
};

/** All processes of the namespace, for who has to find out. */
export const everybody = (): string => allProcesses().map(describe).join('\n');

/** Processes but those that were there `before`. */
export const processesLeft = (before: ReadonlySet<number>): string[] =>
  allProcesses()
    .filter((pid) => !before.has(pid) && isAlive(pid))
    .map(describe);

/** Processes, files of the scopes, mounts but those of `mountsBefore`. */
export const whatIsLeft = (place: Place, before: ReadonlySet<number>, mountsBefore: string): string[] => [
  ...processesLeft(before),
  ...place.runtimes
    .map((runtime) => join(runtime, 'tsrun'))
    .flatMap((directory) => (existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name)) : []))
    // There to be read.
    .filter((path) => !path.endsWith('.log')),
  ...(readFileSync('/proc/self/mountinfo', 'latin1') === mountsBefore ? [] : ['the mounts are others than before']),
];

/** What a server may have open when nobody asks it for anything: its own descriptors, and for each image the devices, layouts, and what roots are made ahead from. */
const OPEN_MAX = { itself: 30, image: 40, namespaces: 10 } as const;

export const tooMuchOpen = (): string[] =>
  inRole('tsrun-server').flatMap((pid) => {
    const images = childrenOf(pid).filter((child) => nameOf(child) === 'tsrun-image').length;
    const open = descriptorsOf(pid);
    const all = Object.values(open).reduce((sum, count) => sum + count, 0);
    const namespaces = open['mnt'] ?? 0;
    return all > OPEN_MAX.itself + images * OPEN_MAX.image || namespaces > images * OPEN_MAX.namespaces ? [describe(pid)] : [];
  });

export const rolesNow = (): string => ROLES.map((role) => `${role.slice('tsrun-'.length)} ${inRole(role).length}`).join(', ');
