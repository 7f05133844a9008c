/**
 * The test runner: `node test/run.ts [folder or file …]`.
 *
 * Every test file runs in a process of its own (test/one.ts), some at a time, under a time limit, and must report on
 * descriptor 3 what it ran; a file that says nothing, says it in part, or dies has failed. uvu alone would call such files
 * passed: a suite without `.run()`, a hook that throws, a `process.exit()` in a test. test/meta/runner.test.ts proves each.
 * The last line is `N passed, N failed, N skipped`.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, relative } from 'node:path';
import type { FileReport } from './one.ts';

/** More than processors, of which two are enough for all: a third of what tests do is waiting. */
const AT_ONCE = 3;
/** Some hundred processes read the same sources: their types are taken out once, whoever comes first. Kept by content. */
const COMPILED = join(import.meta.dirname, '../build/compiled');
/** Ends what hangs; on one slow processor a file may need ten times its usual time. */
const DEFAULT_LIMIT_SECONDS = 300;

type Outcome = {
  readonly file: string;
  readonly passed: number;
  readonly failures: readonly string[];
  readonly skips: readonly string[];
  readonly output: string;
  readonly seconds: number;
};

const runningGroups = new Set<number>();

const testFilesBelow = (path: string): string[] => {
  if (statSync(path).isFile()) return [path];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.name !== 'fixtures' && entry.name !== 'node_modules')
    .flatMap((entry) => {
      if (entry.isDirectory()) return testFilesBelow(join(path, entry.name));
      return entry.name.endsWith('.test.ts') ? [join(path, entry.name)] : [];
    })
    .sort();
};

/** A file may ask for more time in its first lines: `// time limit: 600 s`. */
const timeLimit = (file: string): number => {
  const head = readFileSync(file, 'utf8').slice(0, 2000);
  const asked = /^\/\/ time limit: (\d+) s$/m.exec(head)?.[1];
  return asked === undefined ? DEFAULT_LIMIT_SECONDS : Number(asked);
};

const killGroup = (pid: number): void => {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The group has ended already.
  }
};

/** Output and report go to files, not pipes: a process left behind by a test cannot keep the runner waiting. */
const runFile = async (file: string, scratch: string): Promise<Outcome> => {
  const started = performance.now();
  const limit = timeLimit(file);
  const stem = join(scratch, file.replaceAll('/', '+'));
  const output = openSync(`${stem}.out`, 'w');
  const report = openSync(`${stem}.report`, 'w');
  const child = spawn(process.execPath, [join(import.meta.dirname, 'one.ts'), file], {
    stdio: ['ignore', output, output, report],
    detached: true,
    env: { ...process.env, NODE_COMPILE_CACHE: COMPILED },
  });
  closeSync(output);
  closeSync(report);
  if (child.pid !== undefined) runningGroups.add(child.pid);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    if (child.pid !== undefined) killGroup(child.pid);
  }, limit * 1000);
  const ending = await new Promise<string | null>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (code, signal) => resolve(code === 0 ? null : signal === null ? `exit status ${code}` : `killed by ${signal}`));
  });
  clearTimeout(timer);
  if (child.pid !== undefined) {
    killGroup(child.pid);
    runningGroups.delete(child.pid);
  }
  return {
    file,
    ...judge(readFileSync(`${stem}.report`, 'utf8'), timedOut ? `over the time limit of ${limit} s` : ending),
    output: readFileSync(`${stem}.out`, 'utf8'),
    seconds: (performance.now() - started) / 1000,
  };
};

/** Counts and failures of one file, from its report and from how its process ended (null: well). */
const judge = (reportText: string, ending: string | null): Pick<Outcome, 'passed' | 'failures' | 'skips'> => {
  if (reportText === '') return { passed: 0, failures: [`ended without a report (${ending ?? 'process.exit() in a test?'})`], skips: [] };
  const report = JSON.parse(reportText) as FileReport;
  const failures = [...report.failures, ...(ending === null ? [] : [`after its report: ${ending}`])];
  return { passed: report.passed, failures, skips: report.skips };
};

const announce = (outcome: Outcome): void => {
  const good = outcome.failures.length === 0;
  const counts = [`${outcome.passed} passed`];
  if (!good) counts.push(`${outcome.failures.length} failed`);
  if (outcome.skips.length > 0) counts.push(`${outcome.skips.length} skipped`);
  console.log(`${good ? 'ok  ' : 'FAIL'} ${outcome.file}  ${counts.join(', ')}  (${outcome.seconds.toFixed(1)} s)`);
  if (!good) console.log(outcome.output.replace(/^/gm, '     | '));
};

const inParallel = async <T, R>(items: readonly T[], width: number, work: (item: T) => Promise<R>): Promise<R[]> => {
  const results: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index] as T);
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return results;
};

const main = async (args: readonly string[]): Promise<number> => {
  const paths = args.length > 0 ? args : [relative(process.cwd(), import.meta.dirname) || '.'];
  // What may take longest begins first, so that little is left for one lane alone.
  const files = [...new Set(paths.flatMap(testFilesBelow))].sort((a, b) => timeLimit(b) - timeLimit(a));
  const scratch = mkdtempSync(join(tmpdir(), `${basename(import.meta.filename, '.ts')}-`));
  process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      for (const pid of runningGroups) killGroup(pid);
      process.exit(130);
    });
  }

  const outcomes = await inParallel(files, AT_ONCE, async (file) => {
    const outcome = await runFile(file, scratch);
    announce(outcome);
    return outcome;
  });

  const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
  const failures = outcomes.flatMap((outcome) => outcome.failures.map((failure) => `${outcome.file}: ${failure}`));
  const skips = outcomes.flatMap((outcome) => outcome.skips);
  if (passed + failures.length === 0) failures.push('no test ran at all');
  for (const skipped of skips) console.log(`SKIPPED ${skipped}`);
  for (const failure of failures) console.log(`FAILED ${failure}`);
  console.log(`${passed} passed, ${failures.length} failed, ${skips.length} skipped`);
  return failures.length === 0 ? 0 : 1;
};

process.exitCode = await main(process.argv.slice(2));
