/**
 * tsrun's own credentials file, `$XDG_CONFIG_HOME/tsrun/auth.json`: docker's format, mode 0600, replaced as a whole so that a reader never sees half of it.
 * What else is in the file stays.
 */
import { randomBytes } from 'node:crypto';
import { open, readFile, realpath, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { canonicalRegistry } from '../oci/reference.ts';
import { codeOf, reasonOf } from '../store/open.ts';
import { TsrunError } from '../util/errors.ts';
import { makeDirectories } from '../util/make-directories.ts';
import { ownAuthFile } from './credentials.ts';
import type { Environment } from './proxy.ts';

export type StoredLogin = { readonly username: string; readonly password: string };

/** @returns the file's path. @throws TsrunError E_CREDENTIALS_FILE */
export const saveLogin = async (env: Environment, registry: string, { username, password }: StoredLogin): Promise<string> => {
  const path = await requirePath(env);
  const file = await readAuthFile(path);
  const auth = Buffer.from(`${username}:${password}`).toString('base64');
  await writeAuthFile(path, { ...file, auths: { ...withoutRegistry(file.auths, registry), [registry]: { auth } } });
  return path;
};

/** @param registry `undefined`: all. @returns the registries that were forgotten. @throws TsrunError E_CREDENTIALS_FILE */
export const removeLogin = async (env: Environment, registry: string | undefined): Promise<string[]> => {
  const path = await requirePath(env);
  const file = await readAuthFile(path);
  const kept = registry === undefined ? {} : withoutRegistry(file.auths, registry);
  const removed = Object.keys(file.auths).filter((key) => !Object.hasOwn(kept, key));
  if (removed.length > 0) await writeAuthFile(path, { ...file, auths: kept });
  return removed;
};

type AuthFile = { readonly auths: Readonly<Record<string, unknown>>; readonly [key: string]: unknown };

const withoutRegistry = (auths: AuthFile['auths'], registry: string): Record<string, unknown> =>
  Object.fromEntries(Object.entries(auths).filter(([key]) => canonicalRegistry(key) !== registry));

/** The file itself where it is a symlink, as people do who keep their settings in one place. */
const requirePath = async (env: Environment): Promise<string> => {
  const [path] = ownAuthFile(env);
  if (path === undefined) return fail('the credentials', 'there is no place for them: neither XDG_CONFIG_HOME nor HOME is set');
  return realpath(path).catch(() => path);
};

const readAuthFile = async (path: string): Promise<AuthFile> => {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return { auths: {} };
    return fail(path, reasonOf(error));
  }
  try {
    const json: unknown = JSON.parse(text);
    if (isRecord(json) && (json['auths'] === undefined || isRecord(json['auths']))) return { ...json, auths: json['auths'] ?? {} };
  } catch {
    // Said below; the parser's own message would quote a secret.
  }
  return fail(path, 'it is not a credentials file in JSON; it was left as it is');
};

const writeAuthFile = async (path: string, file: AuthFile): Promise<void> => {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    await makeDirectories(dirname(path), 0o700);
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.writeFile(`${JSON.stringify(file, undefined, 2)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    fail(path, reasonOf(error));
  }
};

const fail: (path: string, why: string) => never = (path, why) => {
  throw new TsrunError({
    code: 'E_CREDENTIALS_FILE',
    what: `cannot use ${path}`,
    why,
    hint: 'correct or remove the file, then log in again',
  });
};

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
