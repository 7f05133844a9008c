/**
 * Finished blobs: looking them up takes no lock, since a blob appears under its digest only when it is complete and verified.
 */
import { createHash, randomBytes } from 'node:crypto';
import { chmod, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Digest, digestAlgorithm } from '../oci/descriptor.ts';
import { makeDirectories } from '../util/make-directories.ts';
import { blobPath } from './layout.ts';
import { explainWriteError } from './open.ts';
import type { Store } from './types.ts';

/** A day: how exactly the last use of a thing is known, for cleaning. */
const USE_GRAIN = 86_400_000;

/**
 * @param size when known: a blob of another length (a crash on a file system that reorders) does not count.
 * @returns the path, or `undefined`
 */
export const findBlob = async (store: Store, digest: Digest, size?: number): Promise<string | undefined> => {
  for (const root of [store.path, ...store.lowers]) {
    const path = blobPath(root, digest);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined || !found.isFile() || (size !== undefined && found.size !== size)) continue;
    if (Date.now() - found.mtimeMs > USE_GRAIN) {
      // Only the record of use; a read-only store does without it.
      await utimes(path, new Date(), new Date()).catch(() => undefined);
    }
    return path;
  }
  return undefined;
};

/**
 * A small document (manifest, config), hashed again on every read: it decides what is run.
 * @returns `undefined` when it is missing, longer than `limit`, or no longer what its name says (then it is removed).
 */
export const readDocument = async (store: Store, digest: Digest, limit: number): Promise<Uint8Array | undefined> => {
  const path = await findBlob(store, digest);
  if (path === undefined) return undefined;
  const { size } = await stat(path);
  if (size > limit) return undefined;
  const bytes = await readFile(path);
  if (digestOf(bytes, digest) === digest) return bytes;
  await rm(path, { force: true }).catch(() => undefined);
  return undefined;
};

/** Keeps a document the caller has verified. */
export const putDocument = async (store: Store, digest: Digest, bytes: Uint8Array): Promise<void> => {
  if ((await findBlob(store, digest, bytes.length)) !== undefined) return;
  await writeWhole(store, blobPath(store.path, digest), bytes, 0o444);
};

/** Complete or not there: written beside its place, synced, renamed. Two writers at once do no harm; the last one stays. */
export const writeWhole = async (store: Store, path: string, bytes: Uint8Array, mode: number): Promise<void> => {
  const temporary = `${store.path}/partial/write-${randomBytes(8).toString('hex')}.tmp`;
  try {
    await makeDirectories(dirname(path), 0o700);
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(temporary, mode);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw explainWriteError(error, store);
  }
};

/** The digest of `bytes` under the algorithm of `like`. */
export const digestOf = (bytes: Uint8Array, like: Digest | 'sha256'): Digest => {
  const algorithm = like === 'sha256' ? 'sha256' : digestAlgorithm(like);
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
};
