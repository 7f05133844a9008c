/** `tsrun logout [REGISTRY | --all]`: forgets what `tsrun login` kept. */
import type { Writable } from 'node:stream';
import { DOCKER_HUB, parseRegistryHost } from '../oci/reference.ts';
import { findCredentials } from '../registry/credentials.ts';
import { removeLogin } from '../registry/own-auth.ts';

export type LogoutOptions = {
  /** Docker Hub when absent. */
  readonly registry?: string | undefined;
  readonly all?: boolean | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stderr: Writable;
};

/** @throws TsrunError E_CREDENTIALS_FILE, E_REFERENCE */
export const logout = async ({ registry: text, all = false, env, stderr }: LogoutOptions): Promise<void> => {
  const registry = all ? undefined : parseRegistryHost(text ?? DOCKER_HUB);
  const removed = await removeLogin(env, registry);
  for (const name of removed) stderr.write(`logged out of ${name}\n`);
  if (registry === undefined) return;
  if (removed.length === 0) stderr.write(`tsrun: it was not logged in to ${registry}\n`);
  // Nobody should believe to be logged out who is not: other programs' files are read as well.
  const left = await findCredentials(registry, '', { env, helperTimeout: 10_000, onWarning: () => undefined, useEnvironment: true });
  if (left !== undefined) stderr.write(`tsrun: credentials for ${registry} are still found in ${left.origin}\n`);
};
