/**
 * One piece of work that ends as a file of the store, done by one process at a time: the ranks of a job that meet the same unprepared image
 * start together, one converts, the others wait for what it makes. Like produce.ts for what has no digest beforehand.
 */
import { readdir, rm } from 'node:fs/promises';
import { fnv64 } from '../util/fnv.ts';
import { partialDirectory } from './layout.ts';
import { newWatch, tryLease } from './lease.ts';
import { explainWriteError } from './open.ts';
import type { ProduceOptions } from './produce.ts';
import type { Store } from './types.ts';

export type OnceOptions = ProduceOptions & {
  /** Is it there already? Asked again and again while another process is at work. */
  readonly isThere: () => Promise<boolean>;
  /** Does it; `own` begins the path of every file that is not finished yet (a leading dot may be put before its name). */
  readonly make: (own: string) => Promise<void>;
};

const FIRST_WAIT = 50;
const LONGEST_WAIT = 1_000;

/**
 * @param kind and name: what is made, the same for all who want it
 * @throws what `make` throws (then one of those who wait tries); TsrunError E_STORE_FULL; `signal.reason`
 */
export const produceOnce = async (store: Store, kind: 'image' | 'facts', name: string, options: OnceOptions): Promise<void> => {
  const common = `${kind}-${fnv64(name)}`;
  const own = `${partialDirectory(store.path)}/${common}`;
  const watch = newWatch();
  for (let wait = FIRST_WAIT; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
    options.signal?.throwIfAborted();
    if (await options.isThere()) return;
    const attempt = await tryLease(`${own}.lease`, watch, options.timing).catch((error: unknown) => {
      throw explainWriteError(error, store);
    });
    if (attempt.kind === 'held') {
      try {
        // What a killed predecessor left is of no use.
        if (attempt.before?.gone === true) await removeLeft(store, common);
        // Between the look and the lease another process may have finished.
        if (!(await options.isThere())) await options.make(own);
        return;
      } finally {
        await attempt.lease.release();
      }
    }
    options.onWait?.(0);
    await options.timing.sleep(wait * (0.5 + options.timing.random()), options.signal);
  }
};

const removeLeft = async (store: Store, common: string): Promise<void> => {
  for (const name of await readdir(partialDirectory(store.path))) {
    const ofIt = name.startsWith(`${common}.`) || name.startsWith(`.${common}.`);
    if (ofIt && !name.includes('.lease')) await rm(`${partialDirectory(store.path)}/${name}`, { force: true });
  }
};
