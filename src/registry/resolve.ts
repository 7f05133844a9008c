/**
 * Reference → index → platform → manifest → config. Each document comes from the store when it is there, is verified, and is kept.
 */
import type { Descriptor, Digest, Platform } from '../oci/descriptor.ts';
import { isDigest } from '../oci/descriptor.ts';
import { type ConfigFacts, type Index, type Manifest, parseConfigFacts, parseManifest, requireImage } from '../oci/manifest.ts';
import { choosePlatform, formatPlatform, platformFit, refusePlatform } from '../oci/platform.ts';
import { formatRegistryReference, type RegistryReference } from '../oci/reference.ts';
import { putDocument, readDocument } from '../store/blobs.ts';
import { recallReference, rememberReference } from '../store/documents.ts';
import type { RememberedReference, Store } from '../store/types.ts';
import { TsrunError } from '../util/errors.ts';
import { getManifest, headManifest, type RegistryContext } from './documents.ts';
import { downloadBlob } from './download.ts';
import type { Endpoint } from './endpoint.ts';
import { TransferFailure, toError } from './failure.ts';
import type { RawDocument, ResolvedImage, ResolveOptions } from './types.ts';

export type ResolveContext = RegistryContext & {
  readonly store: Store;
  readonly endpoints: readonly Endpoint[];
  readonly reference: RegistryReference;
  readonly onWarning: (message: string) => void;
  readonly offline: boolean;
} & ResolveOptions;

/** How deep indexes may lie in indexes, and how many documents are looked at before giving up. */
const MAX_DEPTH = 4;
const MAX_DOCUMENTS = 16;

export const resolveImage = async (context: ResolveContext): Promise<ResolvedImage> => {
  const { reference, platform } = context;
  const name = formatRegistryReference(reference);
  const asked = { network: false };
  const tracked: ResolveContext = {
    ...context,
    send: (request) => {
      asked.network = true;
      return context.send(request);
    },
  };
  try {
    const top = await topDocument(tracked, name);
    const { raw, manifest } = await selectManifest(tracked, top, name);
    requireImage(manifest, name);
    requireBounds(manifest, context, name);
    const config = await fetchConfig(tracked, manifest, name);
    const facts = parseConfigFacts(config.bytes, `the config of ${name}`);
    requireMatch(facts, manifest, platform, name);
    return {
      reference,
      pinned: formatRegistryReference({ ...reference, digest: top.digest }),
      top,
      manifest: raw,
      config,
      layers: manifest.layers,
      platform: {
        os: 'linux',
        architecture: facts.architecture ?? platform.architecture,
        ...(facts.variant === undefined ? {} : { variant: facts.variant }),
      },
      fromStore: !asked.network,
    };
  } catch (error) {
    throw toError(error, `cannot pull ${name}`);
  }
};

// --- the document the reference points at

const topDocument = async (context: ResolveContext, name: string): Promise<RawDocument> => {
  const { reference, store } = context;
  if (reference.digest !== undefined) return documentByDigest(context, reference.digest, '', name);
  const remembered = await recallReference(store, reference);
  if (context.offline) return fromMemory(context, remembered, name);
  try {
    const document = await onEndpoints(context, (endpoint) => documentByTag(context, endpoint, reference.tag ?? 'latest', remembered));
    await remember(context, document);
    return document;
  } catch (error) {
    // No network on this node: what the store remembers is the best answer there is, if it is said.
    const isAway = error instanceof TransferFailure && ['unreachable', 'broken', 'proxy'].includes(error.kind);
    if (!isAway || remembered === undefined || context.signal?.aborted) throw error;
    const document = await storedDocument(context, remembered.digest, remembered.mediaType);
    if (document === undefined) throw error;
    context.onWarning(
      `${error.url.host} cannot be reached (${error.why}); using ${name} as it was on ${remembered.seen.slice(0, 10)} (${remembered.digest})`,
    );
    return document;
  }
};

const fromMemory = async (context: ResolveContext, remembered: RememberedReference | undefined, name: string): Promise<RawDocument> =>
  (remembered === undefined ? undefined : await storedDocument(context, remembered.digest, remembered.mediaType)) ??
  offlineMiss(context, name);

const offlineMiss = (context: ResolveContext, name: string): never => {
  throw new TsrunError({
    code: 'E_OFFLINE',
    what: `cannot use ${name} offline`,
    why: `the store ${context.store.path} does not have it`,
    hint: `fetch it where there is a network: tsrun pull ${name}`,
  });
};

const documentByTag = async (
  context: ResolveContext,
  endpoint: Endpoint,
  tag: string,
  remembered: RememberedReference | undefined,
): Promise<RawDocument> => {
  const digest = await headManifest(context, endpoint, tag);
  const mediaType = remembered?.digest === digest ? (remembered?.mediaType ?? '') : '';
  const stored = digest === undefined ? undefined : await storedDocument(context, digest, mediaType);
  if (stored !== undefined) return stored;
  const document = await getManifest(context, endpoint, tag);
  await putDocument(context.store, document.digest, document.bytes);
  return document;
};

const documentByDigest = async (context: ResolveContext, digest: Digest, mediaType: string, name: string): Promise<RawDocument> => {
  const stored = await storedDocument(context, digest, mediaType);
  if (stored !== undefined) return stored;
  if (context.offline) return offlineMiss(context, name);
  const document = await onEndpoints(context, (endpoint) => getManifest(context, endpoint, digest));
  await putDocument(context.store, digest, document.bytes);
  return document;
};

const storedDocument = async (context: ResolveContext, digest: Digest, mediaType: string): Promise<RawDocument | undefined> => {
  const bytes = await readDocument(context.store, digest, context.config.limits.manifestBytes);
  return bytes === undefined ? undefined : { bytes, digest, mediaType };
};

/** Mirrors in order, then the registry; a mirror's failure is only a warning. */
const onEndpoints = async <T>(context: ResolveContext, work: (endpoint: Endpoint) => Promise<T>): Promise<T> => {
  for (const endpoint of context.endpoints.slice(0, -1)) {
    try {
      return await work(endpoint);
    } catch (error) {
      if (context.signal?.aborted || !(error instanceof TransferFailure || error instanceof TsrunError)) throw error;
      // A mirror that only keeps some images is no news.
      const missing = error instanceof TsrunError && error.code === 'E_IMAGE_NOT_FOUND';
      if (!missing)
        context.onWarning(
          `mirror ${endpoint.registry} failed (${error instanceof TransferFailure ? error.why : error.message}); trying the next`,
        );
    }
  }
  const registry = context.endpoints.at(-1);
  if (registry === undefined) throw new Error('a reference has at least its registry as endpoint');
  return work(registry);
};

const remember = async (context: ResolveContext, { digest, mediaType, bytes }: RawDocument): Promise<void> => {
  const seen = new Date(context.timing.now()).toISOString();
  await rememberReference(context.store, context.reference, { digest, mediaType, size: bytes.length, seen });
};

// --- from the index to the manifest for this platform

type Selected = { readonly raw: RawDocument; readonly manifest: Manifest };

const selectManifest = async (context: ResolveContext, top: RawDocument, name: string): Promise<Selected> => {
  const budget = { documents: MAX_DOCUMENTS };
  const offered = new Set<string>();
  const found = await select(context, top, name, 0, budget, offered);
  return found ?? refusePlatform(name, context.platform, [...offered]);
};

/** Depth first: what is labelled for the platform, then what has no label (nested indexes, whose entries have). */
const select = async (
  context: ResolveContext,
  raw: RawDocument,
  name: string,
  depth: number,
  budget: { documents: number },
  offered: Set<string>,
): Promise<Selected | undefined> => {
  if (depth > MAX_DEPTH || --budget.documents < 0) throw tooDeep(name);
  const document: Index | Manifest = parseManifest(raw.bytes, raw.mediaType, name);
  if (document.kind === 'manifest') return { raw, manifest: document };
  const choice = choosePlatform(document.manifests, context.platform);
  for (const platform of choice.offered) offered.add(platform);
  const follow = async (entry: Descriptor): Promise<Selected | undefined> =>
    select(context, await entryDocument(context, entry, name), name, depth + 1, budget, offered);

  const [best] = choice.fitting;
  if (best !== undefined) return follow(best);
  for (const entry of choice.unlabelled) {
    const found = await follow(entry);
    if (found !== undefined && (await runsHere(context, found.manifest, name, offered))) return found;
  }
  return undefined;
};

const entryDocument = async (context: ResolveContext, entry: Descriptor, name: string): Promise<RawDocument> => {
  if (entry.size > context.config.limits.manifestBytes) throw badDocument(name, `manifest ${entry.digest} is ${entry.size} bytes long`);
  const raw = await documentByDigest(context, entry.digest, entry.mediaType, name);
  if (raw.bytes.length !== entry.size)
    throw badDocument(name, `manifest ${entry.digest} has ${raw.bytes.length} bytes, the index says ${entry.size}`);
  return { ...raw, mediaType: entry.mediaType };
};

/** A lone manifest without a label: its config says for what it is. */
const runsHere = async (context: ResolveContext, manifest: Manifest, name: string, offered: Set<string>): Promise<boolean> => {
  requireImage(manifest, name);
  const facts = parseConfigFacts((await fetchConfig(context, manifest, name)).bytes, `the config of ${name}`);
  offered.add(formatPlatform(configPlatform(facts, context.platform)));
  return platformFit(configPlatform(facts, context.platform), context.platform) !== undefined;
};

const tooDeep = (name: string): TsrunError =>
  badDocument(name, `its indexes lie more than ${MAX_DEPTH} deep or are more than ${MAX_DOCUMENTS}`);

const badDocument = (name: string, why: string): TsrunError => new TsrunError({ code: 'E_MANIFEST', what: `cannot use ${name}`, why });

// --- the config

const fetchConfig = async (context: ResolveContext, { config }: Manifest, name: string): Promise<RawDocument> => {
  const limit = context.config.limits.configBytes;
  if (config.size > limit) throw badDocument(name, `its config is ${config.size} bytes long, more than ${limit}`);
  const stored = await readDocument(context.store, config.digest, limit);
  if (stored === undefined) {
    if (context.offline) return offlineMiss(context, name);
    await downloadBlob(context, context.store, context.endpoints, config);
  }
  const bytes = stored ?? (await readDocument(context.store, config.digest, limit));
  if (bytes === undefined) throw badDocument(name, `its config ${config.digest} disappeared from the store`);
  return { bytes, digest: config.digest, mediaType: config.mediaType };
};

const requireBounds = ({ layers }: Manifest, { config: { limits } }: ResolveContext, name: string): void => {
  if (layers.length > limits.layers) throw badDocument(name, `it has ${layers.length} layers, more than ${limits.layers}`);
  const total = layers.reduce((sum, layer) => sum + layer.size, 0);
  if (total > limits.imageBytes)
    throw badDocument(name, `its layers have ${total} bytes in all, more than limits.imageBytes of the config (${limits.imageBytes})`);
};

/** The config has the last word on what the image is for. */
const requireMatch = (facts: ConfigFacts, manifest: Manifest, wanted: Platform, name: string): void => {
  const own = configPlatform(facts, wanted);
  const exact = facts.architecture === undefined || platformFit(own, wanted) !== undefined;
  // The index chose by variant; a config may leave its variant out or spell it otherwise. Architecture and system must agree.
  if (!exact && (own.os !== wanted.os || own.architecture !== wanted.architecture)) refusePlatform(name, wanted, [formatPlatform(own)]);
  if (facts.diffIds.length !== manifest.layers.length || !facts.diffIds.every(isDigest)) {
    throw badDocument(name, `its config lists ${facts.diffIds.length} layers, its manifest ${manifest.layers.length}`);
  }
};

const configPlatform = (facts: ConfigFacts, wanted: Platform): Platform => ({
  os: facts.os ?? wanted.os,
  architecture: facts.architecture ?? wanted.architecture,
  ...(facts.variant === undefined ? {} : { variant: facts.variant }),
});
