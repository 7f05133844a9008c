/**
 * Makes the places real: the store (or, where it cannot be written, a temporary one above it) and the node-local directory.
 */
import { constants } from 'node:fs';
import { access, chmod, lstat, mkdir, mkdtemp, rm, stat, statfs } from 'node:fs/promises';
import { TsrunError } from '../util/errors.ts';
import { makeDirectories } from '../util/make-directories.ts';
import { localStore } from './places.ts';
import type { Place, Store, StorePlaces } from './types.ts';

export type OpenStoreOptions = {
  /** One sentence for the user, when a temporary store has to serve. */
  readonly onWarning?: ((message: string) => void) | undefined;
  /**
   * What serves when the store cannot be written: a store for this command alone, or the lasting one in the node-local place, where the
   * planner looks too (image/open.ts).
   */
  readonly instead?: 'temporary' | 'local' | undefined;
};

const FOLDERS = ['blobs/sha256', 'blobs/sha512', 'partial', 'refs', 'facts', 'images'];

/**
 * @throws TsrunError E_STORE_UNSAFE when others could plant files in the store; E_LOCAL_PLACE when no temporary store can be made either.
 */
export const openStore = async (places: StorePlaces, { onWarning, instead = 'temporary' }: OpenStoreOptions = {}): Promise<Store> => {
  const { path, origin } = places.store;
  try {
    await makeFolders(path);
    await access(path, constants.W_OK | constants.X_OK);
    await access(`${path}/partial`, constants.W_OK | constants.X_OK);
  } catch (error) {
    const reason = `the store ${path} (${origin}) cannot be written: ${reasonOf(error)}`;
    if (instead === 'local') {
      const directory = localStore(await openLocalPlace(places.local));
      await makeFolders(directory);
      onWarning?.(`${reason}; using ${directory} on this node`);
      return { path: directory, lowers: [path], temporary: false };
    }
    const directory = await temporaryStore(places.local);
    onWarning?.(`${reason}; using ${directory} for this run only`);
    return { path: directory, lowers: [path], temporary: true };
  }
  await refuseUnsafe(path, origin);
  return { path, lowers: [], temporary: false };
};

const makeFolders = async (store: string): Promise<void> => {
  for (const folder of FOLDERS) await makeDirectories(`${store}/${folder}`, 0o700);
};

/** A store that lives as long as one command; the caller ends it with `removeTemporaryStore`. */
const temporaryStore = async (local: Place): Promise<string> => {
  const directory = await mkdtemp(`${await openLocalPlace(local)}/store-`);
  await makeFolders(directory);
  return directory;
};

export const removeTemporaryStore = async (store: Store): Promise<void> => {
  if (store.temporary) await rm(store.path, { recursive: true, force: true });
};

/**
 * The node-local directory, made if missing: 0700, ours, no symlink (in /tmp anybody could have put one there first).
 * @returns its path
 * @throws TsrunError E_LOCAL_PLACE
 */
export const openLocalPlace = async ({ path, origin }: Place): Promise<string> => {
  const fail = (why: string, hint: string): never => {
    throw new TsrunError({ code: 'E_LOCAL_PLACE', what: `cannot use the node-local directory ${path} (${origin})`, why, hint });
  };
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (codeOf(error) === 'ENOENT') {
      fail('its parent directory does not exist', 'make it, or set TSRUN_LOCAL to a directory of your own on this node');
    }
    if (codeOf(error) !== 'EEXIST') fail(reasonOf(error), 'set TSRUN_LOCAL to a directory of your own on this node');
  }
  const found = await lstat(path);
  if (!found.isDirectory()) fail('it is not a directory', 'remove it, or set TSRUN_LOCAL to a directory of your own');
  if (found.uid !== process.geteuid?.()) fail(`it belongs to user ${found.uid}`, 'set TSRUN_LOCAL to a directory of your own');
  if ((found.mode & 0o077) !== 0) await chmod(path, 0o700);
  return path;
};

/** What anybody may write, anybody may fill with images that look verified. Group-writable stores are a site's own decision. */
const refuseUnsafe = async (path: string, origin: string): Promise<void> => {
  if (((await stat(path)).mode & 0o002) === 0) return;
  throw new TsrunError({
    code: 'E_STORE_UNSAFE',
    what: `cannot use the store ${path} (${origin})`,
    why: 'every user of this machine may write to it',
    hint: `take the right away: chmod o-w ${path}`,
  });
};

/**
 * Before work starts: is there room for `bytes` more?
 * @throws TsrunError E_STORE_FULL with both numbers. Quotas are not visible this way; they show when writing.
 */
export const requireSpace = async (store: Store, bytes: number, what: string): Promise<void> => {
  const { bavail, bsize } = await statfs(store.path);
  const free = bavail * bsize;
  if (free >= bytes) return;
  throw new TsrunError({
    code: 'E_STORE_FULL',
    what: `cannot keep ${what} in the store ${store.path}`,
    why: `it needs ${megabytes(bytes)}, but only ${megabytes(free)} are free there`,
    hint: 'free some space, or set TSRUN_STORE to a directory on a bigger file system',
  });
};

/** Turns a full disk or an exceeded quota into an error that says where; everything else is passed on as it is. */
export const explainWriteError = (error: unknown, store: Store): unknown => {
  const code = codeOf(error);
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return error;
  return new TsrunError({
    code: 'E_STORE_FULL',
    what: `cannot write to the store ${store.path}`,
    why: code === 'EDQUOT' ? 'your quota there is used up' : 'the file system is full',
    hint: 'free some space, or set TSRUN_STORE to a directory on another file system; what was downloaded so far is kept',
    cause: error,
  });
};

export const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;

const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
  ENOSPC: 'the file system is full',
  EDQUOT: 'your quota is used up',
  ENOTDIR: 'a part of the path is not a directory',
  EEXIST: 'a file is in the way',
  ENOENT: 'no such directory',
  EIO: 'input/output error',
  ESTALE: 'stale file handle',
  ELOOP: 'too many symbolic links',
};

/** The reason in words, without path or system call. */
export const reasonOf = (error: unknown): string => {
  const code = codeOf(error);
  return (code === undefined ? undefined : REASONS[code]) ?? code ?? (error instanceof Error ? error.message : String(error));
};

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
