/** `tsrun login [REGISTRY]`: asks for a password, tries it, keeps it. */
import type { Readable, Writable } from 'node:stream';
import { DOCKER_HUB, parseRegistryHost } from '../oci/reference.ts';
import { saveLogin } from '../registry/own-auth.ts';
import type { RegistryConfig } from '../registry/types.ts';
import { verifyLogin } from '../registry/verify-login.ts';
import { TsrunError } from '../util/errors.ts';
import { askLine, askSecret, type Terminal } from './prompt.ts';

export type LoginOptions = {
  /** Host, perhaps with docker:// or https:// before it; Docker Hub when absent. */
  readonly registry?: string | undefined;
  readonly username?: string | undefined;
  /** The password is the first line of standard input. There is no option for the password itself: every user of the machine could read it in ps. */
  readonly passwordStdin?: boolean | undefined;
  readonly config: RegistryConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: Readable & Partial<Terminal>;
  /** Questions and messages. */
  readonly stderr: Writable;
  readonly signal?: AbortSignal | undefined;
};

/** @throws TsrunError E_REGISTRY_AUTH, E_REGISTRY_UNREACHABLE, E_LOGIN, E_REFERENCE, E_CREDENTIALS_FILE */
export const login = async (options: LoginOptions): Promise<void> => {
  const { env, stderr, config, signal } = options;
  const registry = parseRegistryHost(options.registry ?? DOCKER_HUB);
  const username = options.username ?? (await askLine(options, `User name for ${registry}: `));
  if (username === '') throw refuse(registry, 'no user name was given');
  if (username.includes(':')) throw refuse(registry, 'a user name cannot hold a colon');
  const password = options.passwordStdin ? await firstLine(options.stdin) : await askSecret(options, `Password or token for ${username}: `);
  if (password === '') throw refuse(registry, 'the password is empty');

  const warn = (message: string): boolean => stderr.write(`tsrun: ${message}\n`);
  const credentials = { kind: 'password', username, password, origin: 'what you typed' } as const;
  const proved = await verifyLogin(registry, credentials, { config, env, onWarning: warn, signal });
  const path = await saveLogin(env, registry, { username, password });
  if (!proved) warn(`${registry} asks nobody to log in; the password was kept without being tried`);
  // Silence would leave people wondering where their password went.
  stderr.write(`logged in to ${registry}; kept in ${path}\n`);
};

const refuse = (registry: string, why: string): TsrunError =>
  new TsrunError({ code: 'E_LOGIN', what: `cannot log in to ${registry}`, why });

const PASSWORD_LIMIT = 64 * 1024;

const firstLine = async (input: Readable): Promise<string> => {
  let text = '';
  for await (const chunk of input) {
    text += String(chunk);
    if (text.includes('\n')) break;
    if (text.length > PASSWORD_LIMIT)
      throw new TsrunError({ code: 'E_LOGIN', what: 'cannot read the password', why: `it is longer than ${PASSWORD_LIMIT} bytes` });
  }
  return text.split(/\r?\n/, 1)[0] ?? '';
};
