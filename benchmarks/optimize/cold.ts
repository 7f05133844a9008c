/**
 * How long does the first import of numpy and parts of scipy take, with nothing in memory: from a directory, from an image as it was built, and from the same image
 * optimized for that import? On the local disk, and on one that answers each read 2 ms later.
 *
 *     node benchmarks/optimize/cold.ts [--short] [--rounds N] [--out FILE]
 *
 * As root, for mounts and for dropping caches; what is measured runs as an ordinary user. The start of tsrun's server and its mount count. Needs bwrap, python3-numpy,
 * python3-scipy, e2fsprogs.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { environmentOf, tsrunPath } from '../../test/helpers/product.ts';
import { testUser } from '../../test/helpers/user.ts';
import { slowDisk } from '../lib/slow-disk.ts';
import { openBench } from '../read/report.ts';
import { directory, dropCaches, IMPORT, kernelSquash, leave, makePlace, type Side, timeOfAll, tsrun } from '../read/sides.ts';

const DELAY_MICROSECONDS = 2000;
const DISK_MEGABYTES = 4096;

/** Made by the ordinary user, who also records; kept beside the data, under the hot list's version. */
const makeOptimized = (image: string, data: string): string => {
  const optimized = join(data, 'optimized-2.sif');
  if (existsSync(optimized)) return optimized;
  const { uid, gid } = testUser();
  const scratch = mkdtempSync('/tmp/tsrun-bench-optimized-');
  chownSync(scratch, uid, gid);
  const made = join(scratch, 'made.sif');
  const ran = spawnSync(tsrunPath, ['optimize', image, made, '--', ...IMPORT], {
    uid,
    gid,
    cwd: '/tmp',
    env: environmentOf({}),
    encoding: 'utf8',
  });
  if (ran.status !== 0) throw new Error(ran.stderr);
  execFileSync('cp', [made, `${optimized}.new`]);
  renameSync(`${optimized}.new`, optimized);
  rmSync(scratch, { recursive: true });
  return optimized;
};

const bench = await openBench('cold', { warm: 0, cold: 11 }, { warm: 0, cold: 7 }, 'optimize');
const data = join(bench.data.tree, '..');
const optimized = makeOptimized(bench.data.image, data);

const compare = async (title: string, sides: readonly Side[], atMost: number): Promise<void> => {
  await bench.ask({
    title,
    unit: 'ms',
    sides,
    rounds: bench.rounds.cold,
    once: (side) => {
      side.renew();
      dropCaches();
      return 1000 * timeOfAll(place, side, IMPORT);
    },
    goals: [{ of: 'tsrun, optimized', beside: 'directory', atMost }],
  });
};

const place = makePlace(bench.data, 'optimize');
const local = [directory(place), kernelSquash(place), tsrun(place), tsrun(place, optimized, 'tsrun, optimized')];
await compare('import, cold, local disk', local, 0.85);
for (const side of local) side.end();

const disk = slowDisk(join(data, 'slow-2'), DISK_MEGABYTES, DELAY_MICROSECONDS, (path) => {
  execFileSync('cp', ['-a', bench.data.tree, join(path, 'tree')]);
  for (const image of [bench.data.image, optimized]) execFileSync('cp', [image, path]);
});
try {
  const there = { ...place, data: { ...bench.data, tree: join(disk.path, 'tree'), image: join(disk.path, 'image.sif') } };
  const far = [directory(there), kernelSquash(there), tsrun(there), tsrun(there, join(disk.path, 'optimized-2.sif'), 'tsrun, optimized')];
  await compare('import, cold, each read 2 ms later', far, 0.5);
  for (const side of far) side.end();
} finally {
  disk.end();
}
leave(place, []);
bench.finish();
