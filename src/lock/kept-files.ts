/** What is kept, as a tool that writes beside it may have it. */
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Package } from './packages.ts';

/**
 * Directories that may be written to, and in them links to the files that are kept.
 * @param inside where the step sees `kept`, read-only
 */
export const linksTo = async (kept: string, own: string, inside: string): Promise<void> => {
  await mkdir(own, { recursive: true });
  for (const entry of await readdir(kept, { withFileTypes: true }).catch(() => [])) {
    const [from, to, shown] = [join(kept, entry.name), join(own, entry.name), `${inside}/${entry.name}`];
    if (entry.isDirectory()) await linksTo(from, to, shown);
    else if (entry.isFile()) await symlink(shown, to);
  }
};

/** Names of the directories in it; none where it is none. */
export const directoriesOf = async (path: string): Promise<readonly string[]> =>
  (await readdir(path, { withFileTypes: true }).catch(() => [])).filter((entry) => entry.isDirectory()).map(({ name }) => name);

/** What was given to dnf or zypper as an address: their caches have it, and without a network they do not look there. */
const GIVEN = /(?:^|\/)(?:commandline-|_tmpRPMcache_)/;

/** @param directories where packages lie, at any depth. Tells whether the archive of a package is there */
export const keptRpms = async (directories: readonly string[]): Promise<(each: Package) => boolean> => {
  const names = new Set<string>();
  for (const directory of directories)
    for (const path of await readdir(directory, { recursive: true }).catch(() => []))
      if (path.endsWith('.rpm') && !GIVEN.test(path)) names.add(basename(path));
  return ({ name, version, architecture }) => names.has(`${name}-${version.replace(/^\d+:/, '')}.${architecture}.rpm`);
};
