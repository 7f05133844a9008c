/** Reading ahead: work is done early, but not too much of it, and ends when nobody wants it. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readAhead } from '../../src/util/read-ahead.ts';

const test = suite('read-ahead');

/** Lets everything that can go on go on. */
const settle = (): Promise<void> => new Promise((done) => setImmediate(done));

const source = (count: number, log: string[]): AsyncIterable<Uint8Array> => ({
  [Symbol.asyncIterator]: async function* () {
    try {
      for (let i = 0; i < count; i++) {
        log.push(`made ${i}`);
        yield new Uint8Array(10).fill(i);
      }
    } finally {
      log.push('closed');
    }
  },
});

const collect = async (stream: AsyncIterable<Uint8Array>): Promise<number[]> => {
  const seen: number[] = [];
  for await (const chunk of stream) seen.push(chunk[0] as number);
  return seen;
};

test('chunks come in order, whether it was started before or not', async () => {
  for (const early of [false, true]) {
    const stream = readAhead(source(50, []), 35);
    if (early) stream.start();
    await settle();
    assert.equal(await collect(stream), [...Array(50).keys()]);
  }
});

test('nothing is read before the start, and only up to the bound after it', async () => {
  const log: string[] = [];
  const stream = readAhead(source(50, log), 30);
  await settle();
  assert.equal(log, []);
  stream.start();
  await settle();
  assert.equal(log, ['made 0', 'made 1', 'made 2']);
});

test('an error of the source comes after the chunks before it', async () => {
  const failing = async function* (): AsyncGenerator<Uint8Array> {
    yield new Uint8Array([1]);
    throw new Error('broken');
  };
  const stream = readAhead(failing(), 100);
  stream.start();
  await settle();
  const seen: number[] = [];
  try {
    for await (const chunk of stream) seen.push(chunk[0] as number);
    assert.unreachable();
  } catch (error) {
    assert.match(String(error), /broken/);
  }
  assert.equal(seen, [1]);
});

test('stopping closes the source, also when it waits at the bound', async () => {
  const log: string[] = [];
  const stream = readAhead(source(50, log), 20);
  stream.start();
  await settle();
  stream.stop();
  await settle();
  assert.is(log.at(-1), 'closed');
  assert.ok(log.length < 6);
});

test('a reader that leaves early closes the source', async () => {
  const log: string[] = [];
  for await (const _ of readAhead(source(50, log), 20)) break;
  await settle();
  assert.is(log.at(-1), 'closed');
});

test.run();
