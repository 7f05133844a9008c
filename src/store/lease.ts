/**
 * Who is downloading a blob: a file made with O_EXCL, touched every few seconds by its holder (Node has no flock, and flock does not reach
 * across nodes on all network file systems).
 *
 * A lease is dead for certain when its process is known to be gone (same boot, same PID namespace). It is silent when nobody touched it
 * for a minute, counted by the watcher's own clock, so that clocks of nodes need not agree; a silent holder may still come back, so what it wrote
 * is copied, never taken. The worst that a race here can cost is a second download: files are private to a holder until they are verified.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { link, open, readFile, rename, rm, utimes } from 'node:fs/promises';
import type { Timing } from '../util/timing.ts';
import { codeOf } from './open.ts';

const HEARTBEAT = 5_000;
const SILENCE = 60_000;

type Holder = {
  readonly token: string;
  readonly pid: number;
  readonly start: string;
  readonly boot: string;
  readonly pidNamespace: string;
};

export type Lease = {
  /** Marks the files of this holder. */
  readonly token: string;
  readonly release: () => Promise<void>;
};

/** What a would-be holder finds. `before`: whose place it took, and whether that one is certainly gone. */
export type LeaseAttempt =
  | { readonly kind: 'held'; readonly lease: Lease; readonly before?: { readonly token: string; readonly gone: boolean } | undefined }
  | { readonly kind: 'busy'; readonly token: string };

/** Remembers between attempts when the lease was last seen to move. One per waiting blob. */
export type LeaseWatch = { mtime: number; token: string; since: number };

export const newWatch = (): LeaseWatch => ({ mtime: -1, token: '', since: 0 });

/** One attempt, no waiting. @param path of the lease file */
export const tryLease = async (path: string, watch: LeaseWatch, timing: Timing): Promise<LeaseAttempt> => {
  const token = randomBytes(8).toString('hex');
  if (await create(path, token)) return { kind: 'held', lease: hold(path, token) };

  const found = await look(path);
  if (found === undefined) return tryAgain(path, token, undefined);
  const gone = isGone(found.holder);
  if (!gone && !isSilent(found, watch, timing)) return { kind: 'busy', token: found.holder?.token ?? '' };
  await remove(path, found.text);
  return tryAgain(path, token, found.holder === undefined ? undefined : { token: found.holder.token, gone });
};

/** Is somebody at work on it? For cleaning. */
export const isLeased = async (path: string): Promise<boolean> => {
  const found = await look(path);
  if (found === undefined || isGone(found.holder)) return false;
  return Date.now() - found.mtime < SILENCE;
};

const tryAgain = async (path: string, token: string, before: { token: string; gone: boolean } | undefined): Promise<LeaseAttempt> =>
  (await create(path, token)) ? { kind: 'held', lease: hold(path, token), before } : { kind: 'busy', token: '' };

const create = async (path: string, token: string): Promise<boolean> => {
  const holder: Holder = { token, pid: process.pid, start: processStart(process.pid) ?? '', boot: bootId(), pidNamespace: pidNamespace() };
  // Written beside and linked: a lease is never seen empty. link is as exclusive as O_EXCL, on NFS too.
  const beside = `${path}.${token}`;
  const file = await open(beside, 'wx', 0o600);
  try {
    await file.writeFile(JSON.stringify(holder));
  } finally {
    await file.close();
  }
  try {
    await link(beside, path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(beside, { force: true });
  }
};

const hold = (path: string, token: string): Lease => {
  const beat = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, HEARTBEAT);
  beat.unref();
  return {
    token,
    release: async () => {
      clearInterval(beat);
      const found = await look(path);
      if (found?.holder?.token === token) await rm(path, { force: true });
    },
  };
};

type Found = { readonly text: string; readonly holder: Holder | undefined; readonly mtime: number };

/** Opened, not only stat-ed: network file systems refresh what they know of a file when it is opened. */
const look = async (path: string): Promise<Found | undefined> => {
  try {
    const file = await open(path, 'r');
    try {
      const { mtimeMs } = await file.stat();
      const text = (await file.readFile('utf8')).slice(0, 1000);
      return { text, holder: parseHolder(text), mtime: mtimeMs };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ESTALE') return undefined;
    throw error;
  }
};

const parseHolder = (text: string): Holder | undefined => {
  try {
    const { token, pid, start, boot, pidNamespace: namespace } = JSON.parse(text) as Partial<Record<string, unknown>>;
    if (typeof token !== 'string' || !/^[0-9a-f]{16}$/.test(token) || typeof pid !== 'number' || !Number.isSafeInteger(pid))
      return undefined;
    if (typeof start !== 'string' || typeof boot !== 'string' || typeof namespace !== 'string') return undefined;
    return { token, pid, start, boot, pidNamespace: namespace };
  } catch {
    return undefined;
  }
};

const isGone = (holder: Holder | undefined): boolean =>
  holder !== undefined &&
  holder.boot !== '' &&
  holder.boot === bootId() &&
  holder.pidNamespace !== '' &&
  holder.pidNamespace === pidNamespace() &&
  processStart(holder.pid) !== holder.start;

const isSilent = (found: Found, watch: LeaseWatch, timing: Timing): boolean => {
  const token = found.holder?.token ?? '';
  if (watch.mtime !== found.mtime || watch.token !== token) {
    watch.mtime = found.mtime;
    watch.token = token;
    watch.since = timing.now();
  }
  return timing.now() - watch.since >= SILENCE;
};

/** Takes the lease file away if it still says `text`; if another one was faster and it is a new one, it is put back. */
const remove = async (path: string, text: string): Promise<void> => {
  const aside = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    await rename(path, aside);
    if ((await readFile(aside, 'utf8')).slice(0, 1000) !== text) await link(aside, path).catch(() => undefined);
    await rm(aside, { force: true });
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
};

// --- identity of a process on this machine; '' where /proc does not tell

const bootId = (): string => readOr(() => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim());

const pidNamespace = (): string => readOr(() => readlinkSync('/proc/self/ns/pid'));

/** Fields 3 and 22 of /proc/PID/stat (proc(5)); the name in field 2 may hold spaces and brackets. `undefined`: no such process, or a zombie. */
const processStart = (pid: number): string | undefined => {
  const text = readOr(() => readFileSync(`/proc/${pid}/stat`, 'latin1'));
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
};

const readOr = (read: () => string): string => {
  try {
    return read();
  } catch {
    return '';
  }
};
