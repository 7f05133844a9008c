/** The registry client: wires the parts together and runs the downloads of one command. */
import { setMaxListeners } from 'node:events';
import type { Descriptor, Digest } from '../oci/descriptor.ts';
import { formatRegistryReference, type RegistryReference } from '../oci/reference.ts';
import { findBlob } from '../store/blobs.ts';
import { requireSpace } from '../store/open.ts';
import type { Store } from '../store/types.ts';
import { TsrunError } from '../util/errors.ts';
import { realTiming, type Timing } from '../util/timing.ts';
import { createSender, type SendToRegistry } from './auth.ts';
import type { Credentials } from './credential.ts';
import { findCredentials } from './credentials.ts';
import type { RegistryContext } from './documents.ts';
import { downloadBlob } from './download.ts';
import { createOriginFinder, type Endpoint, endpointsFor } from './endpoint.ts';
import { toError } from './failure.ts';
import { createHttp } from './http.ts';
import type { Environment } from './proxy.ts';
import { resolveImage } from './resolve.ts';
import type { Progress, Registry, RegistryConfig, ResolvedImage } from './types.ts';

export type OpenRegistryOptions = {
  readonly config: RegistryConfig;
  readonly store: Store;
  /** Connect to nothing: what the store does not have is an error (E_OFFLINE). */
  readonly offline?: boolean | undefined;
  /** Proxies, certificates, credentials. */
  readonly env: Environment;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly onWarning?: ((message: string) => void) | undefined;
  /** Ends everything under way; what was downloaded stays. */
  readonly signal?: AbortSignal | undefined;
  readonly timing?: Timing | undefined;
};

/** Nothing is connected before the first request. */
export const openRegistry = (options: OpenRegistryOptions): Registry => {
  const { config, store, offline = false, onProgress = () => undefined, onWarning = () => undefined, timing = realTiming } = options;
  const closing = new AbortController();
  const signal = options.signal === undefined ? closing.signal : AbortSignal.any([options.signal, closing.signal]);
  // Every request listens to it; there may be more than the ten that Node takes for a leak.
  setMaxListeners(0, signal);
  const http = createHttp({ config, env: options.env, onWarning });
  const send = createSender({
    http,
    timing,
    signal,
    originOf: createOriginFinder(http, signal),
    credentialsFor: rememberCredentials(options, onWarning),
  });
  const context: RegistryContext = { config, timing, signal, onProgress, send: offline ? refuseOffline : send };
  const running = new Set<Promise<unknown>>();

  const fetchBlob = async (image: ResolvedImage, blob: Descriptor, within: RegistryContext = context): Promise<string> => {
    const work = downloadBlob(within, store, endpointsFor(image.reference, config, http), blob);
    const done = work.catch(() => undefined).finally(() => running.delete(done));
    running.add(done);
    try {
      return await work;
    } catch (error) {
      throw toError(error, `cannot fetch ${blob.digest} of ${formatRegistryReference(image.reference)}`);
    }
  };

  return {
    resolve: (reference: RegistryReference, { platform }) =>
      resolveImage({ ...context, store, endpoints: endpointsFor(reference, config, http), reference, platform, offline, onWarning }),
    fetchBlob: (image, blob) => fetchBlob(image, blob),
    fetchLayers: (image, layers = image.layers) => {
      const group = new AbortController();
      const within = { ...context, signal: AbortSignal.any([signal, group.signal]) };
      setMaxListeners(0, within.signal);
      return fetchAll(unique(layers), {
        ready: async (missing) => {
          await requireSpace(
            store,
            missing.reduce((sum, { size }) => sum + size, 0),
            formatRegistryReference(image.reference),
          );
          for (const { digest, size } of missing) onProgress({ kind: 'download', digest, bytes: 0, total: size });
        },
        isThere: async (layer) => (await findBlob(store, layer.digest, layer.size)) !== undefined,
        fetch: (layer) => fetchBlob(image, layer, within),
        giveUp: (reason) => group.abort(reason),
        parallel: config.limits.parallel,
        random: timing.random,
      });
    },
    close: async () => {
      closing.abort(new Error('the registry client was closed'));
      await Promise.all(running);
      http.close();
    },
  };
};

const refuseOffline: SendToRegistry = async ({ endpoint, path }) => {
  throw new TsrunError({
    code: 'E_OFFLINE',
    what: `cannot fetch ${path} from ${endpoint.registry}`,
    why: 'tsrun was told to stay offline, and the store does not have it',
    hint: 'pull the image where there is a network',
  });
};

/** Looked up once for each repository: a helper may ask the user something. */
const rememberCredentials = ({ env, config }: OpenRegistryOptions, onWarning: (message: string) => void) => {
  const known = new Map<string, Promise<Credentials | undefined>>();
  return ({ registry, repository, isMirror }: Endpoint): Promise<Credentials | undefined> => {
    const key = `${registry}/${repository}`;
    const found =
      known.get(key) ??
      findCredentials(registry, repository, { env, helperTimeout: config.timeouts.helper, onWarning, useEnvironment: !isMirror });
    known.set(key, found);
    return found;
  };
};

// --- many layers

type FetchAll = {
  /** Called once with what the store lacks; throws when there is no room. */
  readonly ready: (missing: readonly Descriptor[]) => Promise<void>;
  readonly isThere: (layer: Descriptor) => Promise<boolean>;
  readonly fetch: (layer: Descriptor) => Promise<string>;
  readonly giveUp: (reason: unknown) => void;
  readonly parallel: number;
  readonly random: () => number;
};

const fetchAll = (layers: readonly Descriptor[], work: FetchAll): ReadonlyMap<Digest, Promise<string>> => {
  const results = new Map(layers.map((layer) => [layer.digest, Promise.withResolvers<string>()]));
  const run = async (): Promise<void> => {
    const there = await Promise.all(layers.map(work.isThere));
    await work.ready(layers.filter((_, index) => !there[index]));
    const queue = shuffle(layers, work.random);
    const worker = async (): Promise<void> => {
      for (let layer = queue.pop(); layer !== undefined; layer = queue.pop()) results.get(layer.digest)?.resolve(await work.fetch(layer));
    };
    await Promise.all(Array.from({ length: work.parallel }, worker));
  };
  run().catch((reason: unknown) => {
    work.giveUp(reason);
    for (const { reject } of results.values()) reject(reason);
  });
  return new Map(
    [...results].map(([digest, { promise }]) => {
      // The caller waits for them one after the other; one nobody waits for any more must not end the process.
      promise.catch(() => undefined);
      return [digest, promise];
    }),
  );
};

const unique = (layers: readonly Descriptor[]): Descriptor[] => [...new Map(layers.map((layer) => [layer.digest, layer])).values()];

/** Fisher and Yates. */
const shuffle = <T>(items: readonly T[], random: () => number): T[] => {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    const [a, b] = [result[last], result[other]];
    if (a !== undefined && b !== undefined) [result[last], result[other]] = [b, a];
  }
  return result;
};
