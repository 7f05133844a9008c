/**
 * Where a repository can be had: the mirrors of the config in order, then the registry itself; and whether https or plain http is spoken there.
 */
import { canonicalRegistry, DOCKER_HUB, type RegistryReference } from '../oci/reference.ts';
import { TsrunError } from '../util/errors.ts';
import { TransferFailure } from './failure.ts';
import type { Http } from './http.ts';
import type { RegistryConfig } from './types.ts';

export type Endpoint = {
  /** What credentials are looked up for: `docker.io`, `HOST[:PORT]`. */
  readonly registry: string;
  readonly repository: string;
  readonly isMirror: boolean;
  /** `https://HOST[:PORT]` first; for hosts that may speak plain http that as well. */
  readonly origins: readonly [string, ...string[]];
};

/** @throws TsrunError E_CONFIG for a mirror that is no host. */
export const endpointsFor = (
  { registry, repository }: RegistryReference,
  config: RegistryConfig,
  http: Pick<Http, 'allowsPlain'>,
): Endpoint[] => [
  ...(config.mirrors[registry] ?? []).map((mirror) => mirrorEndpoint(mirror, repository, http)),
  registryEndpoint(registry, repository, http),
];

/** The registry itself. */
export const registryEndpoint = (registry: string, repository: string, http: Pick<Http, 'allowsPlain'>): Endpoint => ({
  registry,
  repository,
  isMirror: false,
  origins: originsOf(registry === DOCKER_HUB ? 'registry-1.docker.io' : registry, http),
});

const mirrorEndpoint = (mirror: string, repository: string, http: Pick<Http, 'allowsPlain'>): Endpoint => {
  const scheme = /^https?:\/\//i.exec(mirror)?.[0].toLowerCase();
  const text = `${scheme ?? 'https://'}${mirror.slice(scheme?.length ?? 0)}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.username !== '' || url.search !== '' || url.hash !== '') {
    throw new TsrunError({
      code: 'E_CONFIG',
      what: `cannot use mirror ${JSON.stringify(mirror.slice(0, 200))}`,
      why: 'it is not HOST[:PORT][/PREFIX]',
      hint: 'correct mirrors in the config',
    });
  }
  const prefix = url.pathname.replace(/^\/+|\/+$/g, '');
  return {
    registry: canonicalRegistry(url.host),
    repository: prefix === '' ? repository : `${prefix}/${repository}`,
    isMirror: true,
    origins: scheme === undefined ? originsOf(url.host, http) : [url.origin],
  };
};

const originsOf = (host: string, http: Pick<Http, 'allowsPlain'>): [string, ...string[]] => {
  const plain = new URL(`http://${host}`);
  return [new URL(`https://${host}`).origin, ...(http.allowsPlain(plain) ? [plain.origin] : [])];
};

/** Finds and remembers the origin that answers; the https one unless nothing there speaks TLS. */
export const createOriginFinder = (http: Http, signal?: AbortSignal): ((endpoint: Endpoint) => Promise<string>) => {
  const known = new Map<string, Promise<string>>();
  const probe = async (origins: readonly [string, ...string[]]): Promise<string> => {
    const [first, second] = origins;
    if (second === undefined) return first;
    try {
      (await http.request({ url: new URL('/v2/', first), signal })).discard();
      return first;
    } catch (error) {
      // A certificate that does not hold is no reason to go on without any.
      if (!(error instanceof TransferFailure) || error.kind === 'untrusted' || error.kind === 'proxy') throw error;
      return second;
    }
  };
  return ({ origins }) => {
    const [key] = origins;
    const found = known.get(key) ?? probe(origins);
    known.set(key, found);
    found.catch(() => known.delete(key));
    return found;
  };
};
