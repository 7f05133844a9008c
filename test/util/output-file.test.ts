import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TsrunError } from '../../src/util/errors.ts';
import { writeOutputFile } from '../../src/util/output-file.ts';
import { skip } from '../helpers/skip.ts';

const test = suite('output file');

const scratch = mkdtempSync(join(tmpdir(), 'output-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
const directory = (): string => mkdtempSync(join(scratch, 'd-'));

const failing = async (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => assert.unreachable('it succeeded'),
    (error: unknown) => error,
  );

test('the file is there when the writer is done, with the mode asked for less the umask', async () => {
  const path = join(directory(), 'out');
  const result = await writeOutputFile(path, 0o777, async (fd) => {
    assert.equal(
      readdirSync(join(path, '..')).filter((name) => name === 'out'),
      [],
    );
    writeSync(fd, 'content');
    return 42;
  });
  assert.is(result, 42);
  assert.is(readFileSync(path, 'utf8'), 'content');
  assert.is(statSync(path).mode & 0o777, 0o777 & ~process.umask());
});

test('a writer that fails leaves the old file and nothing else', async () => {
  const path = join(directory(), 'out');
  writeFileSync(path, 'old');
  const error = await failing(
    writeOutputFile(path, 0o666, async (fd) => {
      writeSync(fd, 'half');
      throw new Error('the source broke');
    }),
  );
  assert.match(String(error), 'the source broke');
  assert.equal(readdirSync(join(path, '..')), ['out']);
  assert.is(readFileSync(path, 'utf8'), 'old');
});

test('two writers of one file at once both end well, and one of them whole', async () => {
  const path = join(directory(), 'out');
  const slow = (text: string) =>
    writeOutputFile(path, 0o666, async (fd) => {
      for (const char of text) {
        writeSync(fd, char);
        await new Promise(setImmediate);
      }
    });
  await Promise.all([slow('aaaaaaaa'), slow('bbbbbbbb')]);
  assert.match(readFileSync(path, 'utf8'), /^(a{8}|b{8})$/);
  assert.equal(readdirSync(join(path, '..')), ['out']);
});

test('a directory as target and a missing directory are named before anything is written', async () => {
  const path = directory();
  for (const target of [path, join(path, 'missing', 'out')]) {
    const error = await failing(writeOutputFile(target, 0o666, async () => assert.unreachable()));
    assert.instance(error, TsrunError);
    assert.is((error as TsrunError).code, 'E_OUTPUT');
  }
});

test('a full file system is reported as such and nothing is left on it', async () => {
  const path = directory();
  mkdirSync(join(path, 'small'));
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', join(path, 'small')]).status !== 0) {
    return skip('mounting a small tmpfs needs root');
  }
  try {
    const error = await failing(
      writeOutputFile(join(path, 'small', 'out'), 0o666, async (fd) => {
        for (let n = 0; n < 64; n++) writeSync(fd, Buffer.alloc(4096, 1));
      }),
    );
    assert.is((error as TsrunError).code, 'E_OUTPUT_FULL');
    assert.equal(readdirSync(join(path, 'small')), []);
  } finally {
    spawnSync('umount', [join(path, 'small')]);
  }
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`${signal} while writing ends the process by that signal and leaves nothing`, async () => {
    const path = join(directory(), 'out');
    const program = `
      const { writeOutputFile } = await import(${JSON.stringify(join(import.meta.dirname, '../../src/util/output-file.ts'))});
      await writeOutputFile(${JSON.stringify(path)}, 0o666, async () => {
        process.stdout.write('writing');
        await new Promise((resolve) => setTimeout(resolve, 100_000));
      });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    assert.is(readdirSync(join(path, '..')).length, 1);
    const ended = new Promise((resolve) => child.once('exit', (_code, by) => resolve(by)));
    child.kill(signal);
    assert.is(await ended, signal);
    assert.equal(readdirSync(join(path, '..')), []);
  });
}

test.run();
