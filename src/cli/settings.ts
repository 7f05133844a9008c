/** What config files and the environment say to the verbs that run in Node: places of the store, registries. */
import { readFileSync } from 'node:fs';
import { registryConfig } from '../registry/config.ts';
import type { RegistryConfig } from '../registry/types.ts';
import { type Config, ofEachUser, parseConfig, SITE_CONFIG, userConfigPath } from '../request/from-config.ts';
import { switchText } from '../request/parse.ts';
import { storePlaces } from '../store/places.ts';
import type { StorePlaces } from '../store/types.ts';
import { TsrunError } from '../util/errors.ts';
import { decodeUtf8 } from '../util/utf8.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export type Settings = {
  readonly env: Environment;
  readonly places: StorePlaces;
  readonly registry: RegistryConfig;
  /** Ask no registry: what the store has must do. */
  readonly offline: boolean;
};

/** What the command line says on top; each can only switch on. */
export type Switches = { readonly offline?: boolean | undefined; readonly insecure?: boolean | undefined };

/**
 * The environment as the user has it: the launcher takes what would change Node itself (LD_LIBRARY_PATH, NODE_OPTIONS …) out and
 * hands it over in TSRUN_HOST_ENV, percent-encoded lines NAME=value.
 */
export const hostEnvironment = (env: Environment): Environment => {
  const { TSRUN_HOST_ENV: handed, ...rest } = env;
  const entries = (handed ?? '').split('\n').filter((line) => line.includes('='));
  const decode = (text: string): string =>
    text.replace(/(?:%[0-9A-Fa-f]{2})+/g, (run) => Buffer.from(run.replaceAll('%', ''), 'hex').toString('utf8'));
  return {
    ...rest,
    ...Object.fromEntries(entries.map((line) => [line.slice(0, line.indexOf('=')), decode(line.slice(line.indexOf('=') + 1))])),
  };
};

/** @throws TsrunError E_CONFIG, E_STORE_PLACE, E_USAGE */
export const loadSettings = (env: Environment, given: Switches = {}): Settings => {
  const user = userConfigPath(new Map(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined)));
  const uid = process.geteuid?.() ?? 0;
  const rest = { ...ofEachUser(readConfig(SITE_CONFIG).rest, () => uid), ...(user === undefined ? {} : readConfig(user).rest) };
  const places = storePlaces(env, { store: textAt(rest, 'store'), local: textAt(rest, 'local') }, uid);
  const insecure = given.insecure === true || switchIn(env, 'TSRUN_INSECURE', 'APPTAINER_NOHTTPS', 'SINGULARITY_NOHTTPS');
  const registry = registryConfig({
    mirrors: listsAt(rest, 'mirrors'),
    insecure: insecure ? ['*'] : listAt(rest, 'insecure'),
    caFile: textAt(rest, 'ca-file'),
    timeouts: numbersAt(rest, 'timeouts'),
    limits: numbersAt(rest, 'limits'),
  });
  const offline = given.offline ?? switchIn(env, 'TSRUN_OFFLINE') ?? switchAt(rest, 'offline') ?? false;
  return { env, places, registry, offline };
};

/** Of the first variable that is set. */
const switchIn = (env: Environment, ...names: readonly string[]): boolean | undefined => {
  const name = names.find((each) => (env[each] ?? '') !== '');
  return name === undefined ? undefined : switchText(name, env[name] ?? '') === 'true';
};

const readConfig = (path: string): Config => {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    if (code === 'ENOENT' || code === 'ENOTDIR' || path !== SITE_CONFIG) return { given: [], rest: {} };
    throw new TsrunError({ code: 'E_CONFIG', what: `cannot use the config file ${path}`, why: `it cannot be read (${String(code)})` });
  }
  return parseConfig(path, bytes.toString('latin1'));
};

type Rest = Config['rest'];

const refuse = (key: string, rest: Rest, expected: string): TsrunError =>
  new TsrunError({
    code: 'E_CONFIG',
    what: `cannot use the config file ${rest[key]?.origin ?? ''}`,
    why: `the value of "${key}" is not ${expected}`,
  });

const plain = (bytes: string): string => decodeUtf8(bytes) ?? bytes;

const textAt = (rest: Rest, key: string): string | undefined => {
  const value = rest[key]?.value ?? undefined;
  if (value === undefined) return undefined;
  if (typeof value !== 'string') throw refuse(key, rest, 'text');
  return plain(value);
};

const switchAt = (rest: Rest, key: string): boolean | undefined => {
  const value = rest[key]?.value ?? undefined;
  if (value === undefined || typeof value === 'boolean') return value;
  throw refuse(key, rest, 'true or false');
};

const listAt = (rest: Rest, key: string): readonly string[] | undefined => {
  const value = rest[key]?.value ?? undefined;
  return value === undefined ? undefined : listOf(value, () => refuse(key, rest, 'a list of texts'));
};

const listsAt = (rest: Rest, key: string): Readonly<Record<string, readonly string[]>> | undefined => {
  const value = rest[key]?.value ?? undefined;
  if (value === undefined) return undefined;
  const fail = (): TsrunError => refuse(key, rest, 'lists of texts by name');
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fail();
  return Object.fromEntries(Object.entries(value).map(([name, list]) => [plain(name), listOf(list, fail)]));
};

const listOf = (value: unknown, fail: () => TsrunError): readonly string[] => {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  return list.map((item) => {
    if (typeof item !== 'string') throw fail();
    return plain(item);
  });
};

const numbersAt = (rest: Rest, key: string): Readonly<Record<string, number>> | undefined => {
  const value = rest[key]?.value ?? undefined;
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refuse(key, rest, 'numbers by name');
  return Object.fromEntries(
    Object.entries(value).map(([name, number]) => {
      if (typeof number !== 'number' || !(number >= 0)) throw refuse(key, rest, 'numbers by name');
      return [plain(name), number];
    }),
  );
};
