/** Builds with --lock, --locked, --vendor by the ordinary user, in a directory of the test. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { environmentOf, type Ran, scratch, tsrun, tsrunPath } from './product.ts';
import { testUser } from './user.ts';

export type LockedBuilds = {
  readonly place: string;
  /** PLACE/Dockerfile, which the test writes. */
  readonly recipe: string;
  /** What one store has unpacked need not be unpacked again; where no result of an earlier build may help, another is used. */
  readonly within: (store: string) => Record<string, string>;
  /** Of the recipe, into PLACE/NAME.sif. */
  readonly build: (name: string, store: string, ...words: readonly string[]) => Ran;
  /** The same, while a server of this process answers. */
  readonly buildMeanwhile: (name: string, store: string, ...words: readonly string[]) => Promise<Ran>;
};

export const lockedBuilds = (name: string, ids: 'single' | 'ranges' = 'single'): LockedBuilds => {
  const place = scratch(name);
  const recipe = join(place, 'Dockerfile');
  const within = (store: string): Record<string, string> => ({
    TSRUN_STORE: join(place, store),
    TSRUN_TMPDIR: join(place, store),
    TSRUN_BUILD_IDS: ids,
  });
  const wordsOf = (image: string, words: readonly string[]): readonly string[] =>
    ['build', '-F', '--compress', 'lz4', ...words].concat(join(place, `${image}.sif`), recipe);
  return {
    place,
    recipe,
    within,
    build: (image, store, ...words) => tsrun(wordsOf(image, words), { cwd: place, env: within(store) }),
    buildMeanwhile: (image, store, ...words) =>
      new Promise((resolve, reject) => {
        const user = testUser();
        const child = spawn(tsrunPath, wordsOf(image, words), {
          cwd: place,
          env: environmentOf({ env: within(store) }),
          stdio: ['ignore', 'ignore', 'pipe'],
          uid: user.uid,
          gid: user.gid,
        });
        let stderr = '';
        child.stderr.on('data', (text: Buffer) => {
          stderr += text;
        });
        child.on('error', reject);
        child.on('close', (status, signal) => resolve({ status, signal, stdout: '', stderr }));
      }),
  };
};
