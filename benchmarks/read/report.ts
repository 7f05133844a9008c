/** One way to run, show and keep a reading benchmark: sides in turn in each round, medians, ratios of each round, goals. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type MachineFacts, machineFacts } from '../lib/machine.ts';
import { median } from '../lib/measure.ts';
import { type Data, readingData } from './data.ts';

export type Options = {
  readonly data: Data;
  readonly short: boolean;
  readonly rounds: number;
  /** How many at once, where that is the question. */
  readonly counts: readonly number[] | undefined;
  readonly out: string;
  readonly name: string;
  /** Of the benchmark: the question's. */
  readonly folder: string;
  readonly machine: MachineFacts;
};

/** `--short`, `--rounds N`, `--counts N,N`, `--data DIRECTORY`, `--out FILE`. */
export const optionsOf = (name: string, rounds: number, folder = 'read'): Options => {
  const { values } = parseArgs({
    options: {
      short: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      counts: { type: 'string' },
      data: { type: 'string', default: '/tmp/tsrun-bench-read' },
      out: { type: 'string' },
    },
  });
  if (process.getuid?.() !== 0) throw new Error('this benchmark mounts with the kernel and drops caches: it wants to be started as root');
  const machine = machineFacts();
  if (machine.load > machine.cores)
    process.stderr.write(`the load is ${machine.load} on ${machine.cores} cores: times mean little, ratios some\n`);
  const short = values.short ?? false;
  return {
    data: readingData(resolve(values.data ?? '')),
    short,
    rounds: Number(values.rounds ?? (short ? Math.min(3, rounds) : rounds)),
    counts: values.counts?.split(',').map(Number),
    out: resolve(values.out ?? join(import.meta.dirname, `../results/${folder}-${name}.json`)),
    name,
    folder,
    machine,
  };
};

export type Measured = { readonly side: string; readonly samples: readonly number[] };

/** Each side once in each round. `once` gives a figure, of which smaller is better. */
export const inTurn = async <S extends { readonly name: string }>(
  sides: readonly S[],
  rounds: number,
  once: (side: S) => number | Promise<number>,
): Promise<readonly Measured[]> => {
  const samples = sides.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < sides.length; turn++) {
      // Another one begins each round: nobody always comes after the same one.
      const at = (turn + round) % sides.length;
      const side = sides[at];
      if (side !== undefined) samples[at]?.push(await once(side));
    }
  }
  return sides.map(({ name }, at) => ({ side: name, samples: samples[at] ?? [] }));
};

export type Goal = { readonly of: string; readonly beside: string; readonly atMost: number };

export type Question = {
  readonly title: string;
  readonly unit: string;
  readonly measured: readonly Measured[];
  readonly goals: readonly Goal[];
};

const ratioOf = (question: Question, { of, beside }: Pick<Goal, 'of' | 'beside'>): number => {
  const samples = (name: string): readonly number[] => question.measured.find(({ side }) => side === name)?.samples ?? [];
  const theirs = samples(beside);
  return median(samples(of).map((value, round) => value / (theirs[round] ?? Number.NaN)));
};

export const show = (question: Question): void => {
  process.stdout.write(`${question.title} (${question.unit})\n`);
  for (const { side, samples } of question.measured) {
    const figures = [median(samples), Math.min(...samples)].map((value) => value.toFixed(2).padStart(10)).join('');
    process.stdout.write(`  ${side.padEnd(28)}${figures}\n`);
  }
  for (const goal of question.goals) {
    const ratio = ratioOf(question, goal);
    const verdict = ratio <= goal.atMost ? 'met' : 'NOT met';
    const text = `  ${ratio.toFixed(2)} x ${goal.beside}`;
    process.stdout.write(`${text.padEnd(40)}goal ${goal.atMost}: ${verdict}\n`);
  }
};

export const keep = (options: Options, questions: readonly Question[]): void => {
  const rounded = (value: number): number => Math.round(value * 1e4) / 1e4;
  const results = questions.map((question) => ({
    title: question.title,
    unit: question.unit,
    medians: Object.fromEntries(question.measured.map(({ side, samples }) => [side, rounded(median(samples))])),
    ratios: question.goals.map((goal) => ({ ...goal, ratio: rounded(ratioOf(question, goal)) })),
    samples: Object.fromEntries(question.measured.map(({ side, samples }) => [side, samples.map(rounded)])),
  }));
  mkdirSync(dirname(options.out), { recursive: true });
  const { machine, rounds } = options;
  writeFileSync(
    options.out,
    `${JSON.stringify({ benchmark: `${options.folder}/${options.name}`, machine, rounds, results }, undefined, 2)}\n`,
  );
};
