/**
 * What dnf fetched, kept in DIR/dnf/STAGE, which is dnf's own cache: of each repository the metadata and the packages chosen by it.
 *
 * No variable tells dnf where its cache is. So the step finds a program of its name first in PATH, which goes on as the image's own with the place and
 * `keepcache` added. `dnf clean` is passed on as it is, and cleans what the image has. Building from DIR, dnf takes nothing from the network (-C), checks
 * packages against the metadata it chose them by, and the lock has the digests of their headers, which cover what is in them.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { directoriesOf, linksTo } from './kept-files.ts';
import type { CommandScript, ToolSupply, Vendor } from './vendor.ts';

/** Inside, in the memory-backed directory of the step. */
const CACHE = '/dev/.tsrun-dnf';
const KEPT = '/dev/.tsrun-dnf-kept';

/** yum is dnf wherever dnf is; what yum was before it does not know these options, and is not told. */
const NAMES = ['dnf', 'yum', 'dnf5'] as const;

export const dnfSupply = async (purpose: Vendor['purpose'], directory: string, scratch: string): Promise<ToolSupply> => {
  const commands = new Map(NAMES.map((name) => [name, commandOf(purpose)]));
  if (purpose === 'keep') {
    await mkdir(directory, { recursive: true });
    return { mounts: [{ source: directory, target: CACHE, readOnly: false, why: 'what dnf fetches is kept (--vendor)' }], commands };
  }
  if (!existsSync(directory)) return {};
  // Not the indexes beside them, which dnf makes of them again: behind a link they cannot be written.
  const cache = join(scratch, 'dnf');
  await mkdir(cache);
  for (const name of await directoriesOf(directory)) await linksTo(join(directory, name), join(cache, name), `${KEPT}/${name}`);
  const why = 'packages kept before (--offline)';
  return {
    mounts: [
      { source: cache, target: CACHE, readOnly: false, why },
      { source: directory, target: KEPT, readOnly: true, why },
    ],
    commands,
  };
};

const commandOf =
  (purpose: Vendor['purpose']): CommandScript =>
  ({ program, behind }) => {
    const setting = behind.endsWith('/dnf5') ? 'system_cachedir' : 'cachedir';
    const options = [...(purpose === 'use' ? ['-C'] : []), `--setopt=${setting}=${CACHE}`, '--setopt=keepcache=1'];
    const isDnf = /\/dnf[^/]*$/.test(behind);
    return isDnf
      ? `#!/bin/sh\ncase " $* " in *' clean '*) exec ${program} "$@" ;; esac\nexec ${program} ${options.join(' ')} "$@"\n`
      : `#!/bin/sh\nexec ${program} "$@"\n`;
  };
