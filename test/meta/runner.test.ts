import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('test runner');

const root = join(import.meta.dirname, '..', '..');

const runFixture = (name: string): { readonly status: number | null; readonly text: string; readonly last: string } => {
  const result = spawnSync(process.execPath, ['test/run.ts', `test/meta/fixtures/${name}.ts`], { cwd: root, encoding: 'utf8' });
  return { status: result.status, text: result.stdout, last: result.stdout.trimEnd().split('\n').at(-1) ?? '' };
};

const assertFails = (name: string, last: string, reason: RegExp): void => {
  const result = runFixture(name);
  assert.is(result.status, 1);
  assert.is(result.last, last);
  assert.match(result.text, reason);
};

test('passed tests of all suites of a file are counted', () => {
  const result = runFixture('good');
  assert.is(result.status, 0);
  assert.is(result.last, '3 passed, 0 failed, 0 skipped');
});

test('a failed test is named with its file', () => {
  const result = runFixture('fails');
  assert.is(result.status, 1);
  assert.match(result.text, /^FAILED test\/meta\/fixtures\/fails\.ts: fails as a sentence$/m);
});

test('a suite without .run() fails', () => assertFails('run-forgotten', '0 passed, 1 failed, 0 skipped', /1 suites, but 0 calls of \.run/));

test('a hook that throws fails', () => assertFails('hook-throws', '0 passed, 1 failed, 0 skipped', /1 of 1 tests of a suite did not run/));

test('a suite without tests fails', () => assertFails('no-tests', '0 passed, 1 failed, 0 skipped', /a suite without tests/));

test('.only( fails, whatever else passed', () => {
  const result = runFixture('only');
  assert.is(result.status, 1);
  assert.match(result.text, /\.only\( leaves the other tests out/);
});

test('process.exit(0) in a test fails', () => assertFails('exits', '0 passed, 1 failed, 0 skipped', /ended without a report/));

test('a file that cannot be imported fails', () =>
  assertFails('import-throws', '0 passed, 1 failed, 0 skipped', /ended without a report \(exit status 1\)/));

test('a rejection that nobody handles fails', () =>
  assertFails('late-rejection', '0 passed, 1 failed, 0 skipped', /nobody waits for this/));

test('a file over its time limit is killed and fails', () =>
  assertFails('hangs', '0 passed, 1 failed, 0 skipped', /over the time limit of 1 s/));

test('a skipped test counts as skipped and its reason is printed', () => {
  const result = runFixture('skips');
  assert.is(result.status, 0);
  assert.is(result.last, '1 passed, 0 failed, 1 skipped');
  assert.match(result.text, /^SKIPPED test\/meta\/fixtures\/skips\.ts:7: no such machine$/m);
});

test('a skip without a reason fails', () => assertFails('skip-silent', '1 passed, 1 failed, 0 skipped', /skipped without a reason/));

test('fixtures are not picked up by discovery', () => {
  const result = spawnSync(process.execPath, ['test/run.ts', 'test/meta/fixtures'], { cwd: root, encoding: 'utf8' });
  assert.is(result.status, 1);
  assert.match(result.stdout, /no test ran at all/);
});

test.run();
