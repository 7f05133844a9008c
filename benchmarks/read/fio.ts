/**
 * How fast is one large file read, in order and at random, by one and by eight processes? With fio, warm and cold.
 *
 *     node benchmarks/read/fio.ts [--short] [--rounds N] [--only TEXT] [--out FILE]
 *
 * As root, see import.ts. Needs fio. Figures are microseconds for each megabyte read: smaller is better.
 */
import { LARGE_FILE } from './data.ts';
import { openBench } from './report.ts';
import { directory, dropCaches, kernelSquash, leave, makePlace, outputOf, type Side, squashfuse, tsrun } from './sides.ts';

const bench = await openBench('fio', { warm: 15, cold: 9 }, { warm: 9, cold: 5 });
const place = makePlace(bench.data, 'fio');
const sides = [directory(place), kernelSquash(place), tsrun(place), squashfuse(place)].filter((side) => side !== undefined);

type Pattern = {
  readonly name: string;
  readonly way: 'read' | 'randread';
  readonly block: string;
  readonly jobs: number;
  readonly warm: boolean;
};

const patterns: readonly Pattern[] = [true, false].flatMap((warm) =>
  [1, 8].flatMap((jobs) => [
    { name: `in order, ${jobs} job${jobs > 1 ? 's' : ''}`, way: 'read' as const, block: '128k', jobs, warm },
    { name: `at random, 4 KiB, ${jobs} job${jobs > 1 ? 's' : ''}`, way: 'randread' as const, block: '4k', jobs, warm },
  ]),
);

/** Cold: in order each job its part of the file, at random 16 MiB in all. */
const coldBytes = ({ way, jobs }: Pattern): number => ((way === 'read' ? 256 : 16) << 20) / jobs;
/** Warm: again and again for so long. fio's clock has milliseconds, and in memory the file is read in ten of them. */
const WARM_TIME = ['--time_based', '--runtime=300ms'] as const;

const command = (pattern: Pattern): readonly string[] => [
  '/usr/bin/fio',
  '--name=read',
  `--filename=${LARGE_FILE}`,
  '--filesize=256m',
  `--rw=${pattern.way}`,
  `--bs=${pattern.block}`,
  `--numjobs=${pattern.jobs}`,
  ...(pattern.warm ? WARM_TIME : [`--io_size=${coldBytes(pattern)}`]),
  // In order: each job has its own part of the file. At random: anywhere, and the same places on every side.
  ...(pattern.way === 'read'
    ? [`--size=${(256 << 20) / pattern.jobs}`, `--offset_increment=${(256 << 20) / pattern.jobs}`]
    : ['--randrepeat=1', '--norandommap']),
  ...[
    '--readonly',
    '--ioengine=psync',
    '--invalidate=0',
    '--thread',
    '--group_reporting',
    '--output-format=json',
    '--allow_file_create=0',
    '--randseed=7',
  ],
];

type FioReport = { readonly jobs: readonly { readonly read: { readonly bw_bytes: number; readonly io_bytes: number } }[] };

/** As fio measures it: without starts. */
const microsecondsPerMegabyte = (side: Side, pattern: Pattern): number => {
  // Warmed in the same run: some systems take the page cache back within seconds.
  const before = pattern.warm ? `cat ${LARGE_FILE} >/dev/null; ` : '';
  const text = outputOf(side, ['/bin/sh', '-c', `${before}exec "$@"`, 'sh', ...command(pattern)]);
  const report: FioReport = JSON.parse(text.slice(text.indexOf('{')));
  const read = report.jobs[0]?.read;
  if (read === undefined || read.io_bytes === 0) throw new Error(`${side.name}: fio read nothing: ${text.slice(0, 500)}`);
  return 1e12 / read.bw_bytes;
};

for (const side of sides) side.renew();
for (const pattern of patterns) {
  await bench.ask({
    title: `${pattern.name}, ${pattern.warm ? 'warm' : 'cold'}`,
    unit: 'us per MB',
    sides,
    rounds: pattern.warm ? bench.rounds.warm : bench.rounds.cold,
    once: (side) => {
      if (!pattern.warm) {
        side.renew();
        outputOf(side, ['/bin/true']); // what the start costs is another question
        dropCaches();
      }
      return microsecondsPerMegabyte(side, pattern);
    },
    goals: [{ of: 'tsrun', beside: 'kernel SquashFS', atMost: pattern.warm ? 1.05 : 1.0 }],
  });
}

leave(place, sides);
bench.finish();
