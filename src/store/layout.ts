/**
 * Where each thing lies in a store: pure functions from names to paths, so that the planner finds things by the same rule.
 *
 *     blobs/sha256/<hex>            layers, configs, manifests, indexes: verified, never changed
 *     partial/sha256-<hex>.part     a broken download, to be resumed
 *     partial/sha256-<hex>.<token>.part, .lease      a download under way and who does it
 *     refs/<registry>/<repository>/:<tag>            tag → digest, as last seen (no repository word starts with a colon)
 *     facts/<key>.json              image facts of images made by others
 *     images/<key>.sif              converted images
 */
import { type Digest, digestAlgorithm, digestHex } from '../oci/descriptor.ts';
import type { RegistryReference } from '../oci/reference.ts';
import { TsrunError } from '../util/errors.ts';

export const blobPath = (store: string, digest: Digest): string => `${store}/blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;

export const partialDirectory = (store: string): string => `${store}/partial`;

/** Common start of the names of everything about one unfinished blob. */
export const partialName = (digest: Digest): string => `${digestAlgorithm(digest)}-${digestHex(digest)}`;

export const referencePath = (store: string, reference: RegistryReference): string =>
  `${store}/refs/${reference.registry}/${reference.repository}/:${reference.tag ?? 'latest'}`;

/** @param key of letters, digits, `.`, `_`, `-`, not beginning with a dot. @throws TsrunError E_STORE_KEY */
export const factsPath = (store: string, key: string): string => `${store}/facts/${checkKey(key)}.json`;

/** @param key as for facts. @throws TsrunError E_STORE_KEY */
export const imagePath = (store: string, key: string): string => `${store}/images/${checkKey(key)}.sif`;

const checkKey = (key: string): string => {
  if (/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$/.test(key)) return key;
  throw new TsrunError({
    code: 'E_STORE_KEY',
    what: `cannot use store key ${JSON.stringify(key.slice(0, 200))}`,
    why: 'a key is 1 to 200 letters, digits, . _ -',
  });
};
