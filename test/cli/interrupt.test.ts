/** A signal during long work: what is put away, and how long that may take. */
import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('interrupted work');
const module = resolve(join(import.meta.dirname, '../../src/cli/interrupt.ts'));

/** Work that waits for the signal and then needs so long to put things away. */
const script = (milliseconds: number, tidying: string): string => `
import { interruptible } from ${JSON.stringify(module)};
import { setTimeout as passed } from 'node:timers/promises';
await interruptible(async (signal) => {
  const alive = setInterval(() => {}, 1000);
  const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve));
  console.log('working');
  await aborted;
  await passed(${milliseconds});
  console.log('tidied');
  clearInterval(alive);
}, ${tidying});
`;

type Ended = { readonly signal: NodeJS.Signals | null; readonly said: string };

const interrupted = (text: string, signals: number): Promise<Ended> =>
  new Promise((fulfil, reject) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', text], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    let sent = 0;
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      said += part;
      if (sent < signals && /working|slow/.test(part)) {
        sent++;
        child.kill('SIGINT');
      }
    });
    child.on('error', reject);
    child.on('close', (_status, signal) => fulfil({ signal, said }));
  });

const SLOW = `{ patience: 60_000, onSlow: () => console.log('slow'), onTidy: () => console.log('all tidy') }`;

test('work that hangs is left after two seconds', async () => {
  assert.equal(await interrupted(script(30_000, 'undefined'), 1), { signal: 'SIGINT', said: 'working\n' });
});

test('work that has much to put away has its time, and says so', async () => {
  assert.equal(await interrupted(script(2_500, SLOW), 1), { signal: 'SIGINT', said: 'working\nslow\ntidied\nall tidy\n' });
});

test('a second signal ends it at once', async () => {
  assert.equal(await interrupted(script(60_000, SLOW), 2), { signal: 'SIGINT', said: 'working\nslow\n' });
});

test.run();
