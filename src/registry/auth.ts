/**
 * Requests to a registry with the right authorization: none, basic, or a bearer token from the token service that a 401 names
 * (distribution project, spec/auth/{token,oauth,scope}). Tokens are kept per registry, repository and scope, and fetched once for many waiting.
 */
import { TsrunError } from '../util/errors.ts';
import type { Timing } from '../util/timing.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { Credentials } from './credential.ts';
import type { Endpoint } from './endpoint.ts';
import { TransferFailure } from './failure.ts';
import { type Http, type HttpRequest, type HttpResponse, readBody } from './http.ts';
import { refuseBusy } from './retry.ts';

export type RegistryRequest = {
  readonly endpoint: Endpoint;
  /** After `/v2/`: `library/alpine/manifests/3`. */
  readonly path: string;
  readonly method?: 'GET' | 'HEAD' | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
};

export type AuthOptions = {
  readonly http: Http;
  readonly timing: Timing;
  readonly signal?: AbortSignal | undefined;
  readonly originOf: (endpoint: Endpoint) => Promise<string>;
  readonly credentialsFor: (endpoint: Endpoint) => Promise<Credentials | undefined>;
};

/**
 * One request, asked again with authorization when the registry wants it.
 * @returns any status but 401, 403, 408, 429, 5xx
 * @throws TsrunError E_REGISTRY_AUTH; TransferFailure
 */
export type SendToRegistry = (request: RegistryRequest) => Promise<HttpResponse>;

type Authorization = { readonly header: string; readonly expires: number };

export const createSender = (options: AuthOptions): SendToRegistry => {
  const { http, timing, signal, originOf } = options;
  /** One authorization for each repository on an endpoint: a promise, so that parallel requests wait for the same token. */
  const authorizations = new Map<string, Promise<Authorization>>();

  return async ({ endpoint, path, method, headers }) => {
    const url = new URL(`/v2/${path}`, await originOf(endpoint));
    const key = `${url.origin} ${endpoint.repository}`;
    const ask = async (authorization: Authorization | undefined): Promise<HttpResponse> =>
      http.request({
        url,
        method,
        signal,
        headers: { ...headers, ...(authorization === undefined ? {} : { authorization: authorization.header }) },
      });

    const known = await usable(authorizations, key, timing.now());
    let response = await ask(known);
    if (response.status === 401 && response.url.origin === url.origin) {
      response.discard();
      if (authorizations.get(key) === undefined || (await authorizations.get(key)) === known) {
        const fresh = authorize(parseChallenges(response.headers['www-authenticate']), endpoint, url, options);
        authorizations.set(key, fresh);
        fresh.catch(() => authorizations.delete(key));
      }
      response = await ask(await authorizations.get(key));
    }
    await refuseForbidden(response, url, endpoint, options);
    if (response.status === 429) refuseBusy(response, timing, await errorDetail(response));
    refuseBusy(response, timing);
    return response;
  };
};

const usable = async (
  authorizations: Map<string, Promise<Authorization>>,
  key: string,
  now: number,
): Promise<Authorization | undefined> => {
  const kept = authorizations.get(key);
  const found = await kept;
  if (found === undefined || found.expires > now) return found;
  if (authorizations.get(key) === kept) authorizations.delete(key);
  return undefined;
};

const authorize = async (challenges: readonly Challenge[], endpoint: Endpoint, url: URL, options: AuthOptions): Promise<Authorization> => {
  const credentials = await options.credentialsFor(endpoint);
  if (credentials?.kind === 'bearer') return { header: `Bearer ${credentials.token}`, expires: Number.POSITIVE_INFINITY };
  for (const challenge of challenges) {
    if (challenge.scheme === 'bearer') return requestToken(challenge, credentials, endpoint, options);
    if (credentials?.kind === 'password')
      return { header: basic(credentials.username, credentials.password), expires: Number.POSITIVE_INFINITY };
  }
  throw denied(
    endpoint,
    url,
    credentials,
    challenges.length === 0 ? 'it asks for a login in a way tsrun does not know' : 'it asks for a login',
  );
};

const basic = (username: string, password: string): string => `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;

// --- token service

type BearerChallenge = Extract<Challenge, { scheme: 'bearer' }>;

const TOKEN_LIMIT = 1024 * 1024;
/** The specification's default, and what is taken off so that a token does not run out on its way. Seconds. */
const DEFAULT_LIFE = 60;
const MARGIN = 10;

const requestToken = async (
  challenge: BearerChallenge,
  credentials: Credentials | undefined,
  endpoint: Endpoint,
  options: AuthOptions,
): Promise<Authorization> => {
  const { http, timing, signal } = options;
  const realm = URL.canParse(challenge.realm) ? new URL(challenge.realm) : undefined;
  if (realm === undefined || (realm.protocol !== 'https:' && !(realm.protocol === 'http:' && http.allowsPlain(realm)))) {
    throw denied(
      endpoint,
      undefined,
      credentials,
      `its token service ${JSON.stringify(challenge.realm.slice(0, 200))} is not an https address`,
    );
  }
  const response = await http.request({ ...tokenRequest(realm, challenge, credentials, endpoint), signal });
  refuseBusy(response, timing);
  if (response.status !== 200) {
    const detail = await errorDetail(response);
    throw denied(endpoint, realm, credentials, `the token service says ${response.status}${detail === '' ? '' : `: ${detail}`}`);
  }
  return parseToken(await readBody(response, TOKEN_LIMIT), realm, timing.now());
};

const tokenRequest = (realm: URL, challenge: BearerChallenge, credentials: Credentials | undefined, endpoint: Endpoint): HttpRequest => {
  const fields = new URLSearchParams({
    ...(challenge.service === undefined ? {} : { service: challenge.service }),
    ...scopeOf(challenge, endpoint),
  });
  if (credentials?.kind === 'identity') {
    fields.set('grant_type', 'refresh_token');
    fields.set('client_id', 'tsrun');
    fields.set('refresh_token', credentials.token);
    return { url: realm, method: 'POST', body: fields.toString(), headers: { 'content-type': 'application/x-www-form-urlencoded' } };
  }
  const url = new URL(realm);
  for (const [name, value] of fields) {
    // Several scopes come as one string with spaces and go as one field each.
    for (const part of name === 'scope' ? value.split(' ') : [value]) url.searchParams.append(name, part);
  }
  return { url, headers: credentials?.kind === 'password' ? { authorization: basic(credentials.username, credentials.password) } : {} };
};

/** A registry that names no scope means the one of the request; a login has none. */
const scopeOf = (challenge: BearerChallenge, { repository }: Endpoint): { scope?: string } => {
  if (challenge.scope !== undefined) return { scope: challenge.scope };
  return repository === '' ? {} : { scope: `repository:${repository}:pull` };
};

const parseToken = (bytes: Uint8Array, realm: URL, now: number): Authorization => {
  const answer = parseJson(bytes);
  const token = answer['token'] ?? answer['access_token'];
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token))
    throw new TransferFailure('senseless', realm, 'the token service sent no token');
  const life = answer['expires_in'];
  const seconds = typeof life === 'number' && life > 0 ? life : DEFAULT_LIFE;
  return { header: `Bearer ${token}`, expires: now + Math.max(seconds - MARGIN, seconds / 2) * 1000 };
};

// --- refusals

const refuseForbidden = async (response: HttpResponse, asked: URL, endpoint: Endpoint, options: AuthOptions): Promise<void> => {
  if (response.status !== 401 && response.status !== 403) return;
  const detail = await errorDetail(response);
  const why = `status ${response.status}${detail === '' ? '' : `: ${detail}`}`;
  // Not the registry, but the storage it sent us to: a signed address that has run out. The registry makes a new one.
  if (response.url.origin !== asked.origin) throw new TransferFailure('broken', response.url, why);
  throw denied(endpoint, asked, await options.credentialsFor(endpoint), why);
};

const denied = (endpoint: Endpoint, url: URL | undefined, credentials: Credentials | undefined, why: string): TsrunError =>
  new TsrunError({
    code: 'E_REGISTRY_AUTH',
    what: endpoint.repository === '' ? `cannot log in to ${endpoint.registry}` : `cannot read ${endpoint.registry}/${endpoint.repository}`,
    why: `${url === undefined ? '' : `${url.host}: `}${why}`,
    hint:
      credentials === undefined
        ? `check the name; if the image is private, log in: tsrun login ${endpoint.registry}`
        : `the credentials came from ${credentials.origin}; log in again (tsrun login ${endpoint.registry}), or ask for access to the image`,
  });

const DETAIL_LIMIT = 64 * 1024;

/** The registry's own words, made harmless for a terminal; '' when it sent none. */
export const errorDetail = async (response: HttpResponse): Promise<string> => {
  try {
    const answer = parseJson(await readBody(response, DETAIL_LIMIT));
    const errors = answer['errors'];
    const first: unknown = Array.isArray(errors) ? errors[0] : answer;
    const { message, code, details } = (typeof first === 'object' && first !== null ? first : {}) as Partial<Record<string, unknown>>;
    const text = [message, details, code].find((part) => typeof part === 'string' && part !== '');
    return typeof text === 'string' ? text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 300) : '';
  } catch {
    // Only colour for a message; the status is what counts.
    return '';
  }
};

const parseJson = (bytes: Uint8Array): Partial<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
};
