/** Lines for the user on stderr when nothing has failed: few, once for each step of a job, none with --quiet. */
import { type Host, wordsOf } from '../util/host.ts';
import { printableLine } from '../util/printable.ts';
import type { Op } from './ops.ts';
import type { Situation } from './situation.ts';

/** What launchers call the rank; the first that is set counts. Slurm, PMIx, PMI, Open MPI, MVAPICH, PALS. */
const RANKS = ['PMIX_RANK', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK', 'SLURM_PROCID', 'MV2_COMM_WORLD_RANK', 'PALS_RANKID', 'ALPS_APP_PE'];
const JOBS = ['SLURM_JOB_ID', 'PBS_JOBID', 'LSB_JOBID', 'JOB_ID', 'FLUX_JOB_ID', 'OAR_JOB_ID', 'COBALT_JOBID'];

const WORDS = wordsOf([...RANKS, ...JOBS]);

/** What the batch system says, by one question. `speaks`: this is the one process of a step that speaks for all. */
const batchOf = (host: Host): { readonly speaks: boolean; readonly inJob: boolean } => {
  let number = RANKS.length;
  let rank = '0';
  let inJob = false;
  const found = host.environ(WORDS);
  for (let at = 0; at < found.length; at += 3) {
    const value = found[at + 2] as string;
    if (value === '') continue;
    const word = found[at] as number;
    if (word >= RANKS.length) inJob = true;
    else if (word < number) {
      number = word;
      rank = value;
    }
  }
  return { speaks: rank === '0', inJob };
};

/** One line, whatever names of the host and the image hold. */
const oneLine = (text: string): string => printableLine(text).slice(0, 1000);

/** Warnings always; `remarks` on a terminal or in a job, where somebody reads them. */
export const noticeOps = ({ host, request }: Situation, warnings: readonly string[], remarks: readonly string[]): Op[] => {
  if (warnings.length + remarks.length === 0 || request.verbosity === 'quiet') return [];
  const { speaks, inJob } = batchOf(host);
  if (!speaks) return [];
  const heard = request.verbosity !== 'normal' || inJob || (remarks.length > 0 && host.isTerminal(2));
  const texts = heard ? [...warnings, ...remarks] : warnings;
  return texts.map((text) => ({ op: 'notice', text: `tsrun: ${oneLine(text)}`, why: 'for the user' }));
};
