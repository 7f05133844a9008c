/** MPI programs in images under Slurm, started by both of its ways: PMIx (here with Open MPI) and PMI2 (here with MPICH). */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from '../helpers/proc.ts';
import { skip } from '../helpers/skip.ts';
import { startCluster, whyNot } from './cluster.ts';
import { makeMpiImage, mpiIsThere } from './image.ts';

const test = suite('MPI under Slurm');
const reason = whyNot() ?? (mpiIsThere() ? undefined : 'needs Open MPI and MPICH');

if (reason !== undefined) {
  test('ranks in images find each other', () => skip(reason));
} else {
  const cluster = await startCluster();
  const image = makeMpiImage(cluster.shared);
  const login = (words: readonly string[]) => run([...cluster.login, 'timeout', '60', ...words]);
  const ranksOf = (text: string): string[] => text.trim().split('\n').sort();
  const expected = (ranks: number): string[] =>
    Array.from({ length: ranks }, (_, rank) => `rank ${rank} of ${ranks}, sum ${(ranks * (ranks - 1)) / 2}`);

  test('Open MPI through PMIx: four ranks on each of two nodes', async () => {
    const ran = await login(['srun', '--quiet', '--mpi=pmix', '-N2', '--ntasks-per-node=4', 'tsrun', 'exec', image, 'hello.openmpi']);
    assert.equal([ran.status, ranksOf(ran.stdout), ran.stderr.slice(0, 2000)], [0, expected(8), '']);
  });

  // On one node: between nodes this MPICH (UCX over TCP) now and then does not come back from MPI_Finalize, in an image or not.
  test('MPICH through PMI2: four ranks on a node', async () => {
    const ran = await login(['srun', '--quiet', '--mpi=pmi2', '-n4', 'tsrun', 'exec', image, 'hello.mpich']);
    assert.equal([ran.status, ranksOf(ran.stdout), ran.stderr], [0, expected(4), '']);
  });

  test('what PMIx and PMI2 hand to a task is there in the run as it is outside', async () => {
    const script =
      'env | grep -E "^(PMIX?_|SLURM_PMI)" | sort; ls -d "$PMIX_SERVER_TMPDIR"; test -e "/proc/self/fd/$PMI_FD" && echo "descriptor"';
    for (const mpi of ['pmix', 'pmi2']) {
      // Both in one step, so that names and numbers are the same: what is printed twice is equal.
      const both = await login([
        'srun',
        '--quiet',
        `--mpi=${mpi}`,
        '-n1',
        'sh',
        '-c',
        `sh -c '${script}'; echo --; exec tsrun exec ${image} sh -c '${script}'`,
      ]);
      const [outside = '', inside = ''] = both.stdout.split('--\n');
      assert.is(inside, outside, both.stderr);
      assert.match(inside, mpi === 'pmix' ? /PMIX_RANK=0\n[\s\S]*PMIX_SERVER_URI/ : /PMI_FD=\d+\n[\s\S]*descriptor/);
    }
  });

  test.after(() => cluster.stop());
}

test.run();
