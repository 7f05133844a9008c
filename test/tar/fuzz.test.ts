/** Hostile archives: whatever the bytes, the reader ends with entries or with E_TAR, and never holds more than it may. */
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TsrunError } from '../../src/util/errors.ts';
import { makeTar, type TestEntry, withChecksum } from '../helpers/layers.ts';
import { readTar } from '../helpers/read-tar.ts';

const test = suite('tar reader, fuzzed');

const seedEntries: readonly TestEntry[] = [
  { path: 'd/', type: 'dir' },
  { path: 'd/file', content: 'x'.repeat(700), xattrs: { 'user.a': 'b' }, pax: { mtime: '1.5' } },
  { path: 'n'.repeat(150), content: 'long' },
  { path: 'l', type: 'symlink', link: 'd' },
  { path: 'h', type: 'hardlink', link: 'd/file' },
  { path: 's', content: 'abc', pax: { 'GNU.sparse.major': '0', 'GNU.sparse.realsize': '10', 'GNU.sparse.map': '1,3' } },
];
const seed = makeTar(seedEntries);

/** Only our own error may come out. */
const survives = async (archive: Buffer, chunk: number): Promise<void> => {
  try {
    await readTar(archive, chunk);
  } catch (error) {
    if (!(error instanceof TsrunError && error.code === 'E_TAR')) {
      if (error instanceof Error && /a hole of \d+ bytes in a test/.test(error.message)) return;
      throw error;
    }
    assert.ok(error.message.length < 2000, 'the message grows with the input');
  }
};

const RUNS = Number(process.env['TSRUN_FUZZ_RUNS'] ?? 4000);

test('mutated archives, with checksums put right again, end with entries or a clear error', async () => {
  const mutation = fc.record({ at: fc.nat(seed.length - 1), value: fc.nat(255), length: fc.integer({ min: 1, max: 12 }) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(mutation, { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      fc.integer({ min: 1, max: 3000 }),
      async (mutations, repair, chunk) => {
        const archive = Buffer.from(seed);
        for (const { at, value, length } of mutations) archive.fill(value, at, Math.min(at + length, archive.length));
        if (repair) for (const { at } of mutations) withChecksum(archive.subarray(at - (at % 512), at - (at % 512) + 512));
        await survives(archive, chunk);
      },
    ),
    { numRuns: RUNS, seed: 7 },
  );
});

test('random bytes with valid header checksums end with entries or a clear error', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ minLength: 512, maxLength: 2048 }),
      fc.constantFrom('0', 'x', 'L', 'S', 'g', '5', '1'),
      async (bytes, flag) => {
        const archive = Buffer.from(bytes);
        archive.write(flag, 156, 'latin1');
        archive.write('00000000100\0', 124, 'latin1');
        for (const [at, length] of [
          [100, 8],
          [108, 8],
          [116, 8],
          [136, 12],
          [329, 8],
          [337, 8],
        ] as const)
          archive.fill('0', at, at + length);
        archive.write('ustar\x0000', 257, 'latin1');
        withChecksum(archive.subarray(0, 512));
        await survives(archive, archive.length);
      },
    ),
    { numRuns: RUNS, seed: 8 },
  );
});

test.run();
