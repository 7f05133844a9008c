// `npm test`: sets up what is missing, then runs every check and every test, going on after a failure. The last line is
// `N passed, N failed, N skipped` over all stages.
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { environment, isRoot, main, makeJobs, root, runQuiet, say, seconds } from './lib.mjs';
import { setUp, TEST_USER } from './setup.mjs';

/** Each stage is one program. `counts`: its last line is `N passed, N failed, N skipped`; else it counts as one check. */
const stages = [
  { title: 'type check', command: ['tsc', '-p', '.'] },
  { title: 'type check of the planner (no Node API)', command: ['tsc', '-p', 'tsconfig.planner.json'] },
  { title: 'lint and format', command: ['biome', 'check', '--error-on-warnings'] },
  { title: 'build', command: ['make', makeJobs, 'all'] },
  { title: 'native tests under ASan and UBSan', command: ['make', makeJobs, 'check-native'], counts: true },
  { title: 'tests', command: ['node', 'test/run.ts'], counts: true },
];

const COUNTS = /^(\d+) passed, (\d+) failed, (\d+) skipped$/gm;

/**
 * The test user must reach the checkout. Where it cannot (below a directory of root's own), the stages see the checkout at a place that it
 * can reach, each in a mount namespace of its own; the words returned go in front of a command.
 */
const reachable = () => {
  if (!isRoot || runQuiet('setpriv', ['--reuid', TEST_USER, '--clear-groups', 'test', '-r', join(root, 'package.json')]).status === 0)
    return [];
  const place = mkdtempSync('/tmp/tsrun-checkout-');
  chmodSync(place, 0o755);
  process.on('exit', () => rmdirSync(place));
  const script = 'mount --bind "$0" "$1" && cd "$1" && PATH="$1/node_modules/.bin:$PATH" && shift && exec "$@"';
  return ['unshare', '--mount', 'sh', '-c', script, root, place];
};

/** Runs a program; what counts is shown as it comes, what does not only when it fails. */
const runStage = ({ command, counts = false }, prefix) =>
  new Promise((resolve) => {
    const [program, ...args] = [...prefix, ...command];
    const child = spawn(program, args, { cwd: root, env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    const take = (chunk) => {
      text += chunk;
      if (counts) process.stdout.write(chunk);
    };
    child.stdout.setEncoding('utf8').on('data', take);
    child.stderr.setEncoding('utf8').on('data', take);
    child.on('error', (error) => take(`${program}: ${error.message}\n`));
    child.on('close', (status) => {
      if (status !== 0 && !counts) process.stdout.write(text);
      resolve({ ok: status === 0, text });
    });
  });

/** Passed, failed, skipped of a stage; one that fails without a failed test in its counts has failed once more. */
const countsOf = (stage, { ok, text }) => {
  // Behind the counts there may still be what make says of a failure.
  const line = stage.counts === true ? [...text.matchAll(COUNTS)].at(-1) : undefined;
  const counted = line === undefined ? [] : line.slice(1).map(Number);
  const [passed = ok ? 1 : 0, failed = 0, skipped = 0] = counted;
  return { passed, failed: ok || failed > 0 ? failed : 1, skipped };
};

await main(async () => {
  const total = { passed: 0, failed: 0, skipped: 0 };
  const lines = [];
  const stageDone = (title, started, counts) => {
    const line = `${counts.failed > 0 ? 'FAIL' : 'ok  '} ${title}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped (${seconds(started)})`;
    console.log(`== ${line}`);
    lines.push(line);
    for (const kind of Object.keys(total)) total[kind] += counts[kind];
  };

  const started = performance.now();
  try {
    setUp(['build', 'test', 'quickstart']);
  } catch (error) {
    say(error.message);
    stageDone('set-up', started, { passed: 0, failed: 1, skipped: 0 });
  }
  if (total.failed === 0) {
    const prefix = reachable();
    for (const stage of stages) {
      console.log(`\n== ${stage.title}`);
      const since = performance.now();
      stageDone(stage.title, since, countsOf(stage, await runStage(stage, prefix)));
    }
  }
  console.log(`\n${lines.join('\n')}\nall in ${seconds(started)}\n`);
  console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed === 0 ? 0 : 1;
});
