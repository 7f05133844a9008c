/**
 * How fast and how large is a conversion, beside the tools that do it today, in one run?
 *
 *     node benchmarks/convert/run.ts [--short] [--rounds N] [--data DIR] [--out FILE]
 *
 * Needs tar2sqfs (squashfs-tools-ng), mksquashfs and, as root, umoci. Same compressor, level and block size on both sides.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { machineFacts } from '../lib/machine.ts';
import { compare, megabytes, pairedRatio, type Summary } from '../lib/measure.ts';
import { type Data, manySmallFiles, systemData } from './data.ts';

type Question = {
  readonly name: string;
  readonly ours: Summary;
  readonly theirs: Summary | undefined;
  readonly ratio: number | undefined;
  readonly goal: string;
  readonly met: boolean;
};

const GOALS = { gzipLayers: 0.75, plainTar: 1, gzipBoth: 0.5, memory: 600e6 } as const;

/** The most that can be asked for; tsrun takes what keeps its memory bounded. */
const MANY_CORES = '--threads 64';

const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    data: { type: 'string', default: join(tmpdir(), 'tsrun-bench-convert') },
    out: { type: 'string' },
  },
});

const say = (text: string): boolean => process.stderr.write(`${text}\n`);
const top = resolve(import.meta.dirname, '../..');
const built = join(top, 'bin/tsrun');
/** What users have, if it was built; else the same from source, which starts more slowly. */
const tsrun = existsSync(built) ? built : `${process.execPath} ${join(top, 'src/cli/main.ts')}`;
const rounds = Number(values.rounds ?? (values.short ? 3 : 5));
const work = join(values.data, 'work');
mkdirSync(work, { recursive: true });

const against = async (name: string, inputs: readonly string[], ours: string, theirs: string, limit: number): Promise<Question> => {
  say(`\n${name}`);
  const [left, right] = await compare(
    [
      { name: 'tsrun', command: ours },
      { name: 'theirs', command: theirs },
    ],
    rounds,
    say,
    inputs,
  );
  if (left === undefined || right === undefined) throw new Error('both sides have run');
  const ratio = pairedRatio(left, right);
  return {
    name,
    ours: left,
    theirs: right,
    ratio,
    goal: `time ≤ ${limit} ×, peak ≤ ${megabytes(GOALS.memory)}`,
    met: ratio <= limit && left.peakBytes <= GOALS.memory,
  };
};

const alone = async (name: string, command: string): Promise<Question> => {
  say(`\n${name}`);
  const [ours] = await compare([{ name: 'tsrun', command }], 1, say);
  if (ours === undefined) throw new Error('it has run');
  return {
    name,
    ours,
    theirs: undefined,
    ratio: undefined,
    goal: `peak ≤ ${megabytes(GOALS.memory)}`,
    met: ours.peakBytes <= GOALS.memory,
  };
};

const questions = async (data: Data, small: string): Promise<readonly Question[]> => {
  const sif = join(work, 'out.sif');
  const sqfs = join(work, 'out.squashfs');
  const build = (source: string, options = ''): string => `${tsrun} build -q -F ${options} ${sif} ${source}`;
  const layers = data.layers.join(' ');
  const unpacked = join(work, 'unpacked');
  return [
    await against(
      'gzip layers → zstd 3',
      data.layers,
      build(`oci:${data.layout}`),
      `zcat ${layers} | tar2sqfs -q -f -c zstd -X level=3 ${sqfs}`,
      GOALS.gzipLayers,
    ),
    await against(
      'plain tar → zstd 3',
      [data.tar],
      build(`tar:${data.tar}`),
      `tar2sqfs -q -f -c zstd -X level=3 ${sqfs} < ${data.tar}`,
      GOALS.plainTar,
    ),
    await against(
      'gzip layers → gzip 9, beside umoci and mksquashfs',
      data.layers,
      build(`oci:${data.layout}`, '--compress gzip:9'),
      `rm -rf ${unpacked}; umoci raw unpack --image ${data.layout}:latest ${unpacked} && mksquashfs ${unpacked} ${sqfs} -noappend -quiet -no-progress -comp gzip`,
      GOALS.gzipBoth,
    ),
    await alone('gzip layers → zstd 3, as on 64 cores', build(`oci:${data.layout}`, MANY_CORES)),
    await alone(`${small.replace(/^.*small-/, '').replace('-', ' files in ')} layers`, build(`oci:${small}`)),
    await alone(`${small.replace(/^.*small-/, '').replace('-', ' files in ')} layers, as on 64 cores`, build(`oci:${small}`, MANY_CORES)),
  ];
};

const line = ({ name, ours, theirs, ratio, goal, met }: Question): string => {
  const them =
    theirs === undefined ? '' : `, theirs ${theirs.medianSeconds.toFixed(2)} s ${megabytes(theirs.peakBytes)}, ratio ${ratio?.toFixed(2)}`;
  return `${met ? 'met   ' : 'MISSED'} ${name}: ${ours.medianSeconds.toFixed(2)} s, peak ${megabytes(ours.peakBytes)}${them} (goal: ${goal})`;
};

const machine = machineFacts();
say(`preparing data in ${values.data}`);
const data = await systemData(values.data, values.short ? 400e6 : 1e9);
const small = await manySmallFiles(values.data, values.short ? 200_000 : 1_000_000, 200);
say(
  `${data.entries} entries, ${megabytes(data.tarBytes)} of tar, ${megabytes(data.layers.reduce((sum, path) => sum + statSync(path).size, 0))} of gzip layers`,
);
const results = await questions(data, small);
const report = {
  question: 'convert',
  machine,
  tools: { tar2sqfs: version('tar2sqfs'), mksquashfs: version('mksquashfs', '-version'), umoci: version('umoci') },
  rounds,
  data: { entries: data.entries, tarBytes: data.tarBytes },
  results,
};
if (values.out !== undefined) {
  mkdirSync(dirname(resolve(values.out)), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify(report, undefined, 2)}\n`);
}
process.stdout.write(`${results.map(line).join('\n')}\n`);
if (machine.load > machine.cores) say(`the machine was busy (load ${machine.load} on ${machine.cores} cores): times mean little`);

function version(program: string, flag = '--version'): string {
  try {
    return execFileSync(program, [flag], { encoding: 'utf8' }).split('\n')[0] ?? '';
  } catch {
    return 'not installed';
  }
}
