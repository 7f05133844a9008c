/**
 * Finished results by key, in the work space of this node:
 *
 *     build/<ids>/made/<token>/   files/ (an overlay's upper directory, or a base image unpacked), owners, entry.json
 *     build/<ids>/layers/<key>    a link to one of those
 *     build/<ids>/begun/<token>/  the same under way, with work/ of the overlay; and <token>.lease, who does it
 *     build/<ids>/keys/<key>.lease   one build at a time makes a result, others wait for it
 *     build/<ids>/cleaning.lease  who takes results away (cache-items.ts)
 *     build/<ids>/mounts/<id>/    of RUN --mount=type=cache
 *     build/<ids>/blocks/<target> which blocks an image built here has (block-lists.ts)
 *
 * Results are written without waiting for the disk. entry.json has the boot of the machine in which one was made, a file `synced` beside it says
 * that it has reached the disk since: without that, after a power failure, nobody knows what of it has, and it counts as not there.
 *
 * A result appears by rename: it is whole or not there. One that has been replaced (--no-cache) stays for a day: a build under way may stand on it.
 */
import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, readlink, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { isLeased, type Lease, newWatch, tryLease } from '../../store/lease.ts';
import { TsrunError } from '../../util/errors.ts';
import { makeDirectories } from '../../util/make-directories.ts';
import type { Timing } from '../../util/timing.ts';
import type { Key } from './key.ts';

export type Cache = {
  /** …/build/<ids> */
  readonly root: string;
  /** Removes a directory whatever the modes and owners in it. */
  readonly remove: (path: string) => Promise<void>;
  /** Waits until the file system of a directory is on its disk. */
  readonly sync: (path: string) => Promise<void>;
  readonly timing: Timing;
  /** Of the machine, as long as it runs. */
  readonly boot: string;
  /** Results used or made here that may not be on the disk yet. */
  readonly unsynced: Set<string>;
};

export type CacheWork = Pick<Cache, 'remove' | 'sync' | 'timing'>;

/** A finished result. */
export type Layer = {
  readonly key: Key;
  /** Of this result: a new one is made under the same key when it must not be taken from the cache. */
  readonly id: string;
  readonly files: string;
  readonly owners: string;
  /** Uncompressed bytes, roughly; for people. */
  readonly bytes: number;
};

/** Where a result is made. */
export type Workplace = {
  readonly path: string;
  readonly files: string;
  readonly work: string;
  readonly owners: string;
  readonly lease: Lease;
};

const FOLDERS = ['layers', 'made', 'begun', 'keys', 'mounts', 'blocks'];

const SYNCED = 'synced';

const DAY = 86_400_000;

export const openCache = async (space: string, idsName: string, work: CacheWork): Promise<Cache> => {
  const root = `${space}/build/${idsName}`;
  try {
    for (const folder of FOLDERS) await makeDirectories(`${root}/${folder}`, 0o700);
  } catch (error) {
    throw spaceError(error, root);
  }
  return { root, ...work, boot: await thisBoot(), unsynced: new Set() };
};

/** random(4). Where it is not told, nothing that was not synced is believed. */
const thisBoot = async (): Promise<string> =>
  (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => randomBytes(16).toString('hex'))).trim();

const spaceError = (error: unknown, path: string): unknown => {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new TsrunError({
    code: full ? 'E_NO_SPACE' : 'E_BUILD_SPACE',
    what: `cannot work in ${path}`,
    why: full ? 'the file system or your quota is full' : error instanceof Error ? error.message : String(error),
    hint: 'make room there, or set TSRUN_TMPDIR to a directory of your own on another disk of this node',
    cause: error,
  });
};

/** The finished result, or undefined. */
export const findLayer = async (cache: Cache, key: Key): Promise<Layer | undefined> => {
  try {
    const path = `${cache.root}/made/${basename(await readlink(`${cache.root}/layers/${key}`))}`;
    const { bytes, boot } = JSON.parse(await readFile(`${path}/entry.json`, 'utf8')) as { bytes?: unknown; boot?: unknown };
    const synced = await lstat(`${path}/${SYNCED}`).catch(() => undefined);
    if (synced === undefined && boot !== cache.boot) return undefined;
    if (synced === undefined) cache.unsynced.add(path);
    // When it was last of use, for cleaning.
    const now = new Date();
    await utimes(`${path}/entry.json`, now, now).catch(() => undefined);
    return { key, id: basename(path), files: `${path}/files`, owners: `${path}/owners`, bytes: typeof bytes === 'number' ? bytes : 0 };
  } catch {
    return undefined;
  }
};

export type Making = {
  readonly signal: AbortSignal;
  /** Called once when another build makes the same. */
  readonly onWait: () => void;
  /** Fills `files` of the workplace. Returns roughly how many bytes. */
  readonly make: (place: Workplace) => Promise<number>;
  /** What is there already counts for nothing (--no-cache). */
  readonly anew: boolean;
};

const FIRST_WAIT = 50;
const LONGEST_WAIT = 1_000;

/**
 * The result of that key: found, waited for, or made. What `make` leaves behind when it fails is removed.
 * @returns the layer, and whether it was there already
 */
export const produceLayer = async (cache: Cache, key: Key, making: Making): Promise<{ readonly layer: Layer; readonly found: boolean }> => {
  const { signal, onWait, anew } = making;
  const path = `${cache.root}/keys/${key}.lease`;
  const watch = newWatch();
  let waited = false;
  for (let wait = FIRST_WAIT; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
    signal.throwIfAborted();
    const found = anew && !waited ? undefined : await findLayer(cache, key);
    if (found !== undefined) return { layer: found, found: true };
    const attempt = await tryLease(path, watch, cache.timing).catch((error: unknown) => {
      throw spaceError(error, cache.root);
    });
    if (attempt.kind === 'held') {
      try {
        const meanwhile = anew ? undefined : await findLayer(cache, key);
        return meanwhile === undefined ? { layer: await makeLayer(cache, key, making), found: false } : { layer: meanwhile, found: true };
      } finally {
        await attempt.lease.release();
      }
    }
    if (!waited) onWait();
    waited = true;
    await cache.timing.sleep(wait * (0.5 + cache.timing.random()), signal);
  }
};

const makeLayer = async (cache: Cache, key: Key, { make }: Making): Promise<Layer> => {
  const place = await openWorkplace(cache);
  try {
    const bytes = await make(place);
    await writeFile(`${place.path}/entry.json`, `${JSON.stringify({ version: 1, bytes, boot: cache.boot })}\n`);
    await cache.remove(place.work);
    await cache.remove(`${place.path}/mounts`);
    return { key, ...(await publish(cache, key, place)), bytes };
  } finally {
    await closeWorkplace(cache, place);
  }
};

const publish = async (cache: Cache, key: Key, { path }: Workplace): Promise<Pick<Layer, 'id' | 'files' | 'owners'>> => {
  const name = basename(path);
  const made = `${cache.root}/made/${name}`;
  try {
    await rename(path, made);
    await symlink(`../made/${name}`, `${path}.link`);
    await rename(`${path}.link`, `${cache.root}/layers/${key}`);
  } catch (error) {
    throw spaceError(error, cache.root);
  }
  cache.unsynced.add(made);
  return { id: name, files: `${made}/files`, owners: `${made}/owners` };
};

/** Once for all that a build has made: it costs what the disk has to write. Where it fails, the results serve until the machine is started anew. */
export const syncLayers = async (cache: Cache): Promise<void> => {
  const paths = [...cache.unsynced];
  if (paths.length === 0) return;
  try {
    await cache.sync(cache.root);
  } catch {
    return;
  }
  for (const path of paths) {
    cache.unsynced.delete(path);
    // Another build may have replaced it, and removed it.
    await writeFile(`${path}/${SYNCED}`, '').catch(() => undefined);
  }
};

/** Whoever cleans a cache has this. */
export const cleaningLease = (root: string): string => `${root}/cleaning.lease`;

/**
 * As long as a build lasts: nobody cleans what it may stand on. Whoever cleans takes the one lease and then looks for builds, a build takes its own and
 * then waits for whoever cleans: one of them sees the other.
 */
export const holdCache = async (cache: Cache, signal: AbortSignal): Promise<Lease> => {
  const attempt = await tryLease(`${cache.root}/begun/${randomBytes(8).toString('hex')}.lease`, newWatch(), cache.timing).catch(
    (error: unknown) => {
      throw spaceError(error, cache.root);
    },
  );
  if (attempt.kind !== 'held') throw new Error('a new lease is taken');
  try {
    while (await isLeased(cleaningLease(cache.root))) await cache.timing.sleep(FIRST_WAIT, signal);
  } catch (error) {
    await attempt.lease.release();
    throw error;
  }
  return attempt.lease;
};

/** A place to work in that belongs to nobody else. */
export const openWorkplace = async (cache: Cache): Promise<Workplace> => {
  const path = `${cache.root}/begun/${randomBytes(8).toString('hex')}`;
  const attempt = await tryLease(`${path}.lease`, newWatch(), cache.timing).catch((error: unknown) => {
    throw spaceError(error, cache.root);
  });
  if (attempt.kind !== 'held') throw new Error(`${path} is taken`);
  try {
    await mkdir(path, { mode: 0o700 });
    await mkdir(`${path}/files`, { mode: 0o755 });
    await mkdir(`${path}/work`, { mode: 0o755 });
  } catch (error) {
    await attempt.lease.release();
    throw spaceError(error, cache.root);
  }
  return { path, files: `${path}/files`, work: `${path}/work`, owners: `${path}/owners`, lease: attempt.lease };
};

/** Also after the result has moved away: then there is nothing left to remove. */
export const closeWorkplace = async (cache: Cache, place: Workplace): Promise<void> => {
  await cache.remove(place.path);
  await place.lease.release();
};

/** What builds that were killed have left, and results that have been replaced long ago. */
export const sweep = async (cache: Cache): Promise<void> => {
  const begun = `${cache.root}/begun`;
  for (const name of await readdir(begun)) {
    const path = `${begun}/${name}`;
    if (!(await isLeased(`${path.replace(/\.(?:lease|link).*$/, '')}.lease`))) await cache.remove(path);
  }
  for (const name of await readdir(`${cache.root}/keys`)) {
    const path = `${cache.root}/keys/${name}`;
    if (!(await isLeased(path.replace(/\.lease.*$/, '.lease')))) await rm(path, { force: true });
  }
  const linked = new Set<string>();
  for (const key of await readdir(`${cache.root}/layers`))
    linked.add(basename(await readlink(`${cache.root}/layers/${key}`).catch(() => '')));
  for (const name of await readdir(`${cache.root}/made`)) {
    const path = `${cache.root}/made/${name}`;
    const used = await lstat(`${path}/entry.json`).catch(() => undefined);
    if (!linked.has(name) && (used === undefined || Date.now() - used.mtimeMs > DAY)) await cache.remove(path);
  }
};
