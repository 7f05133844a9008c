/** The directories of RUN --mount=type=cache, and who has one meanwhile. Rules: Dockerfile reference, "RUN --mount=type=cache", sharing. */
import { chmod, lstat, mkdir, rename } from 'node:fs/promises';
import { type Lease, newWatch, tryLease } from '../../store/lease.ts';
import type { Workplace } from './cache.ts';
import type { Engine } from './engine.ts';
import { giveAway } from './native.ts';
import type { ReadyMount } from './step-mounts.ts';

type CacheMount = Extract<ReadyMount, { type: 'cache' }>;

export type HeldCaches = {
  readonly directories: ReadonlyMap<ReadyMount, string>;
  readonly release: () => Promise<void>;
};

const FIRST_WAIT = 50;
const LONGEST_WAIT = 1_000;

/** For the length of a step. @throws the signal's reason, while waiting for a directory that is `locked` */
export const holdCaches = async (engine: Engine, mounts: readonly ReadyMount[], place: Workplace): Promise<HeldCaches> => {
  const directories = new Map<ReadyMount, string>();
  const held = new Map<string, Lease>();
  const release = async (): Promise<void> => {
    for (const lease of held.values()) await lease.release();
  };
  // In one order everywhere: two steps never wait for each other.
  const caches = mounts.filter((mount): mount is CacheMount => mount.type === 'cache').sort((a, b) => (a.id < b.id ? -1 : 1));
  try {
    for (const mount of caches) {
      const name = await nameFor(engine, mount, held);
      const directory = `${engine.cache.root}/mounts/${name}`;
      directories.set(mount, directory);
      // Mode, owner and content are for a new one.
      if (!(await begun(directory, mount, place))) continue;
      await chmod(directory, mount.mode);
      // With one id there is nobody else; what lies in it is no part of the image.
      if (engine.ids.kind === 'ranges' && (mount.uid !== 0 || mount.gid !== 0)) await giveAway(engine.ids, directory, mount.uid, mount.gid);
    }
  } catch (error) {
    await release();
    throw error;
  }
  return { directories, release };
};

/** Whether it is new. What it begins with appears whole, by whoever is first. */
const begun = async (directory: string, { begin }: CacheMount, place: Workplace): Promise<boolean> => {
  if (begin === undefined || (await lstat(directory).catch(() => undefined)) !== undefined) {
    return mkdir(directory, { mode: 0o700 }).then(
      () => true,
      () => false,
    );
  }
  const { path } = await begin.source(place);
  return rename(path, directory).then(
    () => true,
    () => false,
  );
};

const nameFor = async ({ cache, signal }: Engine, { id, sharing }: CacheMount, held: Map<string, Lease>): Promise<string> => {
  const hex = Buffer.from(id).toString('hex').slice(0, 120);
  if (sharing === 'shared') return hex;
  const watches = new Map<string, ReturnType<typeof newWatch>>();
  const take = async (name: string): Promise<boolean> => {
    // Another mount of the same step.
    if (held.has(name)) return sharing === 'locked';
    const watch = watches.get(name) ?? newWatch();
    watches.set(name, watch);
    const attempt = await tryLease(`${cache.root}/keys/mount-${name}.lease`, watch, cache.timing);
    if (attempt.kind === 'held') held.set(name, attempt.lease);
    return attempt.kind === 'held';
  };
  if (sharing === 'private') {
    for (let at = 0; ; at++) {
      const name = at === 0 ? hex : `${hex}-${at}`;
      if (await take(name)) return name;
    }
  }
  for (let wait = FIRST_WAIT; !(await take(hex)); wait = Math.min(wait * 2, LONGEST_WAIT)) {
    signal.throwIfAborted();
    await cache.timing.sleep(wait * (0.5 + cache.timing.random()), signal);
  }
  return hex;
};
