/** The store and a registry client for as long as one command needs them, opened only when it does. */
import { openRegistry } from '../registry/client.ts';
import type { Progress, Registry, RegistryConfig } from '../registry/types.ts';
import { openStore, removeTemporaryStore } from '../store/open.ts';
import type { Store, StorePlaces } from '../store/types.ts';

export type RegistrySettings = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly places: StorePlaces;
  readonly registry: RegistryConfig;
  /** Ask no registry: what the store has must do. */
  readonly offline: boolean;
};

export type Watching = {
  readonly onWarning: (text: string) => void;
  readonly onProgress: (progress: Progress) => void;
  /** Ends downloads; what they have brought stays in the store. */
  readonly signal: AbortSignal;
  /** See `openStore`; a temporary one when absent. */
  readonly instead?: 'temporary' | 'local' | undefined;
};

/** Closes what was opened, however `use` ends. */
export const withRegistry = async <T>(
  { env, places, registry: config, offline }: RegistrySettings,
  { onWarning, onProgress, signal, instead }: Watching,
  use: (registry: () => Promise<Registry>, store: () => Promise<Store>) => Promise<T>,
): Promise<T> => {
  let store: Promise<Store> | undefined;
  let registry: Promise<Registry> | undefined;
  const getStore = (): Promise<Store> => {
    store ??= openStore(places, { onWarning, instead });
    return store;
  };
  const getRegistry = (): Promise<Registry> => {
    registry ??= getStore().then((opened) => openRegistry({ config, env, offline, store: opened, onWarning, onProgress, signal }));
    return registry;
  };
  try {
    return await use(getRegistry, getStore);
  } finally {
    await (await registry?.catch(() => undefined))?.close();
    const opened = await store?.catch(() => undefined);
    if (opened !== undefined) await removeTemporaryStore(opened);
  }
};
