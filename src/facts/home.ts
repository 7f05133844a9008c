/** Where the caller's home is. HOME counts before the account's entry: batch systems and workflow engines point it elsewhere on purpose. */
import type { Environment } from '../request/from-env.ts';
import { failed, type Host } from '../util/host.ts';
import { cleanPath, isWithin } from '../util/paths.ts';

export type Home = {
  /** Clean absolute path as spelled by HOME or the account; '/' when there is none. */
  readonly path: string;
  /** The same with symbolic links followed; undefined when it does not exist or cannot be reached. */
  readonly real: string | undefined;
  readonly origin: 'HOME' | 'account' | 'none';
};

/**
 * @param account home of the account, '' when unknown; @param cwd the current directory where it is known: as the kernel says it, so no link is in it,
 * nor in a home around it. That saves a question to the home's file system.
 */
export const findHome = (host: Host, environment: Environment, account: string, cwd: string): Home => {
  const wanted = environment.get('HOME') ?? '';
  const origin = wanted.startsWith('/') ? 'HOME' : account.startsWith('/') ? 'account' : 'none';
  if (origin === 'none') return { path: '/', real: '/', origin };
  const path = cleanPath(origin === 'HOME' ? wanted : account);
  if (path === '/') return { path, real: '/', origin };
  if (isWithin(cwd, path)) return { path, real: path, origin };
  const real = host.realPath(path);
  return { path, real: failed(real) ? undefined : real, origin };
};
