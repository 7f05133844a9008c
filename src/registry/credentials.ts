/**
 * Who to be at a registry: the first source that knows one. Order:
 * environment (TSRUN_REGISTRY_, APPTAINER_DOCKER_, SINGULARITY_DOCKER_ USERNAME and PASSWORD), REGISTRY_AUTH_FILE, `tsrun login`'s own file,
 * containers' auth.json, docker's config.json, Apptainer's docker-config.json. Within a file: credHelpers, auths, credsStore.
 */
import { readFile, stat } from 'node:fs/promises';
import { canonicalRegistry, DOCKER_HUB } from '../oci/reference.ts';
import type { CredentialOptions, Credentials } from './credential.ts';
import { askHelper } from './credential-helper.ts';
import type { Environment } from './proxy.ts';

/**
 * @param registry `docker.io`, `HOST[:PORT]`
 * @param repository for files that know credentials of name spaces (`quay.io/team`)
 * @param useEnvironment off for hosts the user did not name (mirrors): the variables say nothing of whom they are for.
 */
export const findCredentials = async (
  registry: string,
  repository: string,
  { useEnvironment, ...options }: CredentialOptions & { readonly useEnvironment: boolean },
): Promise<Credentials | undefined> => {
  const { env, onWarning } = options;
  if (useEnvironment) {
    const fromEnvironment = environmentCredentials(env, onWarning);
    if (fromEnvironment !== undefined) return fromEnvironment;
  }
  for (const path of credentialFiles(env)) {
    const file = await readCredentialFile(path, onWarning);
    const found = file === undefined ? undefined : await findInFile(file, path, registry, repository, options);
    if (found !== undefined) return found;
  }
  return undefined;
};

const VARIABLES = ['TSRUN_REGISTRY', 'APPTAINER_DOCKER', 'SINGULARITY_DOCKER'];

const environmentCredentials = (env: Environment, onWarning: (message: string) => void): Credentials | undefined => {
  for (const prefix of VARIABLES) {
    const username = env[`${prefix}_USERNAME`];
    const password = env[`${prefix}_PASSWORD`];
    if (username && password) return { kind: 'password', username, password, origin: `${prefix}_USERNAME` };
    if (username || password)
      onWarning(
        `${prefix}_${username ? 'PASSWORD' : 'USERNAME'} is not set; ${prefix}_${username ? 'USERNAME' : 'PASSWORD'} alone is not used`,
      );
  }
  return undefined;
};

/** In the order they are asked; most do not exist. */
const credentialFiles = (env: Environment): string[] => {
  const below = (directory: string | undefined, name: string): string[] =>
    directory === undefined || directory === '' ? [] : [`${directory}/${name}`];
  const home = env['HOME'];
  const configHome = env['XDG_CONFIG_HOME'] || (home === undefined ? undefined : `${home}/.config`);
  return [
    ...(env['REGISTRY_AUTH_FILE'] ? [env['REGISTRY_AUTH_FILE']] : []),
    ...ownAuthFile(env),
    ...below(env['XDG_RUNTIME_DIR'], 'containers/auth.json'),
    ...below(configHome, 'containers/auth.json'),
    ...(env['DOCKER_CONFIG'] ? [`${env['DOCKER_CONFIG']}/config.json`] : below(home, '.docker/config.json')),
    ...(env['APPTAINER_CONFIGDIR'] ? [`${env['APPTAINER_CONFIGDIR']}/docker-config.json`] : below(home, '.apptainer/docker-config.json')),
  ];
};

/** Where `tsrun login` writes: `$XDG_CONFIG_HOME/tsrun/auth.json`. Empty without a home. */
export const ownAuthFile = (env: Environment): string[] => {
  const configHome = env['XDG_CONFIG_HOME'] || (env['HOME'] ? `${env['HOME']}/.config` : undefined);
  return configHome === undefined ? [] : [`${configHome}/tsrun/auth.json`];
};

// --- docker's file format (docker/cli config.json; containers-auth.json(5))

export type CredentialFile = {
  readonly auths: Readonly<Record<string, unknown>>;
  readonly credHelpers: Readonly<Record<string, unknown>>;
  readonly credsStore: string | undefined;
};

const FILE_LIMIT = 4 * 1024 * 1024;

/** `undefined`: not there, or (with a warning) not readable. */
const readCredentialFile = async (path: string, onWarning: (message: string) => void): Promise<CredentialFile | undefined> => {
  try {
    if ((await stat(path)).size > FILE_LIMIT) throw new Error(`it is longer than ${FILE_LIMIT} bytes`);
    const json: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (!isRecord(json)) throw new Error('it is not a JSON object');
    const { auths, credHelpers, credsStore } = json;
    return {
      auths: isRecord(auths) ? auths : {},
      credHelpers: isRecord(credHelpers) ? credHelpers : {},
      credsStore: typeof credsStore === 'string' && credsStore !== '' ? credsStore : undefined,
    };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    // The text of a JSON error quotes the file, and with it perhaps a secret.
    const why = error instanceof SyntaxError ? 'it is not JSON' : error instanceof Error ? error.message : String(error);
    if (code !== 'ENOENT' && code !== 'ENOTDIR') onWarning(`credentials in ${path} are not used: ${why}`);
    return undefined;
  }
};

const findInFile = async (
  file: CredentialFile,
  path: string,
  registry: string,
  repository: string,
  options: CredentialOptions,
): Promise<Credentials | undefined> => {
  const ask = (helper: string, server: string): Promise<Credentials | undefined> => askHelper(helper, server, options);
  for (const [key, helper] of Object.entries(file.credHelpers)) {
    if (typeof helper === 'string' && canonicalRegistry(hostOfKey(key)) === registry) {
      const found = await ask(helper, key);
      if (found !== undefined) return found;
    }
  }
  const candidates = Object.entries(file.auths)
    .map(([key, value]) => ({ value, specific: keyFit(key, registry, repository) }))
    .filter((candidate) => candidate.specific >= 0)
    .sort((a, b) => b.specific - a.specific);
  for (const { value } of candidates) {
    const found = parseAuth(value, path);
    if (found !== undefined) return found;
  }
  return file.credsStore === undefined ? undefined : ask(file.credsStore, serverName(registry));
};

/** What docker keys Docker Hub's credentials by. */
const serverName = (registry: string): string => (registry === DOCKER_HUB ? 'https://index.docker.io/v1/' : registry);

/** Docker wrote `https://index.docker.io/v1/` and `https://host/`; newer files hold plain hosts, perhaps with a name space. */
const withoutScheme = (key: string): string => key.replace(/^https?:\/\//, '').replace(/\/+$/, '');

const hostOfKey = (key: string): string => withoutScheme(key).split('/')[0] ?? '';

/** Length of the name space that fits; -1: another registry or name space. Of keys with a scheme only the host counts, as with docker. */
const keyFit = (key: string, registry: string, repository: string): number => {
  if (canonicalRegistry(hostOfKey(key)) !== registry) return -1;
  if (key.includes('://')) return 0;
  const space = withoutScheme(key).split('/').slice(1).join('/');
  if (space === '' || space === 'v1' || space === 'v2') return 0;
  return repository === space || repository.startsWith(`${space}/`) ? space.length : -1;
};

const parseAuth = (value: unknown, origin: string): Credentials | undefined => {
  if (!isRecord(value)) return undefined;
  const text = (key: string): string => (typeof value[key] === 'string' ? value[key] : '');
  if (text('identitytoken') !== '') return { kind: 'identity', token: text('identitytoken'), origin };
  if (text('registrytoken') !== '') return { kind: 'bearer', token: text('registrytoken'), origin };
  const [username, password] =
    text('auth') === '' ? [text('username'), text('password')] : splitPair(Buffer.from(text('auth'), 'base64').toString());
  return username === '' || password === '' ? undefined : { kind: 'password', username, password, origin };
};

const splitPair = (pair: string): [string, string] => {
  const colon = pair.indexOf(':');
  // Docker pads with NUL in old files.
  return colon < 0 ? ['', ''] : [pair.slice(0, colon), pair.slice(colon + 1).replace(/\0+$/, '')];
};

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
