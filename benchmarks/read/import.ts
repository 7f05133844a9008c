/**
 * How long does Python take to import numpy and parts of scipy? Warm: everything has been read before; the whole start, as it is Python that tsrun starts. Cold: nothing of the image is in memory, the start of tsrun's
 * server and its mount count, the peers' mounts do not.
 *
 *     node benchmarks/read/import.ts [--short] [--rounds N] [--only TEXT] [--out FILE]
 *
 * As root, for the kernel's mount and for dropping caches; what is measured runs as an ordinary user. Needs python3-numpy, python3-scipy, bwrap; squashfuse_ll if there.
 */
import { openBench } from './report.ts';
import { directory, dropCaches, IMPORT, kernelSquash, leave, makePlace, squashfuse, timeOfAll, timeOfAllAgain, tsrun } from './sides.ts';

const bench = await openBench('import', { warm: 41, cold: 15 }, { warm: 21, cold: 9 });
const place = makePlace(bench.data, 'import');
const sides = [directory(place), kernelSquash(place), tsrun(place), squashfuse(place)].filter((side) => side !== undefined);

for (const side of sides) side.renew();

await bench.ask({
  title: 'import, warm',
  unit: 'ms',
  sides,
  rounds: bench.rounds.warm,
  once: (side) => 1000 * timeOfAllAgain(place, side, IMPORT),
  goals: [
    { of: 'tsrun', beside: 'directory', atMost: 1.06 },
    { of: 'tsrun', beside: 'kernel SquashFS', atMost: 1.05 },
  ],
});
await bench.ask({
  title: 'import, cold',
  unit: 'ms',
  sides,
  rounds: bench.rounds.cold,
  once: (side) => {
    side.renew();
    dropCaches();
    return 1000 * timeOfAll(place, side, IMPORT);
  },
  goals: [{ of: 'tsrun', beside: 'kernel SquashFS', atMost: 1.0 }],
});

leave(place, sides);
bench.finish();
