/** The store and a registry client for as long as one command needs them, opened only when it does. */
import { openRegistry } from '../registry/client.ts';
import type { Registry, RegistryConfig } from '../registry/types.ts';
import { openStore, removeTemporaryStore } from '../store/open.ts';
import type { Store, StorePlaces } from '../store/types.ts';

export type RegistrySettings = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly places: StorePlaces;
  readonly registry: RegistryConfig;
};

/** Closes what was opened, however `use` ends. */
export const withRegistry = async <T>(
  { env, places, registry: config }: RegistrySettings,
  onWarning: (text: string) => void,
  use: (registry: () => Promise<Registry>, store: () => Promise<Store>) => Promise<T>,
): Promise<T> => {
  let store: Promise<Store> | undefined;
  let registry: Promise<Registry> | undefined;
  const getStore = (): Promise<Store> => {
    store ??= openStore(places, { onWarning });
    return store;
  };
  const getRegistry = (): Promise<Registry> => {
    registry ??= getStore().then((opened) => openRegistry({ config, env, store: opened, onWarning }));
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
