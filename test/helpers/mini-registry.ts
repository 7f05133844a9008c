/**
 * A registry in a few lines, for what docker-registry never does: it serves given documents over the distribution API, and `hook` may answer instead.
 * `client` opens tsrun's client on a new store with time that does not pass.
 */
import type { ServerResponse } from 'node:http';
import { parsePlatform } from '../../src/oci/platform.ts';
import { parseRegistryReference } from '../../src/oci/reference.ts';
import { openRegistry } from '../../src/registry/client.ts';
import { type PartialRegistryConfig, registryConfig } from '../../src/registry/config.ts';
import type { Progress, Registry, ResolvedImage } from '../../src/registry/types.ts';
import type { Store } from '../../src/store/types.ts';
import { type FakeTiming, fakeTiming } from './fake-timing.ts';
import { type Asked, type LoopbackServer, serve } from './loopback-server.ts';
import type { Document, PushedImage, TestCertificate } from './registry.ts';
import { newStore, scratch } from './store.ts';

export type MiniRegistry = LoopbackServer & {
  /** Requests for this blob. */
  readonly askedFor: (blob: Document) => readonly Asked[];
};

export type MiniOptions = {
  readonly repository?: string;
  readonly image?: PushedImage;
  /** Further manifests by tag or digest. */
  readonly manifests?: Readonly<Record<string, Document>>;
  readonly blobs?: readonly Document[];
  /** True: it has answered (or will). */
  readonly hook?: (asked: Asked, response: ServerResponse) => boolean;
  readonly certificate?: TestCertificate;
};

export const miniRegistry = async ({
  repository = 'team/x',
  image,
  manifests = {},
  blobs = [],
  hook,
  certificate,
}: MiniOptions): Promise<MiniRegistry> => {
  const routes = new Map<string, Document>();
  const prefix = `/v2/${repository}`;
  const all = { ...(image === undefined ? {} : { '1': image.manifest }), ...manifests };
  for (const [reference, manifest] of Object.entries(all)) {
    routes.set(`${prefix}/manifests/${reference}`, manifest);
    routes.set(`${prefix}/manifests/${manifest.digest}`, manifest);
  }
  if (image !== undefined) routes.set(`${prefix}/manifests/${image.manifest.digest}`, image.manifest);
  for (const blob of [...(image === undefined ? [] : [image.config, ...image.layers]), ...blobs])
    routes.set(`${prefix}/blobs/${blob.digest}`, blob);

  const server = await serve((asked, response) => {
    if (hook?.(asked, response)) return;
    const found = routes.get(asked.path);
    if (asked.path === '/v2/') response.writeHead(200).end('{}');
    else if (asked.path.startsWith(`${prefix}/tags/list`)) response.end(JSON.stringify({ name: repository, tags: Object.keys(all) }));
    else if (found === undefined) response.writeHead(404).end(JSON.stringify({ errors: [{ code: 'NOT_FOUND', message: 'nothing here' }] }));
    else sendDocument(asked, response, found);
  }, certificate);
  return { ...server, askedFor: (blob) => server.asked.filter(({ path }) => path.endsWith(`/blobs/${blob.digest}`)) };
};

export const sendDocument = (asked: Asked, response: ServerResponse, { bytes, mediaType, digest }: Document): void => {
  const range = /^bytes=(\d+)-$/.exec(asked.headers.range ?? '');
  const start = range === null ? 0 : Number(range[1]);
  response.writeHead(range === null ? 200 : 206, {
    'content-type': mediaType,
    'content-length': String(bytes.length - start),
    'docker-content-digest': digest,
    ...(range === null ? {} : { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
  });
  response.end(asked.method === 'HEAD' ? undefined : bytes.subarray(start));
};

export type TestClient = {
  readonly registry: Registry;
  readonly store: Store;
  readonly timing: FakeTiming;
  readonly progress: readonly Progress[];
  readonly warnings: readonly string[];
  /** Resolves `NAME` for amd64. */
  readonly resolve: (name: string, platform?: string) => Promise<ResolvedImage>;
  /** All layers; rejects with the first failure. */
  readonly fetchAll: (image: ResolvedImage) => Promise<readonly string[]>;
};

export type ClientOptions = {
  readonly config?: PartialRegistryConfig;
  readonly env?: Readonly<Record<string, string>>;
  readonly store?: Store;
  readonly offline?: boolean;
  readonly signal?: AbortSignal;
  readonly timing?: FakeTiming;
};

export const openClient = async ({
  config = {},
  env = {},
  store: given,
  offline = false,
  signal,
  timing = fakeTiming(),
}: ClientOptions = {}): Promise<TestClient> => {
  const store = given ?? (await newStore());
  const progress: Progress[] = [];
  const warnings: string[] = [];
  const registry = openRegistry({
    config: registryConfig(config),
    env: { HOME: scratch('tsrun-home'), PATH: process.env['PATH'] ?? '', ...env },
    store,
    offline,
    signal,
    timing,
    onProgress: (step) => progress.push(step),
    onWarning: (message) => warnings.push(message),
  });
  return {
    registry,
    store,
    timing,
    progress,
    warnings,
    resolve: (name, platform = 'amd64') => registry.resolve(parseRegistryReference(name), { platform: parsePlatform(platform) }),
    fetchAll: (image) => Promise.all(registry.fetchLayers(image).values()),
  };
};
