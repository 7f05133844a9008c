/**
 * How long do 16 and 64 imports at once take that begin with nothing in memory, and what do they leave there? The memory is that of a cgroup that holds all of them,
 * tsrun's server, and the pages read for them.
 *
 *     node benchmarks/read/many.ts [--short] [--counts 1,16,64] [--rounds N] [--out FILE]
 *
 * As root, see import.ts. With the memory controller of version 1 or 2.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Measured, openBench } from './report.ts';
import { directory, dropCaches, IMPORT, kernelSquash, leave, makePlace, type Side, squashfuse, timeOfMany, tsrun } from './sides.ts';

const bench = await openBench('many', { warm: 0, cold: 5 }, { warm: 0, cold: 3 });
const place = makePlace(bench.data, 'many');
const sides = [directory(place), kernelSquash(place), tsrun(place), squashfuse(place)].filter((side) => side !== undefined);
const top = ['/sys/fs/cgroup/memory', '/sys/fs/cgroup'].find((path) => existsSync(join(path, 'cgroup.procs'))) ?? '';
const usageFile = existsSync(join(top, 'memory.usage_in_bytes')) ? 'memory.usage_in_bytes' : 'memory.current';

let groups = 0;

type Many = { readonly seconds: number; readonly megabytes: number };

const runMany = async (side: Side, count: number): Promise<Many> => {
  side.renew();
  dropCaches();
  const group = join(top, `tsrun-bench-${process.pid}-${groups++}`);
  mkdirSync(group);
  const seconds = await timeOfMany(side, IMPORT, count, group);
  // All have ended: what is there is the page cache, and a server that waits for the next run.
  const megabytes = Number(readFileSync(join(group, usageFile), 'utf8')) / 1e6;
  left.push(group);
  return { seconds, megabytes };
};

/** One alone is what the memory of many is compared with. */
const counts = bench.counts ?? (bench.short ? [1, 16] : [1, 16, 64]);
const left: string[] = [];
const memory: Measured[] = [];

for (const count of counts) {
  const used = new Map<string, number[]>();
  await bench.ask({
    title: `${count} cold imports at once`,
    unit: 's',
    sides,
    rounds: count > 16 ? Math.min(bench.rounds.cold, 3) : bench.rounds.cold,
    once: async (side) => {
      const { seconds, megabytes } = await runMany(side, count);
      used.set(side.name, [...(used.get(side.name) ?? []), megabytes]);
      return seconds;
    },
    goals: count === 1 ? [] : [{ of: 'tsrun', beside: 'directory', atMost: 1.1 }],
  });
  for (const { name } of sides) memory.push({ side: `${name}, ${count}`, samples: used.get(name) ?? [] });
}

bench.tell({
  title: 'memory of all when they have ended',
  unit: 'MB',
  measured: memory,
  goals: (counts.includes(1) ? counts.filter((count) => count > 1) : []).map((count) => ({
    of: `tsrun, ${count}`,
    beside: 'tsrun, 1',
    atMost: 1.3,
  })),
});

leave(place, sides);
bench.finish();
for (const group of left) {
  try {
    rmdirSync(group);
  } catch {
    process.stderr.write(`${group} is still in use: a server has not ended yet\n`);
  }
}
