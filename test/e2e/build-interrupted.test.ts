/** Builds that are interrupted or killed, and two at once: nothing is left, and what was finished is of use. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ok, recipesIn } from '../helpers/recipes.ts';

const test = suite('interrupted builds');
const { user, place, base, context, build, start, assertClean } = recipesIn('interrupted');

type Interrupted = { readonly signal: NodeJS.Signals | null; readonly stderr: string };

/** Sends the signal as soon as the build says `word` on a line of its own. */
const interrupted = (directory: string, out: string, word: string, signal: NodeJS.Signals): Promise<Interrupted> =>
  new Promise((resolve, reject) => {
    const child = start(directory, out, ['--verbose']);
    let stderr = '';
    let sent = false;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      if (!sent && stderr.split('\n').includes(`  ${word}`)) {
        sent = true;
        child.kill(signal);
      }
    });
    child.on('error', reject);
    child.on('close', (_, ended) => resolve({ signal: ended, stderr }));
  });

const processesOf = (word: string): string => spawnSync('pgrep', ['-u', String(user.uid), '-af', word], { encoding: 'utf8' }).stdout;

test('an interrupted build leaves no image, process, mount or directory, and keeps the steps it had finished', async () => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const directory = context({
      Dockerfile: `FROM ${base}\nRUN echo ${signal} > /kept\nRUN mkdir -m 0 /closed; (setsid sleep 98765 &); echo is running; sleep 98765\n`,
    });
    const ended = await interrupted(directory, 'interrupted.sif', 'is running', signal);
    assert.is(ended.signal, signal, ended.stderr);
    const target = join(place, 'interrupted.sif');
    const last = ended.stderr.trimEnd().split('\n').at(-1) ?? '';
    assert.match(last, /^tsrun: interrupted in \[2\/2\] RUN mkdir .*: \S+ was not written; 1 step before it is kept for the next build$/);
    assert.ok(last.includes(target), last);
    assert.is(processesOf('sleep 98765'), '');
    assert.not.ok(existsSync(join(place, 'interrupted.sif')));
    assertClean('interrupted.sif');
    writeFileSync(join(directory, 'Dockerfile'), `FROM ${base}\nRUN echo ${signal} > /kept\n`);
    assert.match(ok(build(directory, 'resumed.sif')).stderr, /1 step \(1 cached\)/);
  }
});

test('what a build that was killed has left is removed by the next one', async () => {
  const directory = context({ Dockerfile: `FROM ${base}\nRUN mkdir -m 0 /closed; touch /file; echo is running; sleep 3\n` });
  const ended = await interrupted(directory, 'killed.sif', 'is running', 'SIGKILL');
  assert.is(ended.signal, 'SIGKILL', ended.stderr);
  writeFileSync(join(directory, 'Dockerfile'), `FROM ${base}\nRUN true\n`);
  ok(build(directory, 'killed.sif'));
  assertClean('killed.sif');
});

test('two builds of one recipe at once: each step is done once, both images are whole', async () => {
  const directory = context({ Dockerfile: `FROM ${base}\nRUN sleep 1; date +%s%N > /stamp\nRUN sleep 1; echo two > /two\n` });
  const told = (out: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const child = start(directory, out);
      let stderr = '';
      child.stderr?.on('data', (text: Buffer) => {
        stderr += text;
      });
      child.on('error', reject);
      child.on('close', (status) => (status === 0 ? resolve(stderr) : reject(new Error(stderr))));
    });
  const said = await Promise.all([told('twin-a.sif'), told('twin-b.sif')]);
  const cached = said.map((text) => Number(/\((\d+) cached\)/.exec(text)?.[1]));
  assert.is((cached[0] ?? 0) + (cached[1] ?? 0), 2, said.join('\n'));
  assert.ok(readFileSync(join(place, 'twin-a.sif')).equals(readFileSync(join(place, 'twin-b.sif'))));
  assertClean('twin-a.sif');
});

test.run();
