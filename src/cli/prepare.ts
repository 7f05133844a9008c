/**
 * `tsrun __prepare REFERENCE…`: what the planner asks for when an image is not ready to run. An image of a registry or archive is converted
 * into the store; of a SIF or SquashFS made by others the facts are found out. Paths and keys: store/layout.ts, image/identity.ts.
 *
 * The ranks of a job that meet the same image at once do it once: one works, the others wait for what it leaves in the store.
 */
import { rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { convertImage } from '../build/convert.ts';
import { factsOfFile } from '../build/foreign.ts';
import { openSource } from '../build/sources.ts';
import { openSquashFile } from '../build/squash-file.ts';
import { withRegistry } from '../build/with-registry.ts';
import { factsJson } from '../image/compute.ts';
import { archiveImageKey, fileKey, registryImageKey } from '../image/identity.ts';
import { explainOpen } from '../oci/files.ts';
import { DEFAULT_LIMITS } from '../oci/limits.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import type { Registry } from '../registry/types.ts';
import { writeWhole } from '../store/blobs.ts';
import { recallReference, rememberReference } from '../store/documents.ts';
import { factsPath, imagePath } from '../store/layout.ts';
import { produceOnce } from '../store/once.ts';
import type { Store } from '../store/types.ts';
import { TsrunError } from '../util/errors.ts';
import type { Stat } from '../util/host.ts';
import { makeDirectories } from '../util/make-directories.ts';
import { realTiming } from '../util/timing.ts';
import { compressionOf, platformOf } from './build.ts';
import { interruptible } from './interrupt.ts';
import { createProgress, type Progress } from './progress.ts';
import { note } from './report.ts';
import { loadSettings, type Settings } from './settings.ts';

export type PrepareArguments = { readonly references: readonly string[]; readonly quiet: boolean; readonly env: Settings['env'] };

/** @throws TsrunError */
export const prepare = async ({ references, quiet, env }: PrepareArguments): Promise<void> => {
  const settings = loadSettings(env);
  const onWarning = (text: string): void => note(text, quiet);
  for (const text of references) {
    const reference = parseReference(text);
    const progress = createProgress(text, process.stderr, quiet);
    await interruptible((signal) =>
      withRegistry(settings, { onWarning, onProgress: progress.fetched, signal, instead: 'local' }, async (registry, store) => {
        if (reference.kind === 'path') await prepareFile(reference.path, { store: await store(), progress, signal });
        else await prepareImage(reference, registry, { store: await store(), progress, signal });
      }).finally(progress.end),
    );
  }
};

type Work = { readonly store: Store; readonly progress: Progress; readonly signal: AbortSignal };

const prepareFile = async (path: string, { store, progress, signal }: Work): Promise<void> => {
  const key = fileKey(await statOf(path));
  const to = factsPath(store.path, key);
  await produceOnce(store, 'facts', key, {
    timing: realTiming,
    signal,
    onWait: progress.waiting,
    isThere: () => exists(to),
    make: () => writeWhole(store, to, Buffer.from(factsJson(factsOfFile(openSquashFile(path)))), 0o600),
  });
};

type ImageReference = Exclude<Reference, { kind: 'path' }>;

const prepareImage = async (reference: ImageReference, registry: () => Promise<Registry>, work: Work): Promise<void> => {
  const { store, progress, signal } = work;
  const { architecture } = platformOf(undefined);
  await produceOnce(store, 'image', `${reference.text} ${architecture}`, {
    timing: realTiming,
    signal,
    onWait: progress.waiting,
    isThere: async () => {
      const key = await imageKey(reference, store, architecture);
      return key !== undefined && (await exists(imagePath(store.path, key)));
    },
    make: async (own) => {
      await convertInto(`${own}.sif`, reference, registry, work);
      const key = await imageKey(reference, store, architecture);
      if (key === undefined) throw new Error(`${reference.text} was converted and is not remembered`);
      const path = imagePath(store.path, key);
      await makeDirectories(dirname(path), 0o700);
      await rename(`${own}.sif`, path).catch(async (error: unknown) => {
        await rm(`${own}.sif`, { force: true });
        throw error;
      });
    },
  });
};

const convertInto = async (
  target: string,
  reference: ImageReference,
  registry: () => Promise<Registry>,
  { store, progress, signal }: Work,
): Promise<void> => {
  const scratch = dirname(target);
  const source = await openSource(reference, { platform: platformOf(undefined), limits: DEFAULT_LIMITS, scratch, registry });
  if (source.kind !== 'layers') throw new Error('a reference with a scheme has layers');
  try {
    await convertImage(source.image, target, {
      ...compressionOf(undefined),
      blockSize: 128 * 1024,
      threads: undefined,
      limits: DEFAULT_LIMITS,
      force: true,
      signal,
      onProgress: progress.converted,
    });
  } finally {
    await source.image.close();
  }
  // Where another store is read below this one, the tag may be remembered only there; the planner looks in one store at a time.
  const remembered = reference.kind === 'registry' ? await recallReference(store, reference) : undefined;
  if (reference.kind === 'registry' && reference.digest === undefined && remembered !== undefined && store.lowers.length > 0) {
    await rememberReference(store, reference, remembered);
  }
};

/** By the planner's rule (image/open.ts), so without a network: of what the reference points at, index or manifest. `undefined`: not known yet. */
const imageKey = async (reference: ImageReference, store: Store, arch: string): Promise<string | undefined> => {
  switch (reference.kind) {
    case 'registry': {
      const own = { ...store, lowers: [] };
      const digest = reference.digest ?? (await recallReference(own, reference))?.digest;
      return digest === undefined ? undefined : registryImageKey(digest, arch);
    }
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

const exists = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined)) !== undefined;

/** In the words of util/host.ts: numbers beyond 2^53 and nanoseconds as text. @throws TsrunError E_SOURCE */
const statOf = async (path: string): Promise<Stat> => {
  const found = await stat(path, { bigint: true }).catch((error: unknown) => {
    throw explainOpen(error, path);
  });
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
