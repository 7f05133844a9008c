/** Random small trees survive the way through an image, read by the kernel or by unsquashfs. */
import fc from 'fast-check';
import { suite } from 'uvu';
import type { Compressor } from '../../src/squashfs/types.ts';
import {
  assertSameTree,
  type Entry,
  type EntryBody,
  extractImage,
  imageOf,
  mountImage,
  noise,
  type Piece,
  prose,
  unmount,
} from './support.ts';

const test = suite('squashfs properties');

const nameCharacter = fc
  .integer({ min: 1, max: 255 })
  .filter((code) => code !== 0x2f)
  .map((code) => String.fromCharCode(code));
const name = fc.string({ unit: nameCharacter, minLength: 1, maxLength: 24 }).filter((text) => text !== '.' && text !== '..');
const meta = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.integer({ min: 0, max: 2 ** 32 - 2 }),
  gid: fc.integer({ min: 0, max: 2 ** 32 - 2 }),
  mtime: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
});
/** Few seeds, so that duplicates happen; sizes cluster around blocks of 4 and 128 KiB. */
const size = fc.oneof(
  fc.integer({ min: 0, max: 10_000 }),
  fc.constantFrom(4096, 8191, 131_072, 131_073, 262_144),
  fc.integer({ min: 0, max: 600_000 }),
);
const piece: fc.Arbitrary<Piece> = fc.oneof(
  fc.tuple(size, fc.integer({ min: 0, max: 3 })).map(([length, seed]) => prose(length, seed)),
  fc.tuple(size, fc.integer({ min: 0, max: 3 })).map(([length, seed]) => noise(length, seed)),
  size,
);
const body: fc.Arbitrary<EntryBody> = fc.oneof(
  { weight: 4, arbitrary: fc.array(piece, { maxLength: 4 }).map((pieces): EntryBody => ({ type: 'file', pieces })) },
  { weight: 3, arbitrary: fc.constant<EntryBody>({ type: 'directory' }) },
  {
    weight: 1,
    arbitrary: fc.string({ unit: nameCharacter, minLength: 1, maxLength: 300 }).map((target): EntryBody => ({ type: 'symlink', target })),
  },
  { weight: 1, arbitrary: fc.constantFrom<EntryBody>({ type: 'fifo' }, { type: 'socket' }, { type: 'character', major: 1, minor: 3 }) },
  { weight: 1, arbitrary: fc.constant<EntryBody>({ type: 'link', to: '' }) },
);
/** `place` chooses the directory among those before it, and the target of a hard link among the other entries before it. */
const planned = fc.record({ name, meta, body, place: fc.nat() });

/** Turns random plans into a tree: names clash less often than they would, links only to what can be linked. */
const entriesOf = (plans: readonly { name: string; meta: Entry['meta']; body: EntryBody; place: number }[]): readonly Entry[] => {
  const entries: Entry[] = [];
  const taken = new Set<string>();
  for (const plan of plans) {
    const directories = ['', ...entries.filter(({ type }) => type === 'directory').map(({ path }) => `${path}/`)];
    const path = `${directories[plan.place % directories.length]}${plan.name}`;
    const targets = entries.filter(({ type }) => type !== 'directory' && type !== 'link');
    if (taken.has(path) || (plan.body.type === 'link' && targets.length === 0)) continue;
    taken.add(path);
    const entry: Entry = { path, meta: plan.meta, ...plan.body };
    entries.push(entry.type === 'link' ? { ...entry, to: (targets[plan.place % targets.length] as Entry).path } : entry);
  }
  return entries;
};

const options = fc.record({
  compressor: fc.constantFrom<Compressor>('zstd', 'gzip', 'lz4'),
  blockSize: fc.constantFrom(4096, 65_536, 131_072, 1_048_576),
  threads: fc.integer({ min: 1, max: 3 }),
});

test('any tree comes back from the kernel and from unsquashfs', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(planned, { maxLength: 40 }), options, async (plans, chosen) => {
      const entries = entriesOf(plans);
      const { path } = await imageOf(entries, chosen);
      const mount = mountImage(path);
      try {
        assertSameTree(mount, entries);
      } finally {
        unmount(mount);
      }
      assertSameTree(extractImage(path), entries);
    }),
    { numRuns: 40, interruptAfterTimeLimit: 200_000, markInterruptAsFailure: false },
  );
});

test.run();
