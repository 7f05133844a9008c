/**
 * How long does Python take to import numpy and parts of scipy? Warm: everything has been read before; the whole start, as it is Python that tsrun starts. Cold: nothing of the image is in memory, the start of tsrun's
 * server and its mount count, the peers' mounts do not.
 *
 *     node benchmarks/read/import.ts [--short] [--rounds N] [--out FILE]
 *
 * As root, for the kernel's mount and for dropping caches; what is measured runs as an ordinary user. Needs python3-numpy, python3-scipy, bwrap; squashfuse_ll if there.
 */

import { median } from '../lib/measure.ts';
import { inTurn, keep, optionsOf, type Question, show } from './report.ts';
import { directory, dropCaches, IMPORT, kernelSquash, leave, makePlace, squashfuse, timeOfAll, tsrun } from './sides.ts';

const options = optionsOf('import', 9);
const place = makePlace(options.data, 'import');
const sides = [directory(place), kernelSquash(place), tsrun(place), squashfuse(place)].filter((side) => side !== undefined);

for (const side of sides) side.renew();
const milliseconds = (seconds: number): number => seconds * 1000;

const warm: Question = {
  title: 'import, warm',
  unit: 'ms: median, least',
  measured: await inTurn(sides, options.rounds, (side) =>
    milliseconds(median([0, 1, 2, 3].map(() => timeOfAll(place, side, IMPORT)).slice(1))),
  ),
  goals: [
    { of: 'tsrun', beside: 'directory', atMost: 1.06 },
    { of: 'tsrun', beside: 'kernel SquashFS', atMost: 1.05 },
  ],
};
show(warm);

const cold: Question = {
  title: 'import, cold',
  unit: 'ms: median, least',
  measured: await inTurn(sides, options.rounds, (side) => {
    side.renew();
    dropCaches();
    return milliseconds(timeOfAll(place, side, IMPORT));
  }),
  goals: [{ of: 'tsrun', beside: 'kernel SquashFS', atMost: 1.0 }],
};
show(cold);

leave(place, sides);
keep(options, [warm, cold]);
