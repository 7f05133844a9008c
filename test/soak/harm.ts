/** What happens to servers and their processes, and to the host's mounts, while calls are made. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { allProcesses, field, nameOf } from '../helpers/processes.ts';
import type { Chance } from './chance.ts';
import type { Place } from './place.ts';

export const ROLES = ['tsrun-server', 'tsrun-image', 'tsrun-fetch', 'tsrun-spare'] as const;
type Role = (typeof ROLES)[number];

/** The processes of servers that there are. All of them: nobody else's are in this PID namespace. */
export const inRole = (role: Role): number[] =>
  allProcesses().filter((pid) => nameOf(pid) === role && !(field(pid, 'State') ?? 'Z').startsWith('Z'));

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

const signal = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name);
  } catch {
    // It has just ended.
  }
};

const killOne = (chance: Chance, role: Role, there = inRole(role)): void => {
  if (there.length > 0) signal(chance.pick(there), 'SIGKILL');
};

/** One that is replaced: where its server is gone, or is killed before it could do so, runs lose the image, as docs/servers.md says. */
const killServing = async (chance: Chance): Promise<void> => {
  const servers = new Set(inRole('tsrun-server'));
  killOne(
    chance,
    'tsrun-image',
    inRole('tsrun-image').filter((pid) => servers.has(Number(field(pid, 'PPid')))),
  );
  await sleep(100);
};

const stopOne = async (chance: Chance, role: Role): Promise<void> => {
  const there = inRole(role);
  if (there.length === 0) return;
  const pid = chance.pick(there);
  signal(pid, 'SIGSTOP');
  await sleep(chance.below(200));
  signal(pid, 'SIGCONT');
};

/** Below what is bound: a source that is mounted over at the very moment is refused, and rightly. */
const changeMounts = async (chance: Chance, place: Place): Promise<void> => {
  const target = join(chance.pick(place.bound), 'below');
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'mode=777', 'soak', target]).status !== 0) return;
  await sleep(chance.below(150));
  spawnSync('umount', ['-l', target]);
};

/** One of them, at random; servers themselves are killed seldom, else nothing would live long enough to go wrong. */
export const doHarm = async (chance: Chance, place: Place): Promise<void> => {
  const which = chance.below(100);
  if (which < 20) killOne(chance, 'tsrun-spare');
  else if (which < 32) await killServing(chance);
  else if (which < 42) killOne(chance, 'tsrun-fetch');
  else if (which < 45) killOne(chance, 'tsrun-server');
  else if (which < 55) await stopOne(chance, 'tsrun-spare');
  else if (which < 60) await stopOne(chance, 'tsrun-server');
  else if (which < 75) await changeMounts(chance, place);
  await sleep(chance.below(150));
};
