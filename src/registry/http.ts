/**
 * One HTTP exchange: proxies, trust, redirects, a stall watch and bounds. It knows nothing of registries.
 * node:http rather than fetch: fetch has fixed timeouts, ignores proxies and extra authorities unless set for the whole process, and tunnels plain http.
 */
import * as http from 'node:http';
import * as https from 'node:https';
import { createSecureContext, type SecureContext } from 'node:tls';
import { failureOf, TransferFailure } from './failure.ts';
import { bareHost, type Environment, isLoopback, proxyFor } from './proxy.ts';
import { trustedAuthorities } from './trust.ts';
import type { RegistryConfig } from './types.ts';

export type HttpRequest = {
  readonly url: URL;
  readonly method?: 'GET' | 'HEAD' | 'POST' | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: string | undefined;
  readonly signal?: AbortSignal | undefined;
};

export type HttpResponse = {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** Where the answer came from, after redirects. */
  readonly url: URL;
  /** The body, read once; throws TransferFailure `broken` when the connection breaks or stalls. */
  readonly chunks: () => AsyncGenerator<Uint8Array, void, undefined>;
  /** For an answer whose body does not matter. */
  readonly discard: () => void;
};

export type Http = {
  /**
   * Any status is an answer. Follows redirects of GET and HEAD; authorization goes to the first origin only.
   * @throws TransferFailure; `signal.reason` when aborted.
   */
  readonly request: (request: HttpRequest) => Promise<HttpResponse>;
  /** May plain http be spoken with this host? */
  readonly allowsPlain: (url: URL) => boolean;
  readonly close: () => void;
};

export type HttpOptions = {
  readonly config: RegistryConfig;
  readonly env: Environment;
  readonly onWarning: (message: string) => void;
};

export const createHttp = (options: HttpOptions): Http => {
  const { config } = options;
  const agents = createAgents(options);
  const allowsPlain = (url: URL): boolean => isLoopback(bareHost(url)) || isListed(url, config);

  const request = async (first: HttpRequest): Promise<HttpResponse> => {
    let { url, headers = {} } = first;
    for (let hop = 0; ; hop++) {
      if (url.protocol === 'http:' && !allowsPlain(url)) throw new TransferFailure('not-tls', url, 'plain http is not allowed for it');
      const response = await exchange({ ...first, url, headers }, agents.for(url), config);
      const location = REDIRECTS.has(response.status) && first.method !== 'POST' ? response.headers.location : undefined;
      if (location === undefined) return response;
      response.discard();
      if (hop >= config.limits.redirects) throw new TransferFailure('senseless', url, `more than ${config.limits.redirects} redirects`);
      const target = redirectTarget(location, url);
      if (target.origin !== url.origin) headers = withoutSecrets(headers);
      url = target;
    }
  };
  return { request, allowsPlain, close: agents.close };
};

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

const redirectTarget = (location: string, from: URL): URL => {
  const target = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  if (target !== undefined && (target.protocol === 'https:' || target.protocol === 'http:')) return target;
  throw new TransferFailure('senseless', from, `it redirects to ${JSON.stringify(location.slice(0, 100))}`);
};

const withoutSecrets = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).filter(([name]) => !['authorization', 'cookie'].includes(name.toLowerCase())));

/** `*`, `HOST` (any port) or `HOST:PORT`. Mirrors written with http:// were asked for as well. */
const isListed = (url: URL, config: RegistryConfig): boolean =>
  config.insecure.some((entry) => entry === '*' || entry.toLowerCase() === url.hostname || entry.toLowerCase() === url.host) ||
  Object.values(config.mirrors)
    .flat()
    .some((mirror) => mirror.toLowerCase().startsWith('http://') && URL.canParse(mirror) && new URL(mirror).host === url.host);

// --- one exchange

const exchange = (request: HttpRequest, { agent, proxy }: Route, config: RegistryConfig): Promise<HttpResponse> => {
  const { url, method = 'GET', body, signal } = request;
  const { connect, stall } = config.timeouts;
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const outgoing = (url.protocol === 'https:' ? https : http).request(url, {
      method,
      agent,
      ...(signal === undefined ? {} : { signal }),
      headers: {
        'user-agent': 'tsrun',
        'accept-encoding': 'identity',
        ...request.headers,
        ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
      },
    });
    const timer = watch(
      () => outgoing.destroy(new TransferFailure('unreachable', url, `no connection within ${connect / 1000} s`)),
      connect,
    );
    const connected = (): void => timer.set(() => outgoing.destroy(stalled(url, stall)), stall);
    outgoing.on('socket', (socket) => {
      // A kept connection, or a tunnel, is there already.
      if (socket.connecting) socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', connected);
      else connected();
    });
    outgoing.on('response', (incoming) => {
      timer.stop();
      resolve({
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        url,
        chunks: () => readChunks(incoming, url, config, signal),
        discard: () => discard(incoming),
      });
    });
    outgoing.on('error', (error) => {
      timer.stop();
      reject(signal?.aborted ? signal.reason : blameProxy(failureOf(error, url), proxy));
    });
    outgoing.end(body);
  });
};

/**
 * The stall watch counts only time spent waiting for the peer, and wants `stallBytes` in each `stall` of it: a byte now and then is no progress.
 */
async function* readChunks(
  incoming: http.IncomingMessage,
  url: URL,
  config: RegistryConfig,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { stall } = config.timeouts;
  let left = stall;
  let received = 0;
  const timer = watch(() => incoming.destroy(stalled(url, stall)), stall);
  const iterator: AsyncIterator<Uint8Array> = incoming[Symbol.asyncIterator]();
  try {
    for (;;) {
      timer.set(() => incoming.destroy(stalled(url, stall)), left);
      const before = performance.now();
      const { done, value } = await iterator.next();
      timer.stop();
      if (done) return;
      left -= performance.now() - before;
      received += value.length;
      if (received >= config.limits.stallBytes) {
        left = stall;
        received = 0;
      }
      yield value;
    }
  } catch (error) {
    throw signal?.aborted ? signal.reason : failureOf(error, url);
  } finally {
    timer.stop();
    if (!incoming.readableEnded) incoming.destroy();
  }
}

const stalled = (url: URL, milliseconds: number): TransferFailure =>
  new TransferFailure('broken', url, `no data for ${milliseconds / 1000} s`);

/** A short rest is read, so that the connection can be used again; a long one is cheaper to cut. */
const discard = (incoming: http.IncomingMessage): void => {
  incoming.on('error', () => undefined);
  if (Number(incoming.headers['content-length'] ?? 0) > 64 * 1024) incoming.destroy();
  else incoming.resume();
};

const watch = (action: () => void, milliseconds: number) => {
  let timer = setTimeout(action, milliseconds);
  return {
    set: (next: () => void, wait: number): void => {
      clearTimeout(timer);
      timer = setTimeout(next, Math.max(wait, 1));
    },
    stop: (): void => clearTimeout(timer),
  };
};

/** Behind a proxy, whoever could not be reached is the proxy. Its user and password are not shown. */
const blameProxy = (failure: TransferFailure, proxy: URL | undefined): TransferFailure =>
  proxy === undefined || failure.kind !== 'unreachable'
    ? failure
    : new TransferFailure('proxy', failure.url, `the proxy ${proxy.host} cannot be reached: ${failure.why}`, { cause: failure });

// --- connections

type Route = { readonly agent: http.Agent; readonly proxy: URL | undefined };

const createAgents = ({ config, env, onWarning }: HttpOptions) => {
  const agents = new Map<string, http.Agent>();
  let context: SecureContext | undefined;
  const make = (protocol: string, proxy: URL | undefined): http.Agent => {
    const shared = {
      keepAlive: true,
      maxSockets: config.limits.parallel + 2,
      ...(proxy === undefined ? {} : { proxyEnv: proxyEnvironment(proxy) }),
    };
    if (protocol === 'http:') return new http.Agent(shared);
    // Parsed once, not for every connection: there are some 150 authorities.
    context ??= createSecureContext({ ca: trustedAuthorities(env, config.caFile, onWarning) });
    return new https.Agent({ ...shared, secureContext: context });
  };
  return {
    for: (url: URL): Route => {
      const proxy = proxyFor(url, env);
      const key = `${url.protocol} ${proxy?.href ?? ''}`;
      const agent = agents.get(key) ?? make(url.protocol, proxy);
      agents.set(key, agent);
      return { agent, proxy };
    },
    close: (): void => {
      for (const agent of agents.values()) agent.destroy();
    },
  };
};

/** NO_PROXY has been looked at already: Node's own reading of it knows no CIDR. */
const proxyEnvironment = (proxy: URL): NodeJS.ProcessEnv => ({ HTTP_PROXY: proxy.href, HTTPS_PROXY: proxy.href });

// --- small bodies

/** @throws TransferFailure `senseless` beyond `limit` bytes. */
export const readBody = async (response: HttpResponse, limit: number): Promise<Uint8Array> => {
  const tooLong = (): TransferFailure => new TransferFailure('senseless', response.url, `its answer is longer than ${limit} bytes`);
  if (Number(response.headers['content-length'] ?? 0) > limit) {
    response.discard();
    throw tooLong();
  }
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.chunks()) {
    length += chunk.length;
    if (length > limit) throw tooLong();
    parts.push(chunk);
  }
  return Buffer.concat(parts, length);
};
