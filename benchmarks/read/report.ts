/** One way to run, show and keep a reading benchmark: sides in turn in each round, ratios of each round with their spread, goals. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type MachineFacts, machineFacts } from '../lib/machine.ts';
import { median, type Spread, spreadOf } from '../lib/measure.ts';
import { type Settling, settler } from '../lib/settle.ts';
import { type Data, readingData } from './data.ts';

export type Goal = { readonly of: string; readonly beside: string; readonly atMost: number };

export type Measured = { readonly side: string; readonly samples: readonly number[] };

export type Question = {
  readonly title: string;
  readonly unit: string;
  readonly measured: readonly Measured[];
  readonly goals: readonly Goal[];
};

/** A question that has yet to be measured. `once` gives a figure, of which smaller is better. */
export type Inquiry<S> = Omit<Question, 'measured'> & {
  readonly sides: readonly S[];
  readonly rounds: number;
  readonly once: (side: S) => number | Promise<number>;
};

export type Rounds = { readonly warm: number; readonly cold: number };

export type Bench = {
  readonly data: Data;
  readonly short: boolean;
  readonly rounds: Rounds;
  /** How many at once, where that is the question. */
  readonly counts: readonly number[] | undefined;
  /** Each side once in each round, if the question is among those that were asked for. */
  readonly ask: <S extends { readonly name: string }>(inquiry: Inquiry<S>) => Promise<readonly Measured[]>;
  /** What was measured in another way. */
  readonly tell: (question: Question) => void;
  /** All goals at one look, and the file. */
  readonly finish: () => void;
};

/** Sides that no goal is about are there for comparison: so many rounds are enough. */
const ROUNDS_OF_OTHERS = 3;
/** Waited in all, at most. */
const SETTLE_SECONDS = 20;

/** `--short`, `--rounds N`, `--only TEXT` (in the question's title), `--counts N,N`, `--data DIRECTORY`, `--out FILE`. */
export const openBench = async (name: string, full: Rounds, short: Rounds, folder = 'read'): Promise<Bench> => {
  const { values } = parseArgs({
    options: {
      short: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      only: { type: 'string', default: '' },
      counts: { type: 'string' },
      data: { type: 'string', default: '/tmp/tsrun-bench-read' },
      out: { type: 'string' },
    },
  });
  if (process.getuid?.() !== 0) throw new Error('this benchmark mounts with the kernel and drops caches: it wants to be started as root');
  const usual = values.short ? short : full;
  const asked = values.rounds === undefined ? undefined : Number(values.rounds);
  const rounds: Rounds = { warm: asked ?? usual.warm, cold: asked ?? usual.cold };
  const data = readingData(resolve(values.data));
  const machine = machineFacts();
  const settling = settler(SETTLE_SECONDS);
  const questions: Question[] = [];
  const tell = (question: Question): void => {
    questions.push(question);
    process.stdout.write(textOfQuestion(question));
  };
  await settling.begin();
  return {
    data,
    rounds,
    short: values.short,
    counts: values.counts?.split(',').map(Number),
    ask: async ({ sides, rounds, once, ...question }) => {
      if (!question.title.includes(values.only)) return [];
      const measured = await inTurn(sides, question.goals, rounds, settling.round, once);
      tell({ ...question, measured });
      return measured;
    },
    tell,
    finish: () => {
      const settled = settling.result();
      process.stdout.write(`\n${textOfGoals(questions)}${textOfSettling(settled)}`);
      const out = resolve(values.out ?? join(import.meta.dirname, `../results/${folder}-${name}.json`));
      keep(out, { benchmark: `${folder}/${name}`, machine, settled }, questions);
    },
  };
};

/** Forth and back, so that two neighbours are always measured one right after the other, and what gets slower or faster with time meets both alike. */
const inTurn = async <S extends { readonly name: string }>(
  sides: readonly S[],
  goals: readonly Goal[],
  rounds: number,
  settle: () => Promise<void>,
  once: (side: S) => number | Promise<number>,
): Promise<readonly Measured[]> => {
  const measured = sides.map((side) => ({ side: side.name, samples: [] as number[], counts: isInGoals(goals, side.name) }));
  const forth = sides.map((side, at) => ({ side, of: measured[at] }));
  const back = [...forth].reverse();
  for (let round = 0; round < rounds; round++) {
    await settle();
    for (const { side, of } of round % 2 === 0 ? forth : back) {
      if (of !== undefined && (of.counts || round < ROUNDS_OF_OTHERS)) of.samples.push(await once(side));
    }
  }
  return measured.map(({ side, samples }) => ({ side, samples }));
};

const isInGoals = (goals: readonly Goal[], name: string): boolean =>
  goals.length === 0 || goals.some(({ of, beside }) => of === name || beside === name);

/** Of the ratios of each round: both sides of a pair ran at nearly the same time. */
export const ratioOf = ({ measured }: Question, { of, beside }: Pick<Goal, 'of' | 'beside'>): Spread => {
  const samples = (name: string): readonly number[] => measured.find(({ side }) => side === name)?.samples ?? [];
  const theirs = samples(beside);
  return spreadOf(
    samples(of)
      .map((value, round) => value / (theirs[round] ?? Number.NaN))
      .filter(Number.isFinite),
  );
};

const textOfQuestion = ({ title, unit, measured }: Question): string => {
  const lines = measured.map(({ side, samples }) => {
    const figures = [median(samples), Math.min(...samples)].map((value) => value.toFixed(2).padStart(10)).join('');
    return `  ${side.padEnd(28)}${figures}  (${samples.length})\n`;
  });
  return `${title} (${unit}: median, least, rounds)\n${lines.join('')}`;
};

/** One line for each goal: question, beside what, ratio with its quartiles, goal, verdict. */
export const textOfGoals = (questions: readonly Question[]): string => {
  const rows = questions.flatMap((question) =>
    question.goals.map((goal) => {
      const { median, lower, upper } = ratioOf(question, goal);
      return {
        isMet: median <= goal.atMost,
        cells: [
          question.title,
          `${goal.of} : ${goal.beside}`,
          median.toFixed(3),
          `${lower.toFixed(2)} – ${upper.toFixed(2)}`,
          `${goal.atMost}`,
        ],
      };
    }),
  );
  const head = ['question', 'beside', 'ratio', 'quartiles', 'goal'];
  const widths = head.map((text, column) => Math.max(text.length, ...rows.map(({ cells }) => cells[column]?.length ?? 0)));
  const line = (cells: readonly string[], verdict: string): string =>
    `${cells.map((text, column) => text.padEnd(widths[column] ?? 0)).join('   ')}   ${verdict}\n`;
  const met = rows.filter(({ isMet }) => isMet).length;
  return [
    line(head, ''),
    ...rows.map(({ cells, isMet }) => line(cells, isMet ? 'met' : 'NOT MET')),
    `${met} of ${rows.length} goals met\n`,
  ].join('');
};

const textOfSettling = ({ waitedSeconds, rounds, busyRounds }: Settling): string => {
  const others = busyRounds === 0 ? '' : `; other work ran beside ${busyRounds} of ${rounds} rounds: those ratios mean less`;
  return `waited ${waitedSeconds} s for a quiet machine${others}\n`;
};

type Circumstances = { readonly benchmark: string; readonly machine: MachineFacts; readonly settled: Settling };

const keep = (out: string, circumstances: Circumstances, questions: readonly Question[]): void => {
  const rounded = (value: number): number => Math.round(value * 1e4) / 1e4;
  const results = questions.map((question) => ({
    title: question.title,
    unit: question.unit,
    medians: Object.fromEntries(question.measured.map(({ side, samples }) => [side, rounded(median(samples))])),
    ratios: question.goals.map((goal) => {
      const { median, lower, upper } = ratioOf(question, goal);
      return { ...goal, ratio: rounded(median), quartiles: [rounded(lower), rounded(upper)], met: median <= goal.atMost };
    }),
    samples: Object.fromEntries(question.measured.map(({ side, samples }) => [side, samples.map(rounded)])),
  }));
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(out, `${JSON.stringify({ ...circumstances, results }, undefined, 2)}\n`);
};
