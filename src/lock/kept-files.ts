/** What is kept, as a tool that writes beside it may have it. */
import { mkdir, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';

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
