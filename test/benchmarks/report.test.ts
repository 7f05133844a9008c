import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { median, spreadOf } from '../../benchmarks/lib/measure.ts';
import { settler } from '../../benchmarks/lib/settle.ts';
import { type Question, ratioOf, textOfGoals } from '../../benchmarks/read/report.ts';

const test = suite('report of a reading benchmark');

const question: Question = {
  title: 'walk, warm',
  unit: 'ms',
  measured: [
    { side: 'tsrun', samples: [2, 4, 30, 8, 10] },
    { side: 'directory', samples: [2, 2, 10, 8, 20] },
    { side: 'squashfuse_ll', samples: [9, 9, 9] },
  ],
  goals: [
    { of: 'tsrun', beside: 'directory', atMost: 1.06 },
    { of: 'tsrun', beside: 'squashfuse_ll', atMost: 1.06 },
  ],
};

test('the spread of values is their median and their quartiles', () => {
  assert.equal(spreadOf([5, 1, 4, 2, 3]), { median: 3, lower: 2, upper: 4 });
  assert.equal(spreadOf([4, 1, 3, 2]), { median: 2.5, lower: 1.75, upper: 3.25 });
  assert.equal(spreadOf([7]), { median: 7, lower: 7, upper: 7 });
  assert.is(median([10, 9]), 9.5);
});

test('a ratio is that of values of the same round', () => {
  assert.equal(ratioOf(question, { of: 'tsrun', beside: 'directory' }), { median: 1, lower: 1, upper: 2 });
});

test('a side that was measured in some rounds only is compared in those', () => {
  assert.is(ratioOf(question, { of: 'tsrun', beside: 'squashfuse_ll' }).median, 4 / 9);
});

test('each goal has a line with ratio, quartiles, goal and verdict', () => {
  const missed = { ...question, title: 'walk, cold', goals: [{ of: 'directory', beside: 'tsrun', atMost: 0.4 }] };
  const [, first = '', , third = '', sum] = textOfGoals([question, missed]).split('\n');
  assert.match(first, /^walk, warm +tsrun : directory +1\.000 +1\.00 – 2\.00 +1\.06 +met$/);
  assert.match(third, /^walk, cold +directory : tsrun +1\.000 +0\.50 – 1\.00 +0\.4 +NOT MET$/);
  assert.is(sum, '2 of 3 goals met');
});

test('a round begins after a bounded wait, also on a busy machine', async () => {
  const { round, result } = settler(0.2);
  await round();
  await round();
  const { rounds, waitedSeconds, busyRounds } = result();
  assert.is(rounds, 2);
  assert.ok(busyRounds <= 2);
  assert.ok(waitedSeconds <= 0.4, `waited ${waitedSeconds} s`);
});

test.run();
