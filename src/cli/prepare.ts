/**
 * `tsrun __prepare REFERENCE…`: what the planner asks for when an image is not ready to run. An image of a registry or archive is converted
 * into the store; of a SIF or SquashFS made by others the facts are found out. Paths and keys: store/layout.ts, image/identity.ts.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { convertImage } from '../build/convert.ts';
import { factsOfFile } from '../build/foreign.ts';
import { openSource } from '../build/sources.ts';
import { openSquashFile } from '../build/squash-file.ts';
import { withRegistry } from '../build/with-registry.ts';
import { factsJson } from '../image/compute.ts';
import { archiveImageKey, fileKey, registryImageKey } from '../image/identity.ts';
import { DEFAULT_LIMITS } from '../oci/limits.ts';
import { parseReference, type Reference, type RegistryReference } from '../oci/reference.ts';
import type { Registry } from '../registry/types.ts';
import { writeWhole } from '../store/blobs.ts';
import { factsPath, imagePath } from '../store/layout.ts';
import type { Store } from '../store/types.ts';
import { TsrunError } from '../util/errors.ts';
import type { Stat } from '../util/host.ts';
import { compressionOf, platformOf } from './build.ts';
import { createProgress } from './progress.ts';
import { note } from './report.ts';
import { loadSettings, type Settings } from './settings.ts';

export type PrepareArguments = { readonly references: readonly string[]; readonly quiet: boolean; readonly env: Settings['env'] };

/** @throws TsrunError */
export const prepare = async ({ references, quiet, env }: PrepareArguments): Promise<void> => {
  const say = (text: string): void => note(text, quiet);
  for (const text of references) {
    const reference = parseReference(text);
    await withRegistry(loadSettings(env), say, async (registry, store) => {
      if (reference.kind === 'path') await prepareFile(reference.path, await store());
      else await prepareImage(reference, registry, await store(), quiet);
    });
  }
};

const prepareFile = async (path: string, store: Store): Promise<void> => {
  const key = fileKey(await statOf(path));
  const facts = factsOfFile(openSquashFile(path));
  await writeWhole(store, factsPath(store.path, key), Buffer.from(factsJson(facts)), 0o600);
};

const prepareImage = async (
  reference: Exclude<Reference, { kind: 'path' }>,
  registry: () => Promise<Registry>,
  store: Store,
  quiet: boolean,
): Promise<void> => {
  const platform = platformOf(undefined);
  const progress = createProgress(`converting ${reference.text}`, process.stderr, quiet);
  const scratch = `${store.path}/partial`;
  const source = await openSource(reference, { platform, limits: DEFAULT_LIMITS, scratch, registry });
  if (source.kind !== 'layers') throw new Error('a reference with a scheme has layers');
  try {
    const path = imagePath(store.path, await imageKey(reference, registry, platform.architecture));
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const temporary = `${scratch}/convert-${randomBytes(8).toString('hex')}.sif`;
    try {
      await convertImage(source.image, temporary, {
        ...compressionOf(undefined),
        blockSize: 128 * 1024,
        threads: undefined,
        limits: DEFAULT_LIMITS,
        force: true,
        signal: new AbortController().signal,
        onProgress: progress.update,
      });
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
  } finally {
    progress.end();
    await source.image.close();
  }
};

const imageKey = async (
  reference: Exclude<Reference, { kind: 'path' }>,
  registry: () => Promise<Registry>,
  arch: string,
): Promise<string> => {
  switch (reference.kind) {
    case 'registry':
      return registryImageKey(await topDigest(reference, await registry()), arch);
    case 'stdin-tar':
      throw new TsrunError({
        code: 'E_REFERENCE',
        what: 'cannot run standard input',
        why: 'it belongs to the program',
        hint: 'tsrun build image.sif -',
      });
    default: {
      const file = reference.kind === 'oci-layout' ? `${reference.path}/index.json` : reference.path;
      return archiveImageKey(reference.kind, 'tag' in reference ? reference.tag : undefined, await statOf(file), arch);
    }
  }
};

/** Of what the reference points at, index or manifest: the planner knows only that one. */
const topDigest = async (reference: RegistryReference, registry: Registry): Promise<string> =>
  reference.digest ?? (await registry.resolve(reference, { platform: platformOf(undefined) })).top.digest;

/** In the words of util/host.ts: numbers beyond 2^53 and nanoseconds as text. */
const statOf = async (path: string): Promise<Stat> => {
  const found = await stat(path, { bigint: true });
  const time = (nanoseconds: bigint): string => `${nanoseconds / 1_000_000_000n}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}`;
  return {
    kind: found.isDirectory() ? 'directory' : 'file',
    mode: Number(found.mode & 0o7777n),
    uid: Number(found.uid),
    gid: Number(found.gid),
    size: Number(found.size),
    mtime: time(found.mtimeNs),
    ctime: time(found.ctimeNs),
    dev: String(found.dev),
    ino: String(found.ino),
  };
};
