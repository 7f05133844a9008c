/**
 * The config files: /etc/tsrun/config.yaml of the site, then $XDG_CONFIG_HOME/tsrun/config.yaml (~/.config/tsrun/config.yaml) of the user,
 * who wins. Keys are the `config` column of the flag table and CONFIG_ONLY_KEYS; a key nobody reads is an error, so that a slip is not
 * silently without effect. YAML is parsed only when a file is there.
 */
import { loadAll } from 'js-yaml';
import { contains } from '../util/contains.ts';
import { errnoText } from '../util/errno.ts';
import { TsrunError } from '../util/errors.ts';
import { failed, type Host } from '../util/host.ts';
import { nearest } from '../util/nearest.ts';
import { decodeUtf8, encodeUtf8 } from '../util/utf8.ts';
import { ALL_FLAGS, CONFIG_ONLY_KEYS } from './flags.ts';
import type { Environment } from './from-env.ts';
import type { Given } from './parse.ts';

export const SITE_CONFIG = '/etc/tsrun/config.yaml';
const MAX_BYTES = 256 * 1024;
const ENOENT = -2;
const ENOTDIR = -20;

/** Everything the files say. */
export type Config = {
  /** The site's values first. */
  readonly given: readonly Given[];
  /** Of CONFIG_ONLY_KEYS; the user's value over the site's, plain data of YAML. Strings are byte strings. */
  readonly rest: Readonly<Record<string, { readonly value: unknown; readonly origin: string }>>;
};

const refuse: (file: string, why: string, hint?: string) => never = (file, why, hint) => {
  throw new TsrunError({ code: 'E_CONFIG', what: `cannot use the config file ${file}`, why, hint });
};

/** Strings inside plain data as byte strings. Depth is bounded by the parser's own limit. */
const toBytes = (file: string, value: unknown): unknown => {
  if (typeof value === 'string') {
    if (contains(value, '\0')) refuse(file, 'a text in it holds a NUL, which no path and no variable can', 'take the \\0 out');
    return encodeUtf8(value);
  }
  if (Array.isArray(value)) return value.map((each) => toBytes(file, each));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [toBytes(file, key), toBytes(file, each)]));
};

const parseYaml = (file: string, bytes: string): Record<string, unknown> => {
  const text = decodeUtf8(bytes) ?? refuse(file, 'it is not UTF-8 text');
  let documents: unknown[];
  try {
    documents = loadAll(text);
  } catch (error) {
    refuse(file, `it is not YAML: ${encodeUtf8(error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error))}`);
  }
  if (documents.length > 1) refuse(file, 'it holds more than one YAML document', 'take the lines with --- out');
  const [data] = documents;
  if (data === undefined || data === null) return {};
  if (typeof data !== 'object' || Array.isArray(data))
    refuse(file, 'it is not a list of keys and values', 'write lines such as "bind: [/gpfs]"');
  return toBytes(file, data) as Record<string, unknown>;
};

const scalar = (file: string, key: string, value: unknown): string => {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return refuse(file, `the value of "${key}" is not plain text`, 'put text that YAML reads as something else in quotes');
};

/** What a flag's key may hold: yes or no for a switch, one text or a list of texts for a list, NAME: VALUE pairs for `env`. */
const valuesOf = (file: string, key: string, kind: string, value: unknown): string[] => {
  if (value === null || value === undefined) return [];
  if (kind === 'switch') {
    // YAML 1.1 people write yes and on.
    const word = /^(?:true|yes|on)$/i.test(String(value)) ? 'true' : /^(?:false|no|off)$/i.test(String(value)) ? 'false' : undefined;
    return word === undefined || Array.isArray(value)
      ? refuse(file, `the value of "${key}" is neither true nor false`, `write ${key}: true`)
      : [word];
  }
  if (kind === 'optional' && typeof value === 'boolean') return value ? [''] : [];
  if (Array.isArray(value) && kind !== 'value') {
    const texts = value.map((each) => scalar(file, key, each));
    return kind === 'optional' ? [texts.join(',')] : texts;
  }
  if (key === 'env' && typeof value === 'object') {
    return Object.entries(value).map(([name, each]) => `${name}=${scalar(file, `env: ${name}`, each).replace(/[\\,]/g, '\\$&')}`);
  }
  return [scalar(file, key, value)];
};

/** Reads one file's text. Errors: E_CONFIG. */
export const parseConfig = (file: string, bytes: string): Config => {
  const given: Given[] = [];
  const rest: Record<string, { value: unknown; origin: string }> = {};
  for (const [key, value] of Object.entries(parseYaml(file, bytes))) {
    const flag = ALL_FLAGS.find((each) => each.config === key);
    if (flag !== undefined) {
      for (const text of valuesOf(file, key, flag.kind, value)) given.push({ flag: flag.name, text, from: 'config', origin: file });
    } else if ((CONFIG_ONLY_KEYS as readonly string[]).includes(key)) rest[key] = { value, origin: file };
    else {
      const keys = [...ALL_FLAGS.flatMap((each) => (each.config === undefined ? [] : [each.config])), ...CONFIG_ONLY_KEYS];
      const near = nearest(key, keys);
      refuse(file, `there is no key "${key}"`, near === undefined ? `known are ${keys.sort().join(', ')}` : `did you mean "${near}"?`);
    }
  }
  return { given, rest };
};

/** The user's own file; undefined when neither XDG_CONFIG_HOME nor HOME is an absolute path. */
export const userConfigPath = (environment: Environment): string | undefined => {
  const base = environment.get('XDG_CONFIG_HOME') ?? '';
  if (base.startsWith('/')) return `${base}/tsrun/config.yaml`;
  const home = environment.get('HOME') ?? '';
  return home.startsWith('/') ? `${home === '/' ? '' : home}/.config/tsrun/config.yaml` : undefined;
};

/** Of a file that is not there, as on most machines. */
const NOTHING: Config = { given: [], rest: {} };

const readConfig = (host: Host, file: string): Config => {
  const text = host.read(file, 0, MAX_BYTES + 1);
  if (failed(text)) {
    if (text === ENOENT || text === ENOTDIR) return NOTHING;
    // A home that cannot be read is met again, and named, where it is mounted.
    return file === SITE_CONFIG ? refuse(file, `it cannot be read (${errnoText(text)})`) : NOTHING;
  }
  if (text.length > MAX_BYTES) refuse(file, `it has more than ${MAX_BYTES} bytes`);
  return parseConfig(file, text);
};

/** A place that the site names is there for everybody: each has a directory of their own in it. */
export const ofEachUser = (rest: Config['rest'], uid: () => number): Config['rest'] => {
  const own = (key: 'store' | 'local'): Config['rest'] => {
    const entry = rest[key];
    return typeof entry?.value === 'string' ? { [key]: { ...entry, value: `${entry.value.replace(/\/+$/, '')}/tsrun-${uid()}` } } : {};
  };
  return { ...rest, ...own('store'), ...own('local') };
};

/** Both files, and the variables that stand for their other keys. Errors: E_CONFIG. */
export const givenByConfig = (host: Host, environment: Environment, own: ReadonlyMap<string, string>): Config => {
  const site = readConfig(host, SITE_CONFIG);
  const userFile = userConfigPath(environment);
  const user = userFile === undefined ? NOTHING : readConfig(host, userFile);
  if (site === NOTHING && user === NOTHING) return { given: [], rest: restByEnvironment(own) };
  const rest = ofEachUser(site.rest, () => host.ids().euid);
  return { given: [...site.given, ...user.given], rest: { ...rest, ...user.rest, ...restByEnvironment(own) } };
};

/** Keys that are no flags and have a variable as well. (The places of the store are looked up where the store is.) */
const restByEnvironment = (own: ReadonlyMap<string, string>): Config['rest'] => {
  const linger = own.get('TSRUN_LINGER') ?? '';
  const cacheMemory = own.get('TSRUN_CACHE_MEMORY') ?? '';
  const rest: Record<string, { value: unknown; origin: string }> = {};
  if (linger !== '') rest['linger'] = { value: linger, origin: 'TSRUN_LINGER' };
  if (cacheMemory !== '') rest['cache-memory'] = { value: cacheMemory, origin: 'TSRUN_CACHE_MEMORY' };
  return rest;
};
