/**
 * Which proxy a URL goes through, from the environment: the rules of curl and Go. Pure.
 * HTTPS_PROXY for https, HTTP_PROXY for http, ALL_PROXY for both, lower case first; NO_PROXY names hosts, domains, addresses, CIDR blocks, each with an
 * optional port. Loopback never goes through a proxy.
 */
import { BlockList, isIP } from 'node:net';
import { TsrunError } from '../util/errors.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * @returns `undefined`: connect directly.
 * @throws TsrunError E_PROXY for a proxy that is not http or https.
 */
export const proxyFor = (url: URL, env: Environment): URL | undefined => {
  const own = url.protocol === 'https:' ? 'https_proxy' : 'http_proxy';
  const name = [own, own.toUpperCase(), 'all_proxy', 'ALL_PROXY'].find(
    (candidate) => env[candidate] !== undefined && env[candidate] !== '',
  );
  const value = name === undefined ? undefined : env[name];
  if (name === undefined || value === undefined || isLoopback(bareHost(url)) || isExempt(url, env['no_proxy'] ?? env['NO_PROXY'] ?? ''))
    return undefined;
  const text = value.includes('://') ? value : `http://${value}`;
  const proxy = URL.canParse(text) ? new URL(text) : undefined;
  if (proxy !== undefined && (proxy.protocol === 'http:' || proxy.protocol === 'https:')) return proxy;
  throw new TsrunError({
    code: 'E_PROXY',
    what: `cannot use the proxy of ${name}`,
    why: proxy === undefined ? 'it is not a URL' : `${proxy.protocol.slice(0, -1)} proxies are not supported`,
    hint: `set ${name}=http://HOST:PORT, or list ${url.hostname} in NO_PROXY`,
  });
};

/** `localhost`, names below it, 127.0.0.0/8, ::1. @param host without port and brackets */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host.endsWith('.localhost') || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));

/** The host of a URL without the brackets of IPv6. */
export const bareHost = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase();

const isExempt = (url: URL, list: string): boolean => {
  const host = bareHost(url);
  const port = url.port || (url.protocol === 'https:' ? '443' : '80');
  return list
    .split(/[\s,]+/)
    .filter((word) => word !== '')
    .some((word) => word === '*' || matches(word.toLowerCase(), host, port));
};

const matches = (word: string, host: string, port: string): boolean => {
  const block = /^(.+)\/(\d{1,3})$/.exec(word);
  if (block !== null) return isInBlock(host, block[1] ?? '', Number(block[2]));
  const withPort = isIP(word) === 6 ? null : /^(.*):(\d+)$/.exec(word);
  if (withPort !== null && withPort[2] !== port) return false;
  const name = (withPort?.[1] ?? word).replace(/^\[(.*)\]$/, '$1').replace(/^\*?\./, '');
  if (isIP(name) !== 0) return sameAddress(host, name);
  return host === name || host.endsWith(`.${name}`);
};

const isInBlock = (host: string, network: string, bits: number): boolean => {
  const family = isIP(network);
  if (family === 0 || isIP(host) !== family || bits > (family === 4 ? 32 : 128)) return false;
  const list = new BlockList();
  list.addSubnet(network, bits, family === 4 ? 'ipv4' : 'ipv6');
  return list.check(host, family === 4 ? 'ipv4' : 'ipv6');
};

const sameAddress = (host: string, address: string): boolean => isInBlock(host, address, isIP(address) === 4 ? 32 : 128);
