/**
 * How long does it take to go through many small files? `find` with nothing to test, `find` that looks at every file, and `grep -r`, warm and cold.
 *
 *     node benchmarks/read/walk.ts [--short] [--rounds N] [--only TEXT] [--out FILE]
 *
 * As root, see import.ts.
 */
import { SMALL_FILES } from './data.ts';
import { openBench } from './report.ts';
import { directory, dropCaches, kernelSquash, leave, makePlace, squashfuse, timeOfAll, timeWithin, tsrun } from './sides.ts';

const bench = await openBench('walk', { warm: 41, cold: 11 }, { warm: 21, cold: 5 });
const place = makePlace(bench.data, 'walk');
const sides = [directory(place), kernelSquash(place), tsrun(place), squashfuse(place)].filter((side) => side !== undefined);

const walks = [
  { name: 'find', command: ['/usr/bin/find', '/usr'], atMost: 1.0 },
  { name: 'find -size', command: ['/usr/bin/find', '/usr', '-size', '+100000k'], atMost: 1.0 },
  { name: 'grep -r', command: ['/usr/bin/grep', '-r', '-c', 'no_such_word_anywhere', SMALL_FILES, '--include=*'], atMost: 1.15 },
] as const;

for (const side of sides) side.renew();

for (const { name, command, atMost } of walks) {
  // grep ends with 1 when it finds nothing.
  const words = name === 'grep -r' ? ['/bin/sh', '-c', '"$@"; test $? -le 1', 'sh', ...command] : command;
  await bench.ask({
    title: `${name}, warm`,
    unit: 'ms',
    sides,
    rounds: bench.rounds.warm,
    once: (side) => 1000 * timeWithin(side, words),
    goals: [
      { of: 'tsrun', beside: 'directory', atMost },
      { of: 'tsrun', beside: 'kernel SquashFS', atMost: 1.05 },
    ],
  });
  await bench.ask({
    title: `${name}, cold`,
    unit: 'ms',
    sides,
    rounds: bench.rounds.cold,
    once: (side) => {
      side.renew();
      dropCaches();
      return 1000 * timeOfAll(place, side, words);
    },
    goals: [{ of: 'tsrun', beside: 'kernel SquashFS', atMost: 1.0 }],
  });
}

leave(place, sides);
bench.finish();
