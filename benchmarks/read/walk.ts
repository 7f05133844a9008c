/**
 * How long does it take to go through many small files? `find` with nothing to test, `find` that looks at every file, and `grep -r`, warm and cold.
 *
 *     node benchmarks/read/walk.ts [--short] [--rounds N] [--out FILE]
 *
 * As root, see import.ts.
 */
import { median } from '../lib/measure.ts';
import { SMALL_FILES } from './data.ts';
import { inTurn, keep, optionsOf, type Question, show } from './report.ts';
import { directory, dropCaches, kernelSquash, leave, makePlace, squashfuse, timeOfAll, timesWithin, tsrun } from './sides.ts';

const options = optionsOf('walk', 9);
const place = makePlace(options.data, 'walk');
const sides = [directory(place), kernelSquash(place), tsrun(place), squashfuse(place)].filter((side) => side !== undefined);

const walks = [
  { name: 'find', command: ['/usr/bin/find', '/usr'], atMost: 1.0 },
  { name: 'find -size', command: ['/usr/bin/find', '/usr', '-size', '+100000k'], atMost: 1.0 },
  { name: 'grep -r', command: ['/usr/bin/grep', '-r', '-c', 'no_such_word_anywhere', SMALL_FILES, '--include=*'], atMost: 1.15 },
] as const;

for (const side of sides) side.renew();
const milliseconds = (seconds: number): number => seconds * 1000;
const questions: Question[] = [];
const ask = async (question: Question): Promise<void> => {
  questions.push(question);
  show(question);
};

for (const { name, command, atMost } of walks) {
  // grep ends with 1 when it finds nothing.
  const words = name === 'grep -r' ? ['/bin/sh', '-c', '"$@"; test $? -le 1', 'sh', ...command] : command;
  await ask({
    title: `${name}, warm`,
    unit: 'ms: median, least',
    measured: await inTurn(sides, options.rounds, (side) => milliseconds(median(timesWithin(side, words, 5)))),
    goals: [
      { of: 'tsrun', beside: 'directory', atMost },
      { of: 'tsrun', beside: 'kernel SquashFS', atMost: 1.05 },
    ],
  });
  await ask({
    title: `${name}, cold`,
    unit: 'ms: median, least',
    measured: await inTurn(sides, Math.min(options.rounds, 5), (side) => {
      side.renew();
      dropCaches();
      return milliseconds(timeOfAll(place, side, words));
    }),
    goals: [{ of: 'tsrun', beside: 'kernel SquashFS', atMost: 1.0 }],
  });
}

leave(place, sides);
keep(options, questions);
