/** Progress lines, with a clock of our own. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createProgress, type Progress } from '../../src/cli/progress.ts';
import { reportFailure } from '../../src/cli/report.ts';
import type { Digest } from '../../src/oci/descriptor.ts';
import { TsrunError } from '../../src/util/errors.ts';

const test = suite('progress and failures');

const LABEL = 'docker://registry.example/team/pipeline:1.2';

/** Calls `tell` at each of `times` and gives what was written. */
const show = (
  terminal: boolean,
  quiet: boolean,
  times: readonly number[],
  tell: (progress: Progress, at: number) => void,
  columns = 60,
): string[] => {
  const texts: string[] = [];
  let time = 0;
  const output = { isTTY: terminal, columns, write: (text: string) => texts.push(text) };
  const progress = createProgress(LABEL, output, quiet, () => time);
  for (const [at, each] of times.entries()) {
    time = each;
    tell(progress, at);
  }
  progress.end();
  return texts;
};

const convert = (progress: Progress, at: number): void => progress.converted((at + 1) * 1e6, 1e7);

test('quick work and quiet work show nothing', () => {
  assert.equal(show(true, false, [10, 100, 400], convert), []);
  assert.equal(show(false, false, [10, 5000, 9999], convert), []);
  assert.equal(show(true, true, [10, 60_000], convert), []);
});

test('a terminal gets one line that is written over, at most ten times a second, and taken away at the end', () => {
  assert.equal(show(true, false, [400, 600, 650, 1400], convert), [
    '\r\x1b[Ktsrun: …ple/team/pipeline:1.2: converting 20% of 10 MB, 1 s',
    '\r\x1b[Ktsrun: …ipeline:1.2: converting 40% of 10 MB, 3.0 MB/s, 1 s',
    '\r\x1b[K',
  ]);
});

test('no line is wider than the terminal, however narrow, and a terminal that does not know its width has 80', () => {
  for (const columns of [20, 40, 60, 200]) {
    for (const text of show(true, false, [600, 2000, 3000], convert, columns)) {
      const line = text.replace('\r\x1b[K', '');
      assert.ok(line.length < columns, line);
    }
  }
  assert.match(show(true, false, [600], convert, 0)[0] ?? '', /, 1 s$/);
});

test('a log gets a line every ten seconds', () => {
  assert.equal(show(false, false, [9000, 10_000, 15_000, 20_001], convert), [
    `tsrun: ${LABEL}: converting 20% of 10 MB, 1.0 MB/s, 10 s\n`,
    `tsrun: ${LABEL}: converting 40% of 10 MB, 0.2 MB/s, 20 s\n`,
  ]);
});

test('while layers are fetched their bytes, number and rate are shown; then how far the converter is', () => {
  const digests = ['sha256:a', 'sha256:b', 'sha256:c'] as unknown as readonly Digest[];
  const [a = '', b = ''] = digests as readonly string[];
  const fetched = (
    kind: 'download' | 'done' | 'waiting' | 'cached',
    digest: string,
    bytes: number,
  ): Parameters<Progress['fetched']>[0] => ({
    kind,
    digest: digest as Digest,
    bytes,
    total: 100e6,
  });
  const steps: readonly ((progress: Progress) => void)[] = [
    (progress) => progress.fetched(fetched('cached', 'sha256:c', 100e6)),
    (progress) => progress.fetched(fetched('download', a, 0)),
    (progress) => progress.fetched(fetched('download', b, 0)),
    (progress) => progress.fetched(fetched('done', a, 100e6)),
    (progress) => progress.fetched({ kind: 'retry', why: 'the registry answers 503', milliseconds: 4000 }),
    (progress) => progress.fetched(fetched('done', b, 100e6)),
    (progress) => progress.waiting(),
  ];
  const lines = show(true, false, [0, 0, 0, 1000, 2000, 3000, 4000], (progress, at) => steps[at]?.(progress), 200).map((text) =>
    text.replace(/^.*?1\.2: /s, ''),
  );
  assert.equal(lines.slice(0, -1), [
    'fetching 100 MB of 200 MB, 1 of 2 layers, 100 MB/s, 1 s',
    'the registry answers 503; trying again in 4 s, 2 s',
    'converting 0.0 MB, 3 s',
    'waiting for another tsrun that converts it, 4 s',
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
  const named = new TsrunError({ code: 'E_OUTPUT', what: 'cannot write F\xc3\xa4ll', why: 'größer' });
  assert.is(report(named).text, 'tsrun: cannot write Fäll: größer (E_OUTPUT)\n');
});

test('any other error is named as a mistake of tsrun, with its stack on --debug', () => {
  const { text, status } = report(new RangeError('off by one'));
  assert.is(status, 125);
  assert.match(text, /off by one \(E_INTERNAL\)\nhint: .*--debug/);
  assert.match(report(new RangeError('x'), true).text, /RangeError: x\n +at /);
});

test.run();
