/**
 * Runs one uvu test file in this process and reports on descriptor 3 what really ran. Started by test/run.ts.
 *
 * uvu's own command would be quieter than the truth, so its queue is taken over: each `.run()` puts a function there, which
 * returns `[error text | true, passed, skipped, total]`.
 */
import { readFileSync, writeSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { skipsSoFar } from './helpers/skip.ts';

export type FileReport = {
  readonly passed: number;
  /** One text per failed test (its name), or per way in which the file did not keep the rules. */
  readonly failures: readonly string[];
  /** `file:line: reason`, for every test that called skip(reason). */
  readonly skips: readonly string[];
};

type SuiteResult = readonly [errors: string | true, passed: number, skipped: number, total: number];
type UvuGlobals = { UVU_DEFER: number; UVU_INDEX: number; UVU_QUEUE: [[null, ...(() => Promise<SuiteResult>)[]]] };

/** Rules that can be read off the source. */
const sourceFailures = (source: string, suitesRun: number): string[] => {
  const suitesMade = source.match(/=\s*suite\s*(<[^>]*>)?\(/g)?.length ?? 0;
  const failures: string[] = [];
  if (suitesRun === 0 || suitesRun < suitesMade) failures.push(`${suitesMade} suites, but ${suitesRun} calls of .run()`);
  if (/^\s*[\w.]+\.only\(/m.test(source)) failures.push('.only( leaves the other tests out');
  return failures;
};

/** The names of the tests in uvu's error text: ` FAIL  suite  "name"`. */
const failedNames = (errors: string): string[] => [...errors.matchAll(/^\s*FAIL\s.*?"(.*)"$/gm)].map((match) => match[1] ?? '');

const runSuite = async (run: () => Promise<SuiteResult>): Promise<{ readonly passed: number; readonly failures: readonly string[] }> => {
  try {
    const [errors, passed, skipped, total] = await run();
    const failures: string[] = [];
    if (errors !== true) {
      console.error(errors);
      failures.push(...failedNames(errors));
    }
    // A hook that throws ends the suite without an error text; so does a test that throws something that is no Error.
    const lost = total - passed - failures.length;
    if (lost > 0) failures.push(`${lost} of ${total} tests of a suite did not run to their end (a hook that threw?)`);
    if (skipped > 0) failures.push(`${skipped} tests skipped without a reason: call skip(reason) of test/helpers/skip.ts`);
    if (total + skipped === 0) failures.push('a suite without tests');
    return { passed, failures };
  } catch (error) {
    console.error(error);
    return { passed: 0, failures: [`a suite threw: ${String(error)}`] };
  }
};

const main = async (file: string): Promise<void> => {
  const queue: UvuGlobals['UVU_QUEUE'] = [[null]];
  Object.assign(globalThis, { UVU_DEFER: 1, UVU_INDEX: 0, UVU_QUEUE: queue } satisfies UvuGlobals);
  await import(pathToFileURL(resolve(file)).href);
  const runs = queue[0].filter((entry) => entry !== null);
  const failures = sourceFailures(readFileSync(file, 'utf8'), runs.length);
  let passed = 0;
  for (const run of runs) {
    const result = await runSuite(run);
    passed += result.passed;
    failures.push(...result.failures);
  }
  const skips = skipsSoFar().map((skip) => `${relative(process.cwd(), skip.at)}: ${skip.reason}`);
  const report: FileReport = { passed: passed - skips.length, failures, skips };
  writeSync(3, JSON.stringify(report));
  process.exit(0);
};

await main(process.argv[2] ?? '');
