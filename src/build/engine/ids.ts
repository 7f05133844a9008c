/** Whose ids a build has: those of /etc/subuid and /etc/subgid where they are there and can be used, else the caller's one id for all. */
import { existsSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import type { StepIds } from '../../plan/step.ts';

/** What a distribution's files may ask for: nobody is 65534. */
const LEAST_COUNT = 65_536;

export type Range = { readonly start: number; readonly count: number };

/** The first range of the user that is long enough. Format: subuid(5). */
export const rangeFor = (text: string, name: string, uid: number): Range | undefined => {
  for (const line of text.split('\n')) {
    const [owner, start, count, ...rest] = line.trim().split(':');
    if ((owner !== name && owner !== String(uid)) || rest.length > 0) continue;
    if (!/^[0-9]{1,10}$/.test(start ?? '') || !/^[0-9]{1,10}$/.test(count ?? '')) continue;
    const range = { start: Number(start), count: Number(count) };
    if (range.count >= LEAST_COUNT && range.start + range.count <= 2 ** 32) return range;
  }
  return undefined;
};

export type IdSources = {
  readonly uid: number;
  readonly gid: number;
  readonly name: string;
  readonly subuid: string;
  readonly subgid: string;
  /** Where a program of that name is, undefined when there is none. */
  readonly program: (name: string) => string | undefined;
  /** TSRUN_BUILD_IDS: "single" or "ranges"; anything else decides nothing. */
  readonly wish: string | undefined;
};

export const chooseIds = ({ uid, gid, name, subuid, subgid, program, wish }: IdSources): StepIds => {
  if (wish === 'single') return { kind: 'single' };
  if (uid === 0) return { kind: 'ranges', uidMap: '0 0 4294967295', gidMap: '0 0 4294967295', newuidmap: '', newgidmap: '' };
  const uids = rangeFor(subuid, name, uid);
  const gids = rangeFor(subgid, name, uid);
  const newuidmap = program('newuidmap');
  const newgidmap = program('newgidmap');
  if (uids === undefined || gids === undefined || newuidmap === undefined || newgidmap === undefined) return { kind: 'single' };
  return { kind: 'ranges', uidMap: mapOf(uid, uids), gidMap: mapOf(gid, gids), newuidmap, newgidmap };
};

/** INSIDE OUTSIDE COUNT, twice: the caller is 0, and the range follows. */
const mapOf = (own: number, { start, count }: Range): string => `0 ${own} 1 1 ${start} ${count}`;

export const machineIds = (wish: string | undefined): StepIds => {
  const { uid, gid, username } = userInfo();
  return chooseIds({
    uid,
    gid,
    name: username,
    subuid: textOf('/etc/subuid'),
    subgid: textOf('/etc/subgid'),
    program: (name) => ['/usr/bin', '/bin', '/usr/local/bin', '/usr/sbin'].map((directory) => `${directory}/${name}`).find(existsSync),
    wish,
  });
};

const textOf = (path: string): string => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
};
