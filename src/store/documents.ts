/** The store's own JSON files: remembered references and image facts. Unreadable ones count as missing: they can be made again. */
import { readFile, stat } from 'node:fs/promises';
import { isDigest } from '../oci/descriptor.ts';
import type { RegistryReference } from '../oci/reference.ts';
import { writeWhole } from './blobs.ts';
import { factsPath, referencePath } from './layout.ts';
import type { RememberedReference, Store } from './types.ts';

const LIMIT = 16 * 1024 * 1024;

export const rememberReference = (store: Store, reference: RegistryReference, value: RememberedReference): Promise<void> =>
  writeJson(store, referencePath(store.path, reference), value);

/** What the tag meant when a registry was last asked; `undefined` when this store never saw it. */
export const recallReference = async (store: Store, reference: RegistryReference): Promise<RememberedReference | undefined> => {
  for (const root of [store.path, ...store.lowers]) {
    const value = await readJson(referencePath(root, reference));
    if (typeof value !== 'object' || value === null) continue;
    const { digest, mediaType, size, seen } = value as Partial<Record<string, unknown>>;
    if (typeof digest !== 'string' || !isDigest(digest) || typeof mediaType !== 'string') continue;
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || typeof seen !== 'string') continue;
    return { digest, mediaType, size, seen };
  }
  return undefined;
};

/** @param facts plain JSON, checked again by the one who reads it. */
export const writeFacts = (store: Store, key: string, facts: unknown): Promise<void> => writeJson(store, factsPath(store.path, key), facts);

export const readFacts = async (store: Store, key: string): Promise<unknown> => {
  for (const root of [store.path, ...store.lowers]) {
    const value = await readJson(factsPath(root, key));
    if (value !== undefined) return value;
  }
  return undefined;
};

const writeJson = (store: Store, path: string, value: unknown): Promise<void> =>
  writeWhole(store, path, new TextEncoder().encode(`${JSON.stringify(value)}\n`), 0o600);

const readJson = async (path: string): Promise<unknown> => {
  try {
    if ((await stat(path)).size > LIMIT) return undefined;
    return JSON.parse(await readFile(path, 'utf8'));
  } catch {
    return undefined;
  }
};
