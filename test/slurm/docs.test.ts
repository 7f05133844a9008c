/** The page about Slurm and the job scripts that it speaks of, on a real cluster: every command and every script works as the page says. */
import { chownSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { commandsOf } from '../helpers/doc-commands.ts';
import { run } from '../helpers/proc.ts';
import { makeImageOf, makePythonTree } from '../helpers/product.ts';
import { skip } from '../helpers/skip.ts';
import { testUser } from '../helpers/user.ts';
import { startCluster, whyNot } from './cluster.ts';
import { makeMpiImage, mpiIsThere } from './image.ts';

const test = suite('docs/slurm.md');
const top = resolve(import.meta.dirname, '../..');
const examples = join(top, 'slurm/examples');
const reason = whyNot() ?? (mpiIsThere() ? undefined : 'needs Open MPI and MPICH');

const ANALYSIS = `import os, sys
print("analysis of", *sys.argv[1:] or ["nothing"], "gpu", os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
`;

/** What each script leaves in its output file (those of an array one behind the other). */
const LEFT: Readonly<Record<string, readonly string[]>> = {
  'serial.out': ['analysis of nothing gpu none'],
  'array-1.out': ['analysis of one.csv gpu none'],
  'array-2.out': ['analysis of two.csv gpu none'],
  'array-3.out': ['analysis of three.csv gpu none'],
  'many-steps.out': ['analysis of a gpu none', 'analysis of b gpu none'],
  'mpi-pmix.out': [0, 1, 2, 3].map((rank) => `rank ${rank} of 4, sum 6`),
  'mpi-pmi2.out': [0, 1].map((rank) => `rank ${rank} of 2, sum 1`),
  'gpu.out': ['analysis of nothing gpu 0', 'tsrun: no NVIDIA driver found on this host: --nv has no effect'],
};

if (reason !== undefined) {
  test('its commands and job scripts work', () => skip(reason));
} else {
  const cluster = await startCluster({ gpus: 1 });
  const user = testUser();
  const place = (name: string): string => {
    const path = join(cluster.shared, `for-${name}`);
    mkdirSync(path);
    chownSync(path, user.uid, user.gid);
    return path;
  };
  const pipeline = makeImageOf(place('pipeline'), makePythonTree);
  cpSync(pipeline, join(cluster.shared, 'pipeline.sif'));
  for (const mpi of ['openmpi', 'mpich'] as const) cpSync(makeMpiImage(place(mpi), [mpi]), join(cluster.shared, `solver-${mpi}.sif`));
  for (const script of readdirSync(examples)) cpSync(join(examples, script), join(cluster.shared, script));
  writeFileSync(join(cluster.shared, 'analysis.py'), ANALYSIS);
  writeFileSync(join(cluster.shared, 'inputs.txt'), 'one.csv\ntwo.csv\nthree.csv\n');
  const page = readFileSync(join(top, 'docs/slurm.md'), 'utf8');

  test('every job script is submitted by the page', () => {
    const submitted = commandsOf(page).flatMap((command) => /sbatch --wait (\S+)/.exec(command.text)?.[1] ?? []);
    assert.equal(submitted.sort(), readdirSync(examples).sort());
  });

  for (const command of commandsOf(page)) {
    test(`works: ${command.text}`, async () => {
      const ran = await run([...cluster.login, 'TSRUN_LINGER=0', 'timeout', '60', 'bash', '-c', command.text]);
      assert.is(ran.status, 0, ran.stdout + ran.stderr);
      if (command.expected !== '') assert.is(ran.stdout, command.expected);
    });
  }

  test('the job scripts print what they should, and nothing else', () => {
    const left = readdirSync(cluster.shared).filter((name) => name.endsWith('.out') && !name.startsWith('part-'));
    const lines = left.map((name) => [name, readFileSync(join(cluster.shared, name), 'utf8').trim().split('\n').sort()]);
    assert.equal(Object.fromEntries(lines), LEFT);
  });

  test.after(() => cluster.stop());
}

test.run();
