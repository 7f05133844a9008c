/** One piece of work, done by one process at a time: processes stand for ranks in test/cli/prepare.test.ts; here the order of things. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cleanStore } from '../../src/store/clean.ts';
import { produceOnce } from '../../src/store/once.ts';
import { openStore } from '../../src/store/open.ts';
import { realTiming } from '../../src/util/timing.ts';
import { newStore, scratch } from '../helpers/store.ts';

const test = suite('once');
const timing = realTiming;

test('of many at once one works, the others find what it made', async () => {
  const store = await newStore();
  const made = `${store.path}/images/k.sif`;
  let works = 0;
  const one = (): Promise<void> =>
    produceOnce(store, 'image', 'k', {
      timing,
      isThere: async () => existsSync(made),
      make: async (own) => {
        works++;
        assert.match(own, /\/partial\/image-[0-9a-f]+$/);
        await new Promise((done) => setImmediate(done));
        writeFileSync(made, 'sif');
      },
    });
  await Promise.all(Array.from({ length: 20 }, one));
  assert.is(works, 1);
  assert.equal(readdirSync(`${store.path}/partial`), []);
});

test('when it fails, the next one in the queue tries; its own error is told', async () => {
  const store = await newStore();
  let made = false;
  const isThere = async (): Promise<boolean> => made;
  let fail = (): void => {};
  let failing: Promise<void> | undefined;
  await new Promise<void>((started) => {
    const make = (): Promise<void> => {
      started();
      return new Promise((_, reject) => {
        fail = () => reject(new Error('no luck'));
      });
    };
    failing = produceOnce(store, 'image', 'k', { timing, isThere, make });
  });
  const waiting = produceOnce(store, 'image', 'k', {
    timing,
    isThere,
    onWait: () => fail(),
    make: async () => {
      made = true;
    },
  });
  await failing?.then(
    () => assert.unreachable('no error'),
    (error: Error) => assert.is(error.message, 'no luck'),
  );
  await waiting;
  assert.ok(made);
});

test('one that waits stops waiting when it is told to', async () => {
  const store = await newStore();
  const stop = new AbortController();
  let end = (): void => {};
  let working: Promise<void> | undefined;
  await new Promise<void>((started) => {
    working = produceOnce(store, 'facts', 'k', {
      timing,
      isThere: async () => false,
      make: () => {
        started();
        return new Promise((done) => {
          end = done;
        });
      },
    });
  });
  const waiting = produceOnce(store, 'facts', 'k', {
    timing,
    signal: stop.signal,
    isThere: async () => false,
    onWait: () => stop.abort(new Error('told to')),
    make: async () => assert.unreachable('two at once'),
  });
  await waiting.then(
    () => assert.unreachable('it did not stop'),
    () => {},
  );
  end();
  await working;
});

test('cleaning leaves alone what is being made', async () => {
  const store = await newStore();
  await produceOnce(store, 'image', 'k', {
    timing,
    isThere: async () => false,
    make: async (own) => {
      const unfinished = own.replace(/([^/]+)$/, '.$1.sif.0123456789ab.tmp');
      writeFileSync(unfinished, 'half');
      await cleanStore(store);
      assert.ok(existsSync(unfinished));
      assert.ok(existsSync(`${own}.lease`));
    },
  });
  await cleanStore(store);
  assert.equal(readdirSync(`${store.path}/partial`), []);
});

test("a store that cannot be written is replaced by the node's lasting one when that is asked for", async () => {
  const directory = scratch();
  writeFileSync(`${directory}/file`, '');
  const places = { store: { path: `${directory}/file/store`, origin: 'test' }, local: { path: `${directory}/local`, origin: 'test' } };
  const warnings: string[] = [];
  const store = await openStore(places, { instead: 'local', onWarning: (text) => warnings.push(text) });
  assert.equal(store, { path: `${directory}/local/store`, lowers: [`${directory}/file/store`], temporary: false });
  assert.is(warnings.length, 1);
});

test.run();
