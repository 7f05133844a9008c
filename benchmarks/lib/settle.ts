/** Waits until the machine has nothing else to do: what an earlier program has left to the kernel (writing back, taking memory back) would be measured with the first to come. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Kept with every result. */
export type Settling = {
  /** In all, beside the moment it takes to look. */
  readonly waitedSeconds: number;
  /** How often a round was about to begin, and how often something else was still running by then. */
  readonly rounds: number;
  readonly busyRounds: number;
};

export type Settler = {
  /** Before the first round, or a group of them: what was written is on the disk, and a second has passed in which nothing ran. */
  readonly begin: () => Promise<void>;
  readonly round: () => Promise<void>;
  readonly result: () => Settling;
};

const LOOK_MILLISECONDS = 100;
/** Other work's share of one core: the kernel's own housekeeping is below it. */
const BUSY_CORES = 0.15;

/** Waits for as many seconds in all at most, half of them in `begin`. */
export const settler = (atMostSeconds: number): Settler => {
  let waited = 0;
  let rounds = 0;
  let busyRounds = 0;
  const quietFor = async (looks: number, until: number): Promise<boolean> => {
    for (let quiet = 0; quiet < looks; ) {
      const busy = await busyCores();
      quiet = busy > BUSY_CORES ? 0 : quiet + 1;
      if (quiet === 0) waited += LOOK_MILLISECONDS / 1000;
      if (quiet < looks && waited >= until) return false;
    }
    return true;
  };
  return {
    begin: async () => {
      execFileSync('sync');
      await quietFor(1000 / LOOK_MILLISECONDS, atMostSeconds / 2);
    },
    round: async () => {
      rounds++;
      if (!(await quietFor(1, atMostSeconds))) busyRounds++;
    },
    result: () => ({ waitedSeconds: Math.round(waited * 10) / 10, rounds, busyRounds }),
  };
};

/** Of all cores, what is not idle: also waiting for a disk, and what a host takes for others. */
const busyCores = async (): Promise<number> => {
  const before = idleTicks();
  const began = performance.now();
  await sleep(LOOK_MILLISECONDS);
  const passed = ((performance.now() - began) / 1000) * TICKS_A_SECOND;
  const { idle, cores } = idleTicks();
  return cores - (idle - before.idle) / passed;
};

/** USER_HZ, which is the same on all machines that tsrun runs on. */
const TICKS_A_SECOND = 100;

/** proc(5), /proc/stat: user nice system idle … */
const idleTicks = (): { readonly idle: number; readonly cores: number } => {
  const lines = readFileSync('/proc/stat', 'utf8').split('\n');
  const cores = lines.filter((line) => /^cpu\d/.test(line)).length;
  return { idle: Number(lines[0]?.split(/\s+/)[4]), cores };
};
