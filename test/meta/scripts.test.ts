/** The scripts, tried on small projects of their own: nothing here touches the checkout. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type RunResult, run } from '../helpers/proc.ts';

const test = suite('scripts');

const top = join(import.meta.dirname, '../..');
const made: string[] = [];
process.on('exit', () => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
});

/** A project with the real scripts and configuration, and these files as its sources. */
const project = (files: Readonly<Record<string, string>>): string => {
  const place = mkdtempSync(join(tmpdir(), 'scripts-'));
  made.push(place);
  for (const name of ['scripts', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.planner.json', 'biome.json']) {
    cpSync(join(top, name), join(place, name), { recursive: true });
  }
  symlinkSync(join(top, 'node_modules'), join(place, 'node_modules'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(place, name)), { recursive: true });
    writeFileSync(join(place, name), text);
  }
  return place;
};

const node = (place: string, script: string, ...args: readonly string[]): Promise<RunResult> =>
  run(['node', join('scripts', script), ...args], { cwd: place });

const lastLine = (result: RunResult): string => result.stdout.trimEnd().split('\n').at(-1) ?? '';

const GOOD = {
  'src/planner.ts': 'Object.assign(globalThis, { answer: (): number => 42 });\n\nexport {};\n',
  'test/run.ts': "console.log('3 passed, 0 failed, 1 skipped');\n",
  Makefile: "all:\n\t@true\ncheck-native:\n\t@echo '5 passed, 0 failed, 0 skipped'\n",
};

test('npm test adds up the counts of all stages, and each check counts as one', async () => {
  const result = await node(project(GOOD), 'test.mjs');
  assert.is(result.status, 0, result.stdout + result.stderr);
  assert.is(lastLine(result), '12 passed, 0 failed, 1 skipped');
});

test('npm test goes on after a failing stage, shows it whole and fails', async () => {
  const place = project({
    ...GOOD,
    'src/wrong.ts': 'export const text: string = 1;\n',
    Makefile: "all:\n\t@echo why it broke; false\ncheck-native:\n\t@echo '4 passed, 2 failed, 0 skipped'; false\n",
  });
  const result = await node(place, 'test.mjs');
  assert.is(result.status, 1);
  assert.is(lastLine(result), '9 passed, 4 failed, 1 skipped');
  assert.match(result.stdout, /src\/wrong\.ts.*TS2322/);
  assert.match(result.stdout, 'why it broke');
});

test('a stage that dies without counts, or fails with good ones, is a failure', async () => {
  const place = project({
    ...GOOD,
    'test/run.ts': "console.log('3 passed, 0 failed, 0 skipped');\nprocess.exit(1);\n",
    Makefile: 'all:\n\t@true\ncheck-native:\n\t@false\n',
  });
  assert.is(lastLine(await node(place, 'test.mjs')), '7 passed, 2 failed, 0 skipped');
});

test('the planner is one script without a module system', async () => {
  const place = project(GOOD);
  assert.is((await node(place, 'bundle.mjs', 'planner')).status, 0);
  const answer: unknown = runInNewContext(`${readFileSync(join(place, 'build/planner.js'), 'utf8')}; answer()`);
  assert.is(answer, 42);
});

test('a planner that imports a Node API does not build', async () => {
  const place = project({ ...GOOD, 'src/planner.ts': "import { readFileSync } from 'node:fs';\nreadFileSync('/etc/passwd');\n" });
  const result = await node(place, 'bundle.mjs', 'planner');
  assert.is(result.status, 1);
  assert.match(result.stderr, 'Could not resolve "node:fs"');
  assert.not(existsSync(join(place, 'build/planner.js')));
});

test("a planner that uses Node's globals does not pass its type check", async () => {
  const place = project({ ...GOOD, 'src/planner.ts': 'export const pid: number = process.pid + Buffer.alloc(1).length;\n' });
  const result = await run([join(top, 'node_modules/.bin/tsc'), '-p', 'tsconfig.planner.json'], { cwd: place });
  assert.is.not(result.status, 0);
  assert.match(result.stdout, "'process'");
  assert.match(result.stdout, "'Buffer'");
});

test('the bundled command line runs, with its workers beside it and without node_modules', async () => {
  const place = project({
    'src/cli/main.ts': "import { answer } from '../oci/answer.ts';\nimport yargs from 'yargs';\nconsole.log(answer, typeof yargs);\n",
    'src/oci/answer.ts': 'export const answer = 42;\n',
    'src/oci/decode-worker.ts': "import { answer } from './answer.ts';\nconsole.log('worker', answer);\n",
  });
  const bundled = await node(place, 'bundle.mjs', 'cli');
  assert.is(bundled.status, 0, bundled.stderr);
  rmSync(join(place, 'node_modules'));
  assert.is((await run([process.execPath, 'build/cli/main.js'], { cwd: place })).stdout, '42 function\n');
  assert.is((await run([process.execPath, 'build/cli/oci-decode-worker.js'], { cwd: place })).stdout, 'worker 42\n');
});

test.run();
