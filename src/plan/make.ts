/** The plan of a run, in the order in which it is carried out. Each step below decides one thing and says why. */

import { nameOf } from '../util/paths.ts';
import { leftOutLine, planEnv } from './env.ts';
import { putEtcFiles } from './etc-files.ts';
import { planImage } from './image-ops.ts';
import { entryAt } from './image-tree.ts';
import { inMountOrder, newTable } from './mount-table.ts';
import { putBinds, putHome, putKernel, putTemporary, settleHome } from './mounts.ts';
import { noticeOps } from './notices.ts';
import { putNvidia } from './nvidia.ts';
import type { Op, OpOf, Plan } from './ops.ts';
import { type Command, chooseCommand, planPayload } from './payload.ts';
import type { Situation } from './situation.ts';
import { putStart } from './start.ts';

/** Made once, not by every start. */
const WRITABLE: Op = { op: 'root', flags: ['writable'], size: 0, why: '--writable-tmpfs' };
const READ_ONLY: Op = { op: 'root', flags: [], size: 0, why: 'the image, read-only' };
const UNCOVERED: readonly OpOf<'uncovered'>[] = ['/usr', '/opt'].map((target) => ({
  op: 'uncovered',
  target,
  why: 'programs lie there: looking at files is cheaper without the overlay',
}));
const PIVOT: Op = { op: 'pivot', why: "leave the host's tree" };
const NO_NEW_PRIVS: Op = { op: 'no_new_privs', why: 'no program may gain rights' };

export const makePlan = (situation: Situation): Plan => {
  const { request } = situation;
  const image = planImage(situation);

  const table = newTable();
  putKernel(table, situation);
  putTemporary(table, situation);
  const home = putHome(table, situation);
  const etc = putEtcFiles(table, situation, home.path);
  putBinds(table, situation);
  settleHome(table, situation);
  const start = putStart(table, situation, home);
  const driver = request.nv ? putNvidia(table, situation) : [];
  const env = planEnv(situation, table, home.path, start.pwd, driver.length > 0);
  const command = chooseCommand(situation);
  const payload = planPayload(situation, table, env, command);

  const left = leftOutLine(env);
  const notices = noticeOps(situation, situation.warnings, left === undefined ? situation.remarks : situation.remarks.concat(left));
  const ops = image.concat(
    { op: 'unshare', flags: namespaces(situation), why: 'mounts of its own, and what was asked for' },
    homePlace(situation, home.path),
    etc,
    driver,
    request.writableTmpfs ? WRITABLE : READ_ONLY,
    uncovered(situation, command),
    inMountOrder(table),
    PIVOT,
    request.hostname === undefined ? [] : [{ op: 'hostname', name: request.hostname.text, why: request.hostname.origin }],
    NO_NEW_PRIVS,
    notices,
    { op: 'chdir', path: start.path, why: start.why },
    payload,
  );
  return { ops };
};

const namespaces = ({ request }: Situation): string[] => {
  const flags = ['mount'];
  if (request.pid) flags.push('pid');
  if (request.ipc) flags.push('ipc');
  if (request.hostname !== undefined) flags.push('uts');
  return flags;
};

/**
 * Where an image keeps its programs and libraries. An overlay makes looking at a file about half as dear again, which compilers and `find` do thousands of
 * times; each of these mounts costs a start some microseconds, so there are two, not one for each directory.
 *
 * Not for languages that ask of each file they open whether it is a terminal (Python before 3.14, Perl): FUSE asks the server every time, an overlay answers.
 */
const uncovered = ({ request, image }: Situation, command: Command): Op[] => {
  const name = nameOf(command.file);
  if (request.writableTmpfs || ASKING.some((each) => name.startsWith(each))) return [];
  return UNCOVERED.filter(({ target }) => entryAt(image.facts, target) === 'd');
};

const ASKING = ['python', 'pypy', 'ipython', 'jupyter', 'perl'];

/** With --no-home HOME still names a directory: an empty one, where the image has none. */
const homePlace = ({ request, image }: Situation, home: string): Op[] => {
  const leftOut = request.home === undefined && (request.noHome || request.noMount.includes('home'));
  if (!leftOut || home === '/' || entryAt(image.facts, home) !== undefined) return [];
  return [{ op: 'directory', target: home, mode: 0o755, why: 'HOME names it; left out as asked, so it is empty' }];
};
