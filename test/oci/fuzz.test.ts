/** Hostile stacks of layers: whatever they hold, the merge ends with a tree or with an error of ours, in bounded time. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULT_LIMITS } from '../../src/oci/limits.ts';
import { TsrunError } from '../../src/util/errors.ts';
import { makeTar, type TestEntry, withChecksum } from '../helpers/layers.ts';
import { mergeTars } from '../helpers/merge.ts';

const test = suite('merging layers, fuzzed');
const RUNS = Number(process.env['TSRUN_FUZZ_RUNS'] ?? 3000);
const limits = { ...DEFAULT_LIMITS, bytes: 1 << 24, entries: 1000 };

/** Names that collide, lead upwards, through links, or mean something special. */
const part = fc.constantFrom('a', 'b', '..', '.', '', '.wh.a', '.wh..wh..opq', '.wh.', '.wh..wh.plnk', '\xff', 'x'.repeat(300));
const path = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/') || '/');

const entry: fc.Arbitrary<TestEntry> = fc.record({
  path,
  type: fc.constantFrom('file', 'dir', 'symlink', 'hardlink', 'char', 'fifo'),
  content: fc.string({ maxLength: 20 }),
  link: path,
  mode: fc.nat(0o7777),
  uid: fc.nat(0o777777),
  device: fc.constant([8, 1] as const),
});

/** Only our own errors may come out; the writer under test keeps what it is given, so bytes can be counted. */
const survives = async (tars: readonly Buffer[]): Promise<boolean> => {
  try {
    const { lines, contents } = await mergeTars(tars, { limits });
    // Everything that was stored is shown, and everything that is shown was stored.
    for (const line of lines) assert.not.match(line, / file \d+ \?/);
    assert.ok(contents.every((content) => content !== ''));
    return true;
  } catch (error) {
    if (!(error instanceof TsrunError)) throw error;
    assert.ok(error.message.length < 3000);
    return false;
  }
};

test('random stacks of hostile entries end with a tree or an error, and no shown file lacks its content', async () => {
  let trees = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(entry, { maxLength: 8 }), { minLength: 1, maxLength: 4 }), async (stacks) => {
      if (await survives(stacks.map(makeTar))) trees++;
    }),
    { numRuns: RUNS, seed: 11 },
  );
  assert.ok(trees > RUNS / 50, `only ${trees} stacks were good`);
});

test('mutated layers end with a tree or an error', async () => {
  const base = makeTar([
    { path: 'a/b', content: 'lower' },
    { path: 'l', type: 'symlink', link: 'a' },
  ]);
  const top = makeTar([{ path: 'l/b', content: 'upper' }, { path: 'a/.wh.b' }, { path: 'h', type: 'hardlink', link: 'a/b' }]);
  await fc.assert(
    fc.asyncProperty(fc.nat(top.length - 13), fc.uint8Array({ minLength: 1, maxLength: 12 }), async (at, bytes) => {
      const mutated = Buffer.from(top);
      mutated.set(bytes, at);
      withChecksum(mutated.subarray(at - (at % 512), at - (at % 512) + 512));
      await survives([base, mutated]);
    }),
    { numRuns: RUNS, seed: 12 },
  );
});

test.run();
