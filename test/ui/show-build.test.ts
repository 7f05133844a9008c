/** What of a build is seen: the state that events add up to, the lines of a log, the screen of a terminal. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { renderToString } from 'ink';
import { createElement } from 'react';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { BuildEvent, StepInfo } from '../../src/build/events.ts';
import { createLines } from '../../src/ui/build-lines.ts';
import { BuildScreen } from '../../src/ui/build-screen.ts';
import { bytesText, createBuildState, durationText, interruptedText } from '../../src/ui/build-view.ts';

const test = suite('showing a build');
const place = mkdtempSync(join(tmpdir(), 'tsrun-ui-'));
test.after(() => rmSync(place, { recursive: true, force: true }));

const step = (id: number, title: string, stage = 0): StepInfo => ({ id, stage, title, number: id, of: 3, place: `recipe:${id}` });
const PLAN: BuildEvent = {
  kind: 'plan',
  at: 1_000,
  target: 'out.sif',
  stages: [
    { index: 0, name: 'build', base: 'debian', steps: 2 },
    { index: 1, name: 'stage 2', base: 'scratch', steps: 1 },
  ],
  steps: 3,
  keeps: true,
};
const EVENTS: readonly BuildEvent[] = [
  PLAN,
  { kind: 'task-started', at: 1_000, task: 'fetch', id: 9, label: 'docker://debian' },
  { kind: 'task-progress', at: 1_000, id: 9, done: 0, total: 40_000_000 },
  { kind: 'task-progress', at: 3_000, id: 9, done: 20_000_000, total: 40_000_000 },
  { kind: 'step-cached', at: 3_000, step: step(1, 'apt-get update') },
  { kind: 'step-started', at: 3_000, step: step(2, 'make') },
  { kind: 'output', at: 3_100, step: 2, stream: 'stdout', line: '10%\r20%\r' },
  { kind: 'output', at: 3_100, step: 2, stream: 'stderr', line: '\x1b[1;31mwarning\x1b[0m:\x07 \x1b]0;title\x07x' },
  { kind: 'output', at: 3_200, step: 2, stream: 'stdout', line: '' },
];

const after = (events: readonly BuildEvent[], now: number) => {
  const state = createBuildState();
  for (const event of events) state.hear(event);
  return state.view(now);
};

test('events add up to steps, tasks with their rate, and the last lines of output without control characters', () => {
  const view = after(EVENTS, 4_000);
  assert.is(view.milliseconds, 3_000);
  assert.equal(view.steps, { over: 1, all: 3 });
  assert.equal(
    view.ended.map(({ step: { title }, how, stage }) => [title, how, stage]),
    [['apt-get update', 'cached', 'build']],
  );
  assert.equal(
    view.running.map(({ output, milliseconds }) => [output, milliseconds]),
    [[['20%', 'warning:? x'], 1_000]],
  );
  assert.is(view.tasks[0]?.rate, 10_000_000);
  assert.is(view.tasks[0]?.text, 'fetching docker://debian');
});

test('what recipes say is shown as text, whatever letters it has', () => {
  const said = 'RUN echo gr\xc3\xbc\xc3\x9fe\x1b[1m';
  const view = after([PLAN, { kind: 'step-started', at: 1, step: step(1, said) }, { kind: 'note', at: 1, text: said }], 1_000);
  assert.equal([view.running[0]?.step.title, view.notes[0]], ['RUN echo grüße?[1m', 'RUN echo grüße?[1m']);
});

test('the time stands still when the build is over, and a long output keeps its end', () => {
  const many = Array.from(
    { length: 10_000 },
    (_, at): BuildEvent => ({ kind: 'output', at: 3_300, step: 2, stream: 'stdout', line: `${at}` }),
  );
  const view = after([...EVENTS, ...many, { kind: 'failed', at: 5_000, error: undefined }], 60_000);
  assert.is(view.milliseconds, 4_000);
  assert.ok((view.running[0]?.output.length ?? 0) <= 400);
  assert.is(view.running[0]?.output.at(-1), '9999');
});

test('events about steps and tasks that nobody began are passed over', () => {
  const view = after(
    [PLAN, { kind: 'step-done', at: 1, step: 5, milliseconds: 1, bytes: 1 }, { kind: 'task-progress', at: 1, id: 4, done: 1, total: 1 }],
    1_000,
  );
  assert.equal([view.ended, view.tasks], [[], []]);
});

test('a log has a line for each step, one every ten seconds meanwhile, and the output of what failed', () => {
  let time = 0;
  let text = '';
  const lines = createLines(
    (more) => (text += more),
    false,
    () => time,
  );
  for (const event of EVENTS) lines.hear(event);
  for (time = 1_000; time <= 14_000; time += 1_000) lines.tick();
  lines.hear({ kind: 'task-done', at: 14_000, id: 9, bytes: 1 });
  lines.hear({ kind: 'step-failed', at: 15_000, step: 2, status: 2, output: ['cc: no', '\x1b[1mbad'] });
  assert.is(
    text,
    [
      'tsrun: [build 1/3] apt-get update: cached',
      'tsrun: [build 2/3] make: 7.0 s: warning:? x',
      'tsrun: fetching docker://debian: 20 MB of 40 MB, 10 MB/s, 9.0 s',
      'tsrun: [build 2/3] make: exit status 2 after 12 s',
      '  cc: no',
      '  bad',
      '',
    ].join('\n'),
  );
});

test('--verbose shows the output as it comes, and not again', () => {
  let text = '';
  const lines = createLines(
    (more) => (text += more),
    true,
    () => 0,
  );
  for (const event of EVENTS) lines.hear(event);
  lines.hear({ kind: 'step-failed', at: 15_000, step: 2, status: 2, output: ['20%'] });
  assert.match(text, /cached\n {2}20%\n {2}warning:\? x\n.*exit status 2 after 12 s\n$/s);
});

test('--verbose shows a blank line as one, and what a line was written over with', () => {
  let text = '';
  const lines = createLines(
    (more) => (text += more),
    true,
    () => 0,
  );
  for (const event of EVENTS.slice(0, 3)) lines.hear(event);
  text = '';
  for (const line of ['first', '', '', '10%\r100%\r', '  in']) lines.hear({ kind: 'output', at: 1, step: 2, stream: 'stdout', line });
  assert.is(text, '  first\n\n\n  100%\n    in\n');
});

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const COLOURS = /\u001b\[[0-9;]*m/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above
const DRAWN_OVER = /\u001b\[(?:[0-9]*A|2K)/;

const draw = (events: readonly BuildEvent[], columns = 60, rows = 20): string =>
  renderToString(createElement(BuildScreen, { view: after(events, 4_000), frame: 0, rows, columns }), { columns }).replace(COLOURS, '');

test('the screen shows what is over above what is under way', () => {
  assert.equal(
    draw(EVENTS, 80)
      .split('\n')
      .map((line) => line.trimEnd()),
    [
      '= [build 1/3] apt-get update  cached',
      '⠋ fetching docker://debian  ━━━━━━━━━━────────── 20 MB of 40 MB, 10 MB/s, 3.0 s',
      '⠋ [build 2/3] make  1.0 s',
      '  │ 20%',
      '  │ warning:? x',
      '  1 of 3 steps, 3.0 s',
    ],
  );
});

test('what is under way is never wider or higher than the terminal', () => {
  const long = Array.from(
    { length: 50 },
    (_, at): BuildEvent => ({ kind: 'output', at: 3_300, step: 2, stream: 'stdout', line: `${at} ${'x'.repeat(200)}` }),
  );
  for (const [columns, rows] of [
    [40, 10],
    [20, 6],
    [200, 50],
  ] as const) {
    const lines = draw([PLAN, ...EVENTS.slice(5), ...long], columns, rows).split('\n');
    assert.ok(lines.length <= rows - 1, `${lines.length} lines on ${rows} rows`);
    for (const line of lines) assert.ok(line.length <= columns, line);
  }
});

test('a failed step shows its last output, its exit status and its place in the recipe', () => {
  const text = draw([
    ...EVENTS.slice(0, 1),
    { kind: 'step-started', at: 1_500, step: step(2, 'make') },
    { kind: 'step-failed', at: 2_500, step: 2, status: 2, output: ['cc: no', 'make: *** [all] Error 1'] },
    { kind: 'failed', at: 2_600, error: undefined },
  ]);
  for (const part of ['✘ [build 2/3] make  exit status 2 after 1.0 s', '│ cc: no', '│ make: *** [all] Error 1', 'recipe:2'])
    assert.ok(text.includes(part), text);
});

const PTY = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
out = b''
while True:
    try: data = os.read(fd, 65536)
    except OSError: break
    if not data: break
    out += data
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(status))
`;

const inTerminal = (words: readonly string[], env: Readonly<Record<string, string>> = {}): string => {
  // ink draws only its last picture where it sees a CI.
  const own = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', TERM: 'xterm', COLUMNS: '80', LINES: '24' };
  const done = spawnSync('python3', ['-c', PTY, ...words], { encoding: 'utf8', env: { ...own, ...env } });
  assert.is(done.status, 0, done.stdout + done.stderr);
  return done.stdout;
};

/** As the build bundles the command line (scripts/bundle.mjs). */
const bundled = async (): Promise<string> => {
  const { build } = await import('esbuild');
  await build({
    entryPoints: [resolve(import.meta.dirname, 'fixtures/show-events.ts')],
    outdir: place,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    format: 'esm',
    splitting: true,
    platform: 'node',
    target: 'node24',
    logLevel: 'warning',
    external: ['react-devtools-core'],
    define: { 'process.env.NODE_ENV': '"production"' },
    banner: { js: "import { createRequire as requireFor } from 'node:module'; const require = requireFor(import.meta.url);" },
  });
  return join(place, 'show-events.mjs');
};

test('on a terminal the screen is drawn over, from the sources and from the bundle; what is over stays', async () => {
  for (const program of [resolve(import.meta.dirname, 'fixtures/show-events.ts'), await bundled()]) {
    const text = inTerminal([process.execPath, program]).replace(COLOURS, '');
    for (const part of [
      'fetching docker://debian:12',
      '12 MB of 48 MB',
      'apt-get update',
      'line 4999',
      '│ wrong',
      'exit status 7',
      'a thing to know',
      'the end',
    ])
      assert.ok(text.includes(part), `${part} in ${JSON.stringify(text)}`);
    assert.not.ok(text.includes('line 1000\r'), 'drawn ten times a second, not at every line');
    assert.not.ok(text.includes('\x1b[2J'), 'no control characters of programs');
    assert.match(text, DRAWN_OVER, 'lines are drawn over');
    // The last picture, and the cursor shown again.
    assert.ok(text.lastIndexOf('\x1b[?25h') > text.lastIndexOf('\x1b[?25l'));
    assert.ok(text.lastIndexOf('the end') > text.lastIndexOf('│'), 'what is printed afterwards stands below');
  }
});

test('a dumb terminal, a verbose build and a pipe are told in lines, a quiet one nothing', () => {
  const program = resolve(import.meta.dirname, 'fixtures/show-events.ts');
  const dumb = inTerminal([process.execPath, program], { TERM: 'dumb' });
  assert.not.ok(dumb.includes('\x1b'));
  assert.match(dumb, /tsrun: \[3\/3\] false: exit status 7 after 0\.0 s\r\n {2}what went\r\n {2}wrong\r\n/);
  const verbose = inTerminal([process.execPath, program, 'verbose']);
  assert.ok(verbose.includes('  line 1234\r\n'));
  const piped = spawnSync(process.execPath, [program], { encoding: 'utf8' });
  assert.match(piped.stderr, /^tsrun: \[1\/3\] apt-get update: cached\ntsrun: \[2\/3\] make all: 0\.4 s, 1\.5 MB\n/);
  assert.is(spawnSync(process.execPath, [program, 'quiet'], { encoding: 'utf8' }).stderr, 'the end\n');
});

test('numbers are for people', () => {
  assert.equal([0, 9_940, 9_960, 59_400, 185_000, 3_725_000].map(durationText), [
    '0.0 s',
    '9.9 s',
    '10 s',
    '59 s',
    '3 min 05 s',
    '1 h 02 min',
  ]);
  assert.equal([0, 999, 830_000, 4_200_000, 48e6, 1.3e9].map(bytesText), ['0 kB', '1 kB', '830 kB', '4.2 MB', '48 MB', '1.3 GB']);
});

test('who interrupts a build hears in which step, what is kept, and that there is no image', () => {
  const state = createBuildState();
  for (const event of EVENTS) state.hear(event);
  const said = (): string => interruptedText(state.view(3_300));
  assert.is(said(), 'interrupted in [build 2/3] make: out.sif was not written; 1 step before it is kept for the next build');
  state.hear({ kind: 'step-done', at: 3_400, step: 2, milliseconds: 400, bytes: 0 });
  assert.is(said(), 'interrupted while fetching docker://debian: out.sif was not written; 2 steps before it are kept for the next build');
  state.hear({ kind: 'task-done', at: 3_500, id: 9, bytes: 1 });
  state.hear({ ...PLAN, keeps: false });
  assert.is(said(), 'interrupted: out.sif was not written; no step is kept here');
  state.hear({ kind: 'done', at: 4_000, target: 'out.sif', bytes: 1, milliseconds: 1, steps: 3, cached: 0 });
  assert.is(said(), 'interrupted in the second build: out.sif is written, and was not compared');
});

test.run();
