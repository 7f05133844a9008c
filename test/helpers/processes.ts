/** Processes as /proc shows them. One that has ended, or may not be looked at, has no text, no links and no children. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export const textOf = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
};

export const linkOf = (path: string): string => {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
};

/** What its descriptors lead to. One that is closed while they are looked through is not among them. */
export const openIn = (pid: number): readonly string[] => {
  try {
    return readdirSync(`/proc/${pid}/fd`)
      .map((fd) => linkOf(`/proc/${pid}/fd/${fd}`))
      .filter((target) => target !== '');
  } catch {
    return [];
  }
};

export const allProcesses = (): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);

export const nameOf = (pid: number): string => textOf(`/proc/${pid}/comm`).trim();

/** A line of its status. */
export const field = (pid: number, name: string): string | undefined =>
  new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(textOf(`/proc/${pid}/status`))?.[1];

export const childrenOf = (pid: number): number[] =>
  textOf(`/proc/${pid}/task/${pid}/children`).trim().split(/\s+/).filter(Boolean).map(Number);

/** The processors of a process, as the kernel lists them; of one that asks for all there are, what its cpuset allows. */
export const processorsOf = (pid: number): string => field(pid, 'Cpus_allowed_list') ?? '';
export const allProcessors = (): string =>
  spawnSync('taskset', ['-c', '0-1023', 'sed', '-n', 's/^Cpus_allowed_list:\t//p', '/proc/self/status'], {
    encoding: 'utf8',
  }).stdout.trim();

/** One that this process may use. */
export const oneProcessor = (): string => /^\d+/.exec(processorsOf(process.pid))?.[0] ?? '0';

/** Of proc(5)'s fields of `stat` those behind the name: the third is at 0. */
const statOf = (pid: number): readonly string[] =>
  textOf(`/proc/${pid}/stat`)
    .replace(/^.*\) /, '')
    .split(' ');

/** Hundredths of a second on a processor, in the program and for it. */
export const ticksOf = (pid: number): number => {
  const fields = statOf(pid);
  return Number(fields[11]) + Number(fields[12]);
};

export const sessionOf = (pid: number): number => Number(statOf(pid)[3]);

/** Those of a payload's user namespace beside it: the scope's server, and whatever else there is. */
export const neighboursOf = (payload: number): readonly number[] => {
  const namespace = linkOf(`/proc/${payload}/ns/user`);
  if (namespace === '') throw new Error(`process ${payload} has ended`);
  return allProcesses().filter((pid) => pid !== payload && linkOf(`/proc/${pid}/ns/user`) === namespace);
};
