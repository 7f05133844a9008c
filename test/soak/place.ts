/** What a soak works in: images, directories to bind, scopes, and how the caller is called. */
import { createHash } from 'node:crypto';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { helperProgram } from '../e2e/launcher/helpers.ts';
import { loginEnvironment, makeBusyboxImage, scratch } from '../helpers/product.ts';
import { isRoot, testUser } from '../helpers/user.ts';

export type Caller = 'user' | 'root';

export type Place = {
  readonly images: readonly string[];
  readonly bound: readonly string[];
  /** Runtime directories: each has a server of its own. */
  readonly runtimes: readonly string[];
  readonly sumOfLarge: string;
  readonly env: Readonly<Record<string, string>>;
  /** Words before a command that make its caller who it should be. */
  readonly asCaller: readonly string[];
};

/** `kernel`: as on a kernel of that version (kernels.ts); empty: as on this one. */
export const makePlace = (caller: Caller, kernel: string): Place => {
  const user = testUser();
  const top = scratch('soak');
  const owned = (name: string, mode: number): string => {
    const path = join(top, name);
    mkdirSync(path, { mode });
    if (isRoot() && caller === 'user') chownSync(path, user.uid, user.gid);
    return path;
  };
  const large = Array.from({ length: 40_000 }, (_, line) => `line ${line} of a large file\n`).join('');
  const images = ['one', 'two'].map((name) =>
    makeBusyboxImage(scratch(`soak-${name}`), (tree) => writeFileSync(join(tree, 'srv/large'), large)),
  );
  return {
    images,
    bound: Array.from({ length: 5 }, (_, i) => {
      const path = owned(`bound-${i}`, 0o755);
      mkdirSync(join(path, 'below'));
      return path;
    }),
    runtimes: ['first', 'second'].map((name) => owned(name, 0o700)),
    sumOfLarge: createHash('md5').update(large).digest('hex'),
    env: loginEnvironment(caller),
    asCaller: [
      ...(kernel === '' ? [] : [helperProgram('deny'), `linux-${kernel}`, '--']),
      ...(isRoot() && caller === 'user' ? ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'] : []),
    ],
  };
};
