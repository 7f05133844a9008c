/**
 * One blob into the store, by one process at a time: found, or waited for, or made. What a broken or killed download left behind is
 * continued; what is published has been verified and synced.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fsync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { chmod, copyFile, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { type Descriptor, type Digest, digestAlgorithm } from '../oci/descriptor.ts';
import { TsrunError } from '../util/errors.ts';
import type { Timing } from '../util/timing.ts';
import type { BlobSink, BlobSource } from './blob-source.ts';
import { findBlob } from './blobs.ts';
import { blobPath, partialDirectory, partialName } from './layout.ts';
import { type LeaseAttempt, newWatch, tryLease } from './lease.ts';
import { codeOf, explainWriteError } from './open.ts';
import type { Store } from './types.ts';

export type ProduceOptions = {
  readonly timing: Timing;
  readonly signal?: AbortSignal | undefined;
  /** Called now and then while another process is at work; `bytes` is how far it is. */
  readonly onWait?: ((bytes: number) => void) | undefined;
};

const FIRST_WAIT = 50;
const LONGEST_WAIT = 2_000;

/**
 * @returns the path of the verified blob in the store.
 * @throws TsrunError E_DIGEST_MISMATCH, E_STORE_FULL; what `source` throws; `signal.reason`.
 */
export const produceBlob = async (store: Store, blob: Descriptor, source: BlobSource, options: ProduceOptions): Promise<string> => {
  const leasePath = `${partialDirectory(store.path)}/${partialName(blob.digest)}.lease`;
  const watch = newWatch();
  for (let wait = FIRST_WAIT; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
    options.signal?.throwIfAborted();
    const found = await findBlob(store, blob.digest, blob.size);
    if (found !== undefined) return found;
    const attempt = await tryLease(leasePath, watch, options.timing).catch((error: unknown) => {
      throw explainWriteError(error, store);
    });
    if (attempt.kind === 'held') return makeBlob(store, blob, source, attempt, options.signal);
    options.onWait?.(await sizeOf(ownPartial(store, blob.digest, attempt.token)));
    await options.timing.sleep(wait * (0.5 + options.timing.random()), options.signal);
  }
};

type Held = Extract<LeaseAttempt, { kind: 'held' }>;

const makeBlob = async (store: Store, blob: Descriptor, source: BlobSource, held: Held, signal?: AbortSignal): Promise<string> => {
  const { lease } = held;
  const own = ownPartial(store, blob.digest, lease.token);
  try {
    // Between the look and the lease another process may have finished.
    const found = await findBlob(store, blob.digest, blob.size);
    if (found !== undefined) return found;
    await inherit(store, blob.digest, held);
    const descriptor = openSync(own, 'a+', 0o600);
    try {
      const sink = await openSink(descriptor, own, blob, store, signal);
      if (!sink.verified() && sink.offset() === blob.size) sink.restart();
      if (!sink.verified()) await source(sink, signal);
      if (!sink.verified()) throw mismatch(blob, `${sink.offset()} bytes of something else came`);
      await promisify(fsync)(descriptor);
    } finally {
      closeSync(descriptor);
    }
    return await publish(store, blob, own);
  } catch (error) {
    await keepForLater(store, blob.digest, own, error);
    throw explainWriteError(error, store);
  } finally {
    await lease.release();
  }
};

/** Continues what a predecessor left: taken when it is certainly gone, copied when it may still be writing. */
const inherit = async (store: Store, digest: Digest, { lease, before }: Held): Promise<void> => {
  const own = ownPartial(store, digest, lease.token);
  if (before !== undefined && !before.gone) {
    await ignoreMissing(copyFile(ownPartial(store, digest, before.token), own));
  } else if (before !== undefined) {
    await ignoreMissing(rename(ownPartial(store, digest, before.token), own));
  }
  if ((await sizeOf(own)) === 0) await ignoreMissing(rename(leftPartial(store, digest), own));
};

/** Only bytes that may be right are worth keeping. */
const keepForLater = async (store: Store, digest: Digest, own: string, error: unknown): Promise<void> => {
  const useless = (error instanceof TsrunError && error.code === 'E_DIGEST_MISMATCH') || (await sizeOf(own)) === 0;
  await (useless ? rm(own, { force: true }) : ignoreMissing(rename(own, leftPartial(store, digest)))).catch(() => undefined);
};

const publish = async (store: Store, blob: Descriptor, own: string): Promise<string> => {
  const path = blobPath(store.path, blob.digest);
  try {
    await chmod(own, 0o444);
    await rename(own, path);
  } catch (error) {
    // Taken for dead by another process, which then was faster.
    const found = codeOf(error) === 'ENOENT' ? await findBlob(store, blob.digest, blob.size) : undefined;
    if (found === undefined) throw error;
    return found;
  }
  for (const name of await readdir(partialDirectory(store.path))) {
    if (name.startsWith(partialName(blob.digest)) && name.endsWith('.part'))
      await rm(`${partialDirectory(store.path)}/${name}`, { force: true });
  }
  return path;
};

// --- the sink: hash and write at once, on the thread that reads the socket (the fastest way measured, and back-pressure for free)

const openSink = async (descriptor: number, path: string, blob: Descriptor, store: Store, signal?: AbortSignal): Promise<BlobSink> => {
  let hash = createHash(digestAlgorithm(blob.digest));
  let offset = await hashFile(path, hash, signal);
  const restart = (): void => {
    ftruncateSync(descriptor, 0);
    hash = createHash(digestAlgorithm(blob.digest));
    offset = 0;
  };
  if (offset > blob.size) restart();
  return {
    offset: () => offset,
    restart,
    write: (chunk) => {
      if (offset + chunk.length > blob.size) throw mismatch(blob, `more than its ${blob.size} bytes came`);
      try {
        for (let done = 0; done < chunk.length; ) done += writeSync(descriptor, chunk, done);
      } catch (error) {
        throw explainWriteError(error, store);
      }
      hash.update(chunk);
      offset += chunk.length;
    },
    verified: () => offset === blob.size && `${digestAlgorithm(blob.digest)}:${hash.copy().digest('hex')}` === blob.digest,
  };
};

const hashFile = async (path: string, hash: Hash, signal?: AbortSignal): Promise<number> => {
  const file = await open(path, 'r');
  const buffer = new Uint8Array(1024 * 1024);
  let offset = 0;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
      if (bytesRead === 0) return offset;
      hash.update(buffer.subarray(0, bytesRead));
      offset += bytesRead;
    }
  } finally {
    await file.close();
  }
};

export const mismatch = (blob: Descriptor, why: string): TsrunError =>
  new TsrunError({
    code: 'E_DIGEST_MISMATCH',
    what: `cannot use blob ${blob.digest}`,
    why: `its content does not match the digest: ${why}`,
    hint: 'try again; if it stays, the image in the registry (or the mirror in between) is damaged',
  });

// --- names and small things

const ownPartial = (store: Store, digest: Digest, token: string): string =>
  `${partialDirectory(store.path)}/${partialName(digest)}.${token}.part`;

const leftPartial = (store: Store, digest: Digest): string => `${partialDirectory(store.path)}/${partialName(digest)}.part`;

const sizeOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;

const ignoreMissing = async (work: Promise<unknown>): Promise<void> => {
  try {
    await work;
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
};
