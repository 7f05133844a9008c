/** Progress lines, with a clock of our own. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createProgress } from '../../src/cli/progress.ts';
import { reportFailure } from '../../src/cli/report.ts';
import { TsrunError } from '../../src/util/errors.ts';

const test = suite('progress and failures');

const show = (terminal: boolean, quiet: boolean, times: readonly number[]): string[] => {
  const texts: string[] = [];
  let time = 0;
  const output = { isTTY: terminal, columns: 40, write: (text: string) => texts.push(text) };
  const progress = createProgress('converting x', output, quiet, () => time);
  for (const [at, each] of times.entries()) {
    time = each;
    progress.update((at + 1) * 1e6, 1e7);
  }
  progress.end();
  return texts;
};

test('quick work and quiet work show nothing', () => {
  assert.equal(show(true, false, [10, 100, 400]), []);
  assert.equal(show(false, false, [10, 5000, 9999]), []);
  assert.equal(show(true, true, [10, 60_000]), []);
});

test('a terminal gets one line that is written over, at most ten times a second, and taken away at the end', () => {
  assert.equal(show(true, false, [400, 600, 650, 701]), [
    '\r\x1b[Ktsrun: converting x: 20% of 10 MB, 1 s',
    '\r\x1b[Ktsrun: converting x: 40% of 10 MB, 1 s',
    '\r\x1b[K',
  ]);
});

test('a log gets a line every ten seconds', () => {
  assert.equal(show(false, false, [9000, 10_000, 15_000, 20_001]), [
    'tsrun: converting x: 20% of 10 MB, 10 s\n',
    'tsrun: converting x: 40% of 10 MB, 20 s\n',
  ]);
});

const report = (error: unknown, debug = false): { text: string; status: number } => {
  let text = '';
  const status = reportFailure(error, debug, (part) => {
    text += part;
  });
  return { text, status };
};

test('an error of ours is shown with code and cure, its cause only on --debug', () => {
  const error = new TsrunError({ code: 'E_OUTPUT', what: 'cannot write x', why: 'it is so', hint: 'do this', cause: new Error('deep') });
  assert.equal(report(error), { text: 'tsrun: cannot write x: it is so (E_OUTPUT)\nhint: do this\n', status: 125 });
  assert.match(report(error, true).text, /deep[\s\S]* at /);
});

test('any other error is named as a mistake of tsrun, with its stack on --debug', () => {
  const { text, status } = report(new RangeError('off by one'));
  assert.is(status, 125);
  assert.match(text, /off by one \(E_INTERNAL\)\nhint: .*--debug/);
  assert.match(report(new RangeError('x'), true).text, /RangeError: x\n +at /);
});

test.run();
