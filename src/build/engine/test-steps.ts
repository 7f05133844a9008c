/** %test and the like: run in the finished image by the product itself, before it gets its name. */
import { writeFile } from 'node:fs/promises';
import type { Step } from '../../recipe/spec.ts';
import { TsrunError } from '../../util/errors.ts';
import { nativeProgram } from '../../util/native-program.ts';
import { closeWorkplace, openWorkplace } from './cache.ts';
import type { Engine } from './engine.ts';
import { placeText } from './names.ts';
import { type OnLine, runGroup } from './outputs.ts';

type TestStep = Extract<Step, { kind: 'test' }>;

const SCRIPT = '/.tsrun-test';
const LAST_LINES = 40;

/** @throws TsrunError E_TEST */
export const runTests = async (engine: Engine, image: string, tests: readonly TestStep[]): Promise<void> => {
  for (const [at, step] of tests.entries()) await runTest(engine, image, step, at + 1, tests.length);
};

const runTest = async (engine: Engine, image: string, step: TestStep, number: number, of: number): Promise<void> => {
  const place = placeText(step.at);
  const info = { id: ++engine.count.steps, stage: engine.spec.target, title: step.title, number, of, place };
  const started = performance.now();
  engine.emit({ kind: 'step-started', at: started, step: info });
  const workplace = await openWorkplace(engine.cache);
  const last: string[] = [];
  let status: number;
  try {
    const script = `${workplace.path}/test`;
    const { command } = step;
    if (command.form === 'script') await writeFile(script, Buffer.from(command.text, 'latin1'), { mode: 0o755 });
    const words =
      command.form === 'script'
        ? [...command.interpreter, ...command.args, SCRIPT]
        : command.form === 'argv'
          ? command.argv
          : ['/bin/sh', '-c', command.text];
    const binds = command.form === 'script' ? ['--bind', `${script}:${SCRIPT}:ro`] : [];
    status = await inImage(engine, [...binds, image, ...words], (stream, line) => {
      last.push(line);
      if (last.length > LAST_LINES) last.shift();
      engine.emit({ kind: 'output', at: performance.now(), step: info.id, stream, line });
    });
  } finally {
    await closeWorkplace(engine.cache, workplace);
  }
  engine.signal.throwIfAborted();
  const at = performance.now();
  if (status === 0) {
    engine.emit({ kind: 'step-done', at, step: info.id, milliseconds: at - started, bytes: 0 });
    return;
  }
  engine.emit({ kind: 'step-failed', at, step: info.id, status, output: last });
  throw new TsrunError({
    code: 'E_TEST',
    what: `${place}: the test failed: ${step.title}`,
    why: `its exit status is ${status}`,
    hint: 'with --notest the image is written without its tests',
  });
};

/** Contained, so that a test does not pass because of what this host has. */
const inImage = async (engine: Engine, args: readonly string[], onLine: OnLine): Promise<number> => {
  const words = ['exec', '--containall', '--writable-tmpfs', '--no-home', '--pwd', '/', ...args].map((word) =>
    Buffer.from(word, 'latin1').toString('utf8'),
  );
  const env = { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '/' };
  return runGroup(nativeProgram(), words, { signal: engine.signal, onLine, env });
};
