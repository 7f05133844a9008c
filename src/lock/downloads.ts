/** What ADD takes from the network, under a lock: noted with its digest, kept with --vendor in DIR/files, taken from there by --offline. */
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TsrunError } from '../util/errors.ts';
import { digested } from './digest.ts';
import { type Lock, type LockedDownload, lockedDownload } from './lock-file.ts';
import type { Fetch, Vendor } from './vendor.ts';

export type DownloadOptions = {
  /** Its path is for messages. */
  readonly lock: { readonly lock: Lock; readonly path: string } | undefined;
  readonly vendor: Vendor | undefined;
  readonly offline: boolean;
};

export type Downloads = {
  readonly fetch: Fetch;
  /** Each once, in the order of fetching. */
  readonly fetched: readonly LockedDownload[];
};

/** @throws TsrunError E_FETCH offline, E_LOCK_CHANGED, E_VENDOR; what `fetch` throws */
export const createDownloads = ({ lock, vendor, offline }: DownloadOptions, fetch: Fetch): Downloads => {
  const fetched: LockedDownload[] = [];
  const pathOf = (directory: string, digest: string): string => join(directory, 'files', digest.replace(':', '-'));

  const kept = async (directory: string, address: string, wanted: LockedDownload): Promise<AsyncIterable<Uint8Array>> => {
    const path = pathOf(directory, wanted.digest);
    const file = await open(path).catch((error: Error) => {
      throw new TsrunError({
        code: 'E_VENDOR',
        what: `cannot build from ${directory}`,
        why: `${address} was not kept there: ${error.message}`,
        hint: 'keep it with a network: tsrun build --lock --vendor DIR …',
      });
    });
    return digested(file.createReadStream({ highWaterMark: 1 << 20 }), (digest) => {
      if (digest !== wanted.digest) throw changed(address, digest, wanted.digest, path);
    });
  };

  const fromNetwork = async (address: string, wanted: LockedDownload | undefined): Promise<AsyncIterable<Uint8Array>> => {
    const parts: Uint8Array[] = [];
    const passing = async function* (): AsyncGenerator<Uint8Array> {
      for await (const part of await fetch(address)) {
        if (vendor?.purpose === 'keep') parts.push(part);
        yield part;
      }
    };
    return digested(passing(), async (digest) => {
      if (wanted !== undefined && wanted.digest !== digest) throw changed(address, digest, wanted.digest, lock?.path ?? '');
      if (!fetched.some((each) => each.address === address)) fetched.push({ address, digest });
      if (vendor?.purpose !== 'keep') return;
      await mkdir(join(vendor.directory, 'files'), { recursive: true });
      const path = pathOf(vendor.directory, digest);
      await writeFile(`${path}.fetched`, parts);
      await rename(`${path}.fetched`, path);
    });
  };

  return {
    fetched,
    fetch: async (address) => {
      const wanted = lock === undefined ? undefined : lockedDownload(lock.lock, address, lock.path);
      if (vendor?.purpose === 'use' && wanted !== undefined) return kept(vendor.directory, address, wanted);
      if (!offline) return fromNetwork(address, wanted);
      throw new TsrunError({
        code: 'E_FETCH',
        what: `cannot fetch ${address}`,
        why: 'tsrun was told to stay offline',
        hint: 'keep it with a network: --lock --vendor DIR; then build with --locked --offline --vendor DIR',
      });
    },
  };
};

const changed = (address: string, found: string, wanted: string, path: string): TsrunError =>
  new TsrunError({
    code: 'E_LOCK_CHANGED',
    what: `cannot build as ${path} says`,
    why: `${address} has the digest ${found}, not ${wanted}`,
    hint: 'if that is meant, write the lock anew: tsrun build --lock …',
  });
