/**
 * What zypper fetched, kept in DIR/zypp/STAGE:
 *
 *     raw/REPOSITORY/       its metadata, with their signature and key
 *     packages/REPOSITORY/  the packages chosen by it
 *
 * Laid over each other these are the repository again, as much of it as the build needed. So the step finds a program of zypper's name first in PATH, which
 * goes on as the image's own with other definitions of the repositories: such that keep their packages; building from DIR, such that lie in a directory.
 * There zypper refreshes, asks for keys and checks all as it did with a network. Commands that change definitions or clean are passed on as they are.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { directoriesOf, linksTo } from './kept-files.ts';
import type { CommandScript, ToolSupply, Vendor } from './vendor.ts';

/** Inside, in the memory-backed directory of the step. */
const WORK = '/dev/.tsrun-zypp';
const KEPT = '/dev/.tsrun-zypp-kept';

export const zypperSupply = async (purpose: Vendor['purpose'], directory: string, scratch: string): Promise<ToolSupply> => {
  if (purpose === 'use' && !existsSync(directory)) return {};
  const work = join(scratch, 'zypp');
  await mkdir(work);
  for (const part of ['raw', 'packages'] as const) {
    if (purpose === 'keep') await mkdir(join(directory, part), { recursive: true });
    else
      for (const name of await directoriesOf(join(directory, part)))
        await linksTo(join(directory, part, name), join(work, 'repositories', name), `${KEPT}/${part}/${name}`);
  }
  const why = purpose === 'keep' ? 'what zypper fetches is kept (--vendor)' : 'packages kept before (--offline)';
  return {
    mounts: [
      { source: work, target: WORK, readOnly: false, why },
      { source: directory, target: KEPT, readOnly: purpose === 'use', why },
    ],
    commands: new Map([['zypper', commandOf(purpose)]]),
  };
};

const CACHES: Readonly<Record<Vendor['purpose'], string>> = {
  keep: `--raw-cache-dir ${KEPT}/raw --pkg-cache-dir ${KEPT}/packages --solv-cache-dir ${WORK}/solv`,
  use: `--cache-dir ${WORK}/cache`,
};

/** For sed: what a definition says of itself goes, what it is to say follows its name. Lines that begin with a blank go on with the one before. */
const DEFINITION: Readonly<Record<Vendor['purpose'], string>> = {
  keep: '/^keeppackages *=/d; s|^\\[.*\\]$|&\\nkeeppackages=1|',
  use: `/^\\(baseurl\\|mirrorlist\\|metalink\\|path\\) *=/d; /^[[:blank:]]/d; s|^\\[\\(.*\\)\\]$|&\\nbaseurl=dir:${WORK}/repositories/\\1|`,
};

/** zypper(8): commands that write definitions, and `clean`. */
const OWN = ['addrepo', 'ar', 'removerepo', 'rr', 'renamerepo', 'nr', 'modifyrepo', 'mr', 'addservice', 'as', 'modifyservice', 'ms']
  .concat(['removeservice', 'rs', 'refresh-services', 'refs', 'clean', 'cc'])
  .map((name) => `*' ${name} '*`)
  .join('|');

const commandOf =
  (purpose: Vendor['purpose']): CommandScript =>
  ({ program }) =>
    `#!/bin/sh
case " $* " in ${OWN}) exec ${program} "$@" ;; esac
definitions=${WORK}/$$.d
mkdir $definitions
for each in /etc/zypp/repos.d/*.repo; do
  if [ -e "$each" ]; then sed '${DEFINITION[purpose]}' "$each" > "$definitions/\${each##*/}"; fi
done
exec ${program} --reposd-dir $definitions ${CACHES[purpose]} "$@"
`;
