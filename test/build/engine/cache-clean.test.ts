/** Builds and whoever cleans what they stand on: one of them always sees the other. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cache, holdCache, openCache } from '../../../src/build/engine/cache.ts';
import { type BuildCleaning, type BuildPlace, cleanBuilds } from '../../../src/build/engine/cache-items.ts';
import { realTiming } from '../../../src/util/timing.ts';

const test = suite('cleaning of the build cache');
const top = mkdtempSync(join(tmpdir(), 'tsrun-clean-'));
process.on('exit', () => rmSync(top, { recursive: true, force: true }));

const remove = async (path: string): Promise<void> => rm(path, { recursive: true, force: true });
const never = new AbortController().signal;

let count = 0;
/** A cache with one result in it. */
const cacheWith = async (): Promise<{ readonly cache: Cache; readonly place: BuildPlace; readonly result: string }> => {
  const cache = await openCache(join(top, `${++count}`), 'single', { remove, sync: async () => {}, timing: realTiming });
  const result = join(cache.root, 'made/one');
  mkdirSync(result);
  writeFileSync(join(result, 'entry.json'), '{}');
  return { cache, place: { root: cache.root, ids: 'single' }, result };
};

const cleaning = (busy: string[], more: Partial<BuildCleaning> = {}): BuildCleaning => ({
  olderThan: 0,
  dryRun: false,
  timing: realTiming,
  remove: (_, path) => remove(path),
  onBusy: ({ root }) => void busy.push(root),
  ...more,
});

test('a build that has begun keeps its place as it is', async () => {
  const { cache, place, result } = await cacheWith();
  const held = await holdCache(cache, never);
  const busy: string[] = [];
  assert.equal(await cleanBuilds([place], cleaning(busy)), []);
  assert.equal(busy, [cache.root]);
  assert.ok(existsSync(result));
  await held.release();
  assert.is((await cleanBuilds([place], cleaning(busy))).length, 1);
  assert.not.ok(existsSync(result));
});

test('a build that begins while results are taken away waits until they are gone', async () => {
  const { cache, place, result } = await cacheWith();
  const busy: string[] = [];
  let begun: Promise<unknown> = Promise.resolve();
  let goneWhenHeld: boolean | undefined;
  await cleanBuilds(
    [place],
    cleaning(busy, {
      remove: async (_, path) => {
        // At the worst moment: whoever cleans has looked for builds already.
        begun = holdCache(cache, never).then((held) => {
          goneWhenHeld = !existsSync(result);
          return held.release();
        });
        while (readdirSync(join(cache.root, 'begun')).length === 0) await new Promise((resolve) => setImmediate(resolve));
        await remove(path);
      },
    }),
  );
  await begun;
  assert.is(goneWhenHeld, true);
  assert.equal(busy, []);
});

test('a build that waits can be given up, and leaves nothing', async () => {
  const { cache, place } = await cacheWith();
  const controller = new AbortController();
  let begun: Promise<unknown> = Promise.resolve();
  await cleanBuilds(
    [place],
    cleaning([], {
      remove: async () => {
        begun = holdCache(cache, controller.signal).then(
          () => assert.unreachable(),
          () => undefined,
        );
        controller.abort();
        await begun;
      },
    }),
  );
  assert.equal(readdirSync(join(cache.root, 'begun')), []);
});

test('of two who clean, one does', async () => {
  const { place } = await cacheWith();
  const busy: string[] = [];
  await cleanBuilds(
    [place],
    cleaning([], {
      remove: async (_, path) => {
        await cleanBuilds([place], cleaning(busy));
        await remove(path);
      },
    }),
  );
  assert.equal(busy, [place.root]);
});

test.run();
