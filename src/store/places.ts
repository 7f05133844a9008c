/**
 * Where the store and the node-local directory are: one rule, pure. Only absolute paths count; a relative one is an error,
 * since it would mean another store in every directory.
 */
import { TsrunError } from '../util/errors.ts';
import type { Place, StorePlaces } from './types.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** From the config file; both optional there. */
export type StoreConfig = {
  readonly store?: string | undefined;
  readonly local?: string | undefined;
};

/**
 * store: TSRUN_STORE, config, APPTAINER_CACHEDIR/tsrun, SINGULARITY_CACHEDIR/tsrun, XDG_CACHE_HOME/tsrun, HOME/.cache/tsrun, and
 * without a home the local place. local: TSRUN_LOCAL, config, /tmp/tsrun-UID.
 * @param home when HOME is unset: the passwd entry's, if the caller knows it.
 * @throws TsrunError E_STORE_PLACE for a relative path.
 */
export const storePlaces = (env: Environment, config: StoreConfig, uid: number, home?: string): StorePlaces => {
  const local = firstPlace([
    { path: env['TSRUN_LOCAL'], origin: 'TSRUN_LOCAL' },
    { path: config.local, origin: 'config' },
    { path: `/tmp/tsrun-${uid}`, origin: 'default' },
  ]);
  const store = firstPlace([
    { path: env['TSRUN_STORE'], origin: 'TSRUN_STORE' },
    { path: config.store, origin: 'config' },
    { path: below(env['APPTAINER_CACHEDIR'], 'tsrun'), origin: 'APPTAINER_CACHEDIR' },
    { path: below(env['SINGULARITY_CACHEDIR'], 'tsrun'), origin: 'SINGULARITY_CACHEDIR' },
    { path: below(env['XDG_CACHE_HOME'], 'tsrun'), origin: 'XDG_CACHE_HOME' },
    { path: below(env['HOME'], '.cache/tsrun'), origin: 'HOME' },
    { path: below(home, '.cache/tsrun'), origin: 'passwd' },
    { path: localStore(local.path), origin: 'no home' },
  ]);
  return { store, local };
};

/** The store in the node-local place: where there is no home, and where the store cannot be written. */
export const localStore = (local: string): string => `${local}/store`;

const below = (directory: string | undefined, name: string): string | undefined =>
  directory === undefined || directory === '' ? undefined : `${directory.replace(/\/+$/, '')}/${name}`;

const firstPlace = (candidates: readonly { path: string | undefined; origin: string }[]): Place => {
  for (const { path, origin } of candidates) {
    if (path === undefined || path === '') continue;
    if (path.startsWith('/')) return { path: path.replace(/(?<=.)\/+$/, ''), origin };
    // The base directory specification: a relative XDG_CACHE_HOME is ignored. Nobody sets HOME for tsrun's sake either.
    if (origin === 'XDG_CACHE_HOME' || origin === 'HOME' || origin === 'passwd') continue;
    throw new TsrunError({
      code: 'E_STORE_PLACE',
      what: `cannot use store place ${JSON.stringify(path)}`,
      why: `${origin} is not an absolute path`,
      hint: `set ${origin} to a path that begins with /`,
    });
  }
  throw new Error('unreachable: the last candidate is always a path');
};
