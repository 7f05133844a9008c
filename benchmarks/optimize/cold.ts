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
import { inTurn, keep, optionsOf, type Question, show } from '../read/report.ts';
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

const options = optionsOf('cold', 9, 'optimize');
const data = join(options.data.tree, '..');
const optimized = makeOptimized(options.data.image, data);

const compare = async (title: string, sides: readonly Side[], goal: number): Promise<Question> => {
  const question: Question = {
    title,
    unit: 'ms: median, least',
    measured: await inTurn(sides, options.rounds, (side) => {
      side.renew();
      dropCaches();
      return 1000 * timeOfAll(place, side, IMPORT);
    }),
    goals: [{ of: 'tsrun, optimized', beside: 'directory', atMost: goal }],
  };
  show(question);
  return question;
};

const place = makePlace(options.data, 'optimize');
const local = [directory(place), kernelSquash(place), tsrun(place), tsrun(place, optimized, 'tsrun, optimized')];
const questions = [await compare('import, cold, local disk', local, 0.85)];
for (const side of local) side.end();

const disk = slowDisk(join(data, 'slow-2'), DISK_MEGABYTES, DELAY_MICROSECONDS, (path) => {
  execFileSync('cp', ['-a', options.data.tree, join(path, 'tree')]);
  for (const image of [options.data.image, optimized]) execFileSync('cp', [image, path]);
});
try {
  const there = { ...place, data: { ...options.data, tree: join(disk.path, 'tree'), image: join(disk.path, 'image.sif') } };
  const far = [directory(there), kernelSquash(there), tsrun(there), tsrun(there, join(disk.path, 'optimized-2.sif'), 'tsrun, optimized')];
  questions.push(await compare('import, cold, each read 2 ms later', far, 0.5));
  for (const side of far) side.end();
} finally {
  disk.end();
}
leave(place, []);
keep(options, questions);
