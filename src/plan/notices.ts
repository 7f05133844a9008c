/** Lines for the user on stderr when nothing has failed: few, once for each step of a job, none with --quiet. */
import type { Environment } from '../request/from-env.ts';
import { printableLine } from '../util/printable.ts';
import type { Op } from './ops.ts';
import type { Situation } from './situation.ts';

/** What launchers call the rank; the first that is set counts. Slurm, PMIx, PMI, Open MPI, MVAPICH, PALS. */
const RANKS = ['PMIX_RANK', 'OMPI_COMM_WORLD_RANK', 'PMI_RANK', 'SLURM_PROCID', 'MV2_COMM_WORLD_RANK', 'PALS_RANKID', 'ALPS_APP_PE'];
const JOBS = ['SLURM_JOB_ID', 'PBS_JOBID', 'LSB_JOBID', 'JOB_ID', 'FLUX_JOB_ID', 'OAR_JOB_ID', 'COBALT_JOBID'];

/** True for the one process of a step that speaks for all. */
export const isFirstRank = (environment: Environment): boolean => {
  for (const name of RANKS) {
    const rank = environment.get(name);
    if (rank !== undefined && rank !== '') return rank === '0';
  }
  return true;
};

const isInJob = (environment: Environment): boolean => JOBS.some((name) => (environment.get(name) ?? '') !== '');

/** One line, whatever names of the host and the image hold. */
const oneLine = (text: string): string => printableLine(text).slice(0, 1000);

/** Warnings always; `remarks` on a terminal or in a job, where somebody reads them. */
export const noticeOps = ({ host, environment, request }: Situation, warnings: readonly string[], remarks: readonly string[]): Op[] => {
  if (warnings.length + remarks.length === 0 || request.verbosity === 'quiet' || !isFirstRank(environment)) return [];
  const heard = request.verbosity !== 'normal' || isInJob(environment) || (remarks.length > 0 && host.isTerminal(2));
  const texts = heard ? [...warnings, ...remarks] : warnings;
  return texts.map((text) => ({ op: 'notice', text: `tsrun: ${oneLine(text)}`, why: 'for the user' }));
};
