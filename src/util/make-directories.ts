/**
 * mkdir -p. Node's own recursive mkdir never returns where the system answers ENOENT although the parent exists (/proc, some automounts): each
 * directory is tried once after its parent here.
 */
import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** @param mode of every directory that is made. @throws the system's error */
export const makeDirectories = async (path: string, mode: number): Promise<void> => {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' && dirname(path) !== path) {
      await makeDirectories(dirname(path), mode);
      await mkdir(path, { mode }).catch((again: unknown) => ignoreExisting(again, path));
      return;
    }
    // Read-only file systems refuse before they look whether it exists.
    await ignoreExisting(error, path);
  }
};

const ignoreExisting = async (error: unknown, path: string): Promise<void> => {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() !== true) throw error;
};
