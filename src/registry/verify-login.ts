/** Do a user name and a password open a registry? */
import { realTiming } from '../util/timing.ts';
import { createSender } from './auth.ts';
import type { Credentials } from './credential.ts';
import { createOriginFinder, registryEndpoint } from './endpoint.ts';
import { toError } from './failure.ts';
import { createHttp } from './http.ts';
import type { Environment } from './proxy.ts';
import { withRetries } from './retry.ts';
import type { RegistryConfig } from './types.ts';

export type VerifyOptions = {
  readonly config: RegistryConfig;
  readonly env: Environment;
  readonly onWarning: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
};

/**
 * @returns false when the registry asks nobody to log in, so that nothing was proved.
 * @throws TsrunError E_REGISTRY_AUTH when it says no; E_REGISTRY… when it cannot be asked.
 */
export const verifyLogin = async (registry: string, credentials: Credentials, options: VerifyOptions): Promise<boolean> => {
  const { config, signal } = options;
  const http = createHttp(options);
  let asked = false;
  const send = createSender({
    http,
    timing: realTiming,
    signal,
    originOf: createOriginFinder(http, signal),
    credentialsFor: async () => {
      asked = true;
      return credentials;
    },
  });
  try {
    const endpoint = registryEndpoint(registry, '', http);
    const response = await withRetries({ config, timing: realTiming, signal, onProgress: () => undefined }, () =>
      send({ endpoint, path: '' }),
    );
    response.discard();
    return asked;
  } catch (error) {
    throw toError(error, `cannot log in to ${registry}`);
  } finally {
    http.close();
  }
};
