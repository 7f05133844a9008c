/** Random stacks of layers, converted and unpacked again, against what umoci unpacks from the same layout. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { convert, RENDERED_NAMES, unsquash } from '../helpers/convert.ts';
import { type Compression, makeTar, type TestEntry, writeLayout } from '../helpers/layers.ts';
import { listTree, must } from '../helpers/trees.ts';

const test = suite('layers merge as umoci unpacks them');

/** Few names, so that layers meet often. */
const NAMES = ['a', 'b', 'c', '.d'] as const;
const name = fc.constantFrom(...NAMES);
const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
const owner = fc.constantFrom(0, 1, 1000, 65534);
const mode = fc.constantFrom(0o644, 0o755, 0o4755, 0o600, 0o1777);

type Step =
  | { readonly do: 'file'; readonly path: string; readonly content: string; readonly mode: number; readonly uid: number }
  | { readonly do: 'dir'; readonly path: string; readonly mode: number; readonly uid: number }
  | { readonly do: 'symlink'; readonly path: string; readonly link: string }
  | { readonly do: 'hardlink'; readonly path: string; readonly to: number }
  | { readonly do: 'fifo'; readonly path: string }
  | { readonly do: 'device'; readonly path: string }
  | { readonly do: 'whiteout'; readonly path: string }
  | { readonly do: 'opaque'; readonly path: string };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('file' as const), path, content: fc.string({ maxLength: 40 }), mode, uid: owner }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('dir' as const), path, mode, uid: owner }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('symlink' as const), path, link: fc.constantFrom('a', '/b', '../c', '/nowhere', 'b/c') }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('hardlink' as const), path, to: fc.nat(1000) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fifo' as const), path }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('device' as const), path }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('whiteout' as const), path }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('opaque' as const), path }) },
);

/**
 * Layers as a builder would write them: parents come before children, whatever an entry needs is a directory, hard links have a target.
 * `tree` is the state of the file system after the layers below, as path → kind.
 */
const layersOf = (stacks: readonly (readonly Step[])[]): TestEntry[][] => {
  const tree = new Map<string, 'dir' | 'file' | 'other'>();
  return stacks.map((steps, layer) => {
    const before = new Map(tree);
    const entries: TestEntry[] = [];
    const written = new Set<string>();
    const drop = (target: string): void => {
      for (const known of [...tree.keys()]) if (known === target || known.startsWith(`${target}/`)) tree.delete(known);
    };
    /** A parent that is a directory already is sometimes left out, as some builders do. */
    const needDirectories = (target: string): boolean => {
      const parts = target.split('/').slice(0, -1);
      for (let depth = 1; depth <= parts.length; depth++) {
        const parent = parts.slice(0, depth).join('/');
        const kind = tree.get(parent);
        if (kind !== 'dir' && written.has(parent)) return false;
        if (kind === 'dir' && (written.has(parent) || parent.length % 2 === 0)) continue;
        if (kind !== 'dir') drop(parent);
        tree.set(parent, 'dir');
        written.add(parent);
        entries.push({ path: `${parent}/`, type: 'dir', mode: 0o755, mtime: 1_500_000_000 + layer });
      }
      return true;
    };
    for (const [at, each] of steps.entries()) {
      const mtime = 1_600_000_000 + layer * 1000 + at;
      if (written.has(each.path)) continue;
      if (each.do === 'whiteout' || each.do === 'opaque') {
        if (!before.has(each.path) || !tree.has(each.path) || !needDirectories(each.path)) continue;
        if (each.do === 'whiteout') {
          const slash = each.path.lastIndexOf('/') + 1;
          entries.push({ path: `${each.path.slice(0, slash)}.wh.${each.path.slice(slash)}` });
          // Names of this layer below it stay; only what is certain is built upon.
          if ([...written].some((known) => known.startsWith(`${each.path}/`))) continue;
          drop(each.path);
        } else if (tree.get(each.path) === 'dir' && ![...written].some((known) => known.startsWith(`${each.path}/`))) {
          entries.push({ path: `${each.path}/`, type: 'dir', mtime }, { path: `${each.path}/.wh..wh..opq` });
          written.add(each.path);
          drop(each.path);
          tree.set(each.path, 'dir');
        }
        continue;
      }
      const below = [...written].some((known) => known.startsWith(`${each.path}/`));
      if (below || !needDirectories(each.path)) continue;
      written.add(each.path);
      switch (each.do) {
        case 'dir':
          if (tree.get(each.path) !== 'dir') drop(each.path);
          entries.push({ path: `${each.path}/`, type: 'dir', mode: each.mode, uid: each.uid, mtime });
          tree.set(each.path, 'dir');
          break;
        case 'file':
          drop(each.path);
          entries.push({ path: each.path, content: each.content, mode: each.mode, uid: each.uid, gid: each.uid, mtime });
          tree.set(each.path, 'file');
          break;
        case 'symlink':
          drop(each.path);
          entries.push({ path: each.path, type: 'symlink', link: each.link, mode: 0o777, mtime });
          tree.set(each.path, 'other');
          break;
        case 'hardlink': {
          const targets = [...tree].filter(([known, kind]) => kind === 'file' && known !== each.path && !known.startsWith(`${each.path}/`));
          const target = targets[each.to % Math.max(targets.length, 1)]?.[0];
          if (target === undefined) {
            written.delete(each.path);
            break;
          }
          drop(each.path);
          entries.push({ path: each.path, type: 'hardlink', link: target });
          tree.set(each.path, 'file');
          break;
        }
        case 'fifo':
        case 'device':
          drop(each.path);
          entries.push({ path: each.path, type: each.do === 'fifo' ? 'fifo' : 'char', device: [1, 3], mode: 0o600, mtime });
          tree.set(each.path, 'other');
          break;
        default:
          each satisfies never;
      }
    }
    return entries;
  });
};

const compression: fc.Arbitrary<Compression> = fc.constantFrom('none', 'gzip', 'zstd');

test('forty random stacks of up to five layers give the same tree as umoci', async () => {
  const stacks = fc.array(fc.array(step, { minLength: 1, maxLength: 14 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(stacks, compression, async (steps, compressed) => {
      const place = mkdtempSync(join(tmpdir(), 'tsrun-umoci-'));
      try {
        const layers = layersOf(steps).map(makeTar);
        writeLayout(join(place, 'layout'), { layers, compression: compressed });
        // umoci of Debian 12 does not know zstd: it gets the same layers uncompressed.
        if (compressed === 'zstd') writeLayout(join(place, 'plain'), { layers, compression: 'none' });
        must('umoci', [
          'raw',
          'unpack',
          '--image',
          `${join(place, compressed === 'zstd' ? 'plain' : 'layout')}:latest`,
          join(place, 'theirs'),
        ]);
        await convert(`oci:${join(place, 'layout')}:latest`, join(place, 'ours.sif'));
        unsquash(join(place, 'ours.sif'), join(place, 'ours'));
        const [ours, theirs] = ['ours', 'theirs'].map((tree) => listTree(join(place, tree), { without: RENDERED_NAMES }).slice(1));
        assert.equal(ours, theirs);
      } finally {
        rmSync(place, { recursive: true, force: true });
      }
    }),
    { numRuns: 40, seed: 20210203 },
  );
});

test.run();
