/**
 * How one exchange with a registry can fail, before it is known whether that matters (a mirror may fail, a break may be resumed).
 * `toError` makes it the user's error when nothing else is left to try.
 */
import { type ErrorCode, TsrunError } from '../util/errors.ts';

export type FailureKind =
  /** Nobody there: no address, refused, unreachable, no answer while connecting. Another endpoint or the store may help. */
  | 'unreachable'
  /** Broken or stalled connection. */
  | 'broken'
  /** The server's certificate is not trusted. */
  | 'untrusted'
  /** TLS was spoken to something that does not. */
  | 'not-tls'
  /** 408, 429, 5xx. */
  | 'busy'
  | 'proxy'
  /** An answer that makes no sense: redirect loops, sizes out of bounds, wrong protocol. */
  | 'senseless';

export class TransferFailure extends Error {
  readonly kind: FailureKind;
  readonly url: URL;
  readonly why: string;
  /** What the server asked for with Retry-After, milliseconds. */
  readonly retryAfter: number | undefined;
  readonly status: number | undefined;

  constructor(kind: FailureKind, url: URL, why: string, more: { retryAfter?: number | undefined; status?: number; cause?: unknown } = {}) {
    super(`${url.host}: ${why}`, { cause: more.cause });
    this.name = 'TransferFailure';
    this.kind = kind;
    this.url = url;
    this.why = why;
    this.retryAfter = more.retryAfter;
    this.status = more.status;
  }
}

export const isTransient = (failure: TransferFailure): boolean => failure.kind === 'broken' || failure.kind === 'busy';

const CODES: Readonly<Record<FailureKind, ErrorCode>> = {
  unreachable: 'E_REGISTRY_UNREACHABLE',
  broken: 'E_REGISTRY_UNREACHABLE',
  untrusted: 'E_TLS',
  'not-tls': 'E_TLS',
  busy: 'E_REGISTRY_BUSY',
  proxy: 'E_PROXY',
  senseless: 'E_REGISTRY',
};

/** @param what "cannot pull docker://…"; errors that are the user's already pass through. */
export const toError = (error: unknown, what: string): unknown => {
  if (!(error instanceof TransferFailure)) return error;
  const { kind, url, why } = error;
  return new TsrunError({ code: CODES[kind], what, why: `${url.host}: ${why}`, hint: hintFor(error), cause: error });
};

const hintFor = ({ kind, status, url }: TransferFailure): string | undefined => {
  switch (kind) {
    case 'unreachable':
      return 'check the name and the network; behind a proxy set HTTPS_PROXY';
    case 'broken':
      return 'try again: what was downloaded is kept and continued';
    case 'untrusted':
      return 'if the registry has a certificate of your site, name its authority with SSL_CERT_FILE=FILE.pem';
    case 'not-tls':
      return `if it speaks plain http only, and you trust the network in between, allow that in the config: insecure: ["${url.host}"]`;
    case 'busy':
      return status === 429 ? 'wait, or log in for a higher limit: tsrun login REGISTRY; a site mirror helps for good' : 'try again later';
    case 'proxy':
      return 'check HTTPS_PROXY, HTTP_PROXY and NO_PROXY';
    case 'senseless':
      return undefined;
    default:
      return kind satisfies never;
  }
};

// --- from Node's errors

const UNREACHABLE: Readonly<Record<string, string>> = {
  ENOTFOUND: 'no such host',
  ECONNREFUSED: 'connection refused',
  EHOSTUNREACH: 'no route to it',
  ENETUNREACH: 'no network',
  EADDRNOTAVAIL: 'no network',
  EACCES: 'this machine does not let programs connect to it',
  EAI_FAIL: 'name look-up failed',
  ENODATA: 'it has no address',
};

/** OpenSSL's and Node's words for certificates that do not hold. */
const UNTRUSTED = /^(?:CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|ERR_TLS_CERT|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH)/;
const NOT_TLS = /^(?:EPROTO|ERR_SSL_WRONG_VERSION_NUMBER|ERR_SSL_PACKET_LENGTH_TOO_LONG|ERR_SSL_HTTP_REQUEST|ERR_SSL_UNKNOWN_PROTOCOL)$/;

/** What a socket, TLS or HTTP parser error of Node means. */
export const failureOf = (error: unknown, url: URL): TransferFailure => {
  if (error instanceof TransferFailure) return error;
  // Several addresses, none of which answered: the first says enough.
  const first = error instanceof AggregateError ? error.errors[0] : error;
  const code = first instanceof Error && 'code' in first ? String(first.code) : '';
  const message = first instanceof Error ? first.message : String(first);
  if (Object.hasOwn(UNREACHABLE, code)) return new TransferFailure('unreachable', url, UNREACHABLE[code] ?? code, { cause: error });
  if (code.startsWith('ERR_PROXY')) return new TransferFailure('proxy', url, message, { cause: error });
  if (UNTRUSTED.test(code)) return new TransferFailure('untrusted', url, `its certificate is not trusted: ${message}`, { cause: error });
  if (NOT_TLS.test(code)) return new TransferFailure('not-tls', url, 'it does not speak TLS (https)', { cause: error });
  if (code.startsWith('HPE_')) return new TransferFailure('senseless', url, `its answer is not HTTP (${code})`, { cause: error });
  return new TransferFailure('broken', url, `the connection broke (${code || message})`, { cause: error });
};
