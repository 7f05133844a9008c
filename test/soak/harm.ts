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

const killOne = (chance: Chance, role: Role): void => {
  const there = inRole(role);
  if (there.length > 0) signal(chance.pick(there), 'SIGKILL');
};

/** One that is replaced, and not more until it is: where its server is gone, too, runs lose the image, as docs/servers.md says. */
const killServing = async (chance: Chance): Promise<void> => {
  const servers = inRole('tsrun-server');
  const serverOf = (pid: number): number => Number(field(pid, 'PPid'));
  const there = inRole('tsrun-image').filter((pid) => servers.includes(serverOf(pid)));
  if (there.length === 0) return;
  const pid = chance.pick(there);
  const server = serverOf(pid);
  signal(pid, 'SIGKILL');
  const isReplaced = (): boolean => inRole('tsrun-image').some((other) => !there.includes(other) && serverOf(other) === server);
  for (const end = Date.now() + 1000; !isReplaced() && inRole('tsrun-server').includes(server) && Date.now() < end; ) await sleep(5);
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
