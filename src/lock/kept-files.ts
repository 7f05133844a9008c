/** What is kept, as a tool that writes beside it may have it. */
import { chmod, constants, copyFile, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { digestOfFile } from './digest.ts';
import type { Package } from './packages.ts';
import type { Fetch } from './vendor.ts';

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

/** Copies files of such names that a step has left, not links: those are to what is kept already. */
export const takeOver = async (left: string, kept: string, names: RegExp): Promise<void> => {
  const files = (await readdir(left, { withFileTypes: true })).filter((entry) => entry.isFile() && names.test(entry.name));
  if (files.length > 0) await mkdir(kept, { recursive: true });
  for (const { name } of files) await putFile(join(left, name), join(kept, name));
};

/** A copy that everybody may read, there at once or not at all. */
export const putFile = async (from: string, to: string): Promise<void> => {
  await copyFile(from, `${to}.fetched`, constants.COPYFILE_FICLONE);
  await chmod(`${to}.fetched`, 0o644);
  await rename(`${to}.fetched`, to);
};

/**
 * Fetches what is not there yet with that digest ("sha256:…", "md5:…").
 * @returns whether it is there now; not where it cannot be fetched, or is another file
 */
export const fetchInto = async (path: string, address: string, digest: string | undefined, fetch: Fetch): Promise<boolean> => {
  const algorithm = digest?.split(':', 1)[0];
  const isRight = async (file: string): Promise<boolean> =>
    digest !== undefined && (await digestOfFile(file, algorithm).catch(() => undefined)) === digest;
  if (await isRight(path)) return true;
  const fresh = `${path}.fetched`;
  try {
    await writeFile(fresh, await fetch(address));
    if (digest !== undefined && !(await isRight(fresh))) return false;
    await chmod(fresh, 0o644);
    await rename(fresh, path);
    return true;
  } catch {
    return false;
  } finally {
    await rm(fresh, { force: true });
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
