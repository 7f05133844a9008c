/** What a figure depends on beside the code: kept with every result. */
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';

export type MachineFacts = {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  /** Load average when the run began: above the number of cores, times mean little. */
  readonly load: number;
  readonly date: string;
};

export const machineFacts = (): MachineFacts => ({
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: availableParallelism(),
  memoryBytes: totalmem(),
  kernel: release(),
  node: process.versions.node,
  load: Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]),
  date: new Date().toISOString(),
});
