/**
 * What dnf and microdnf fetched, kept in DIR/dnf/STAGE, which is their own cache: of each repository the metadata and the packages chosen by it.
 *
 * No variable tells them where their cache is. So the step finds a program of its name first in PATH, which goes on as the image's own with the place and
 * `keepcache` added. `dnf clean` is passed on as it is, and cleans what the image has. Building from DIR, dnf takes nothing from the network (-C), checks
 * packages against the metadata it chose them by, and the lock has the digests of their headers, which cover what is in them.
 *
 * microdnf knows no -C: there metadata of any age will do. Written after dnf/dnf-main.c of microdnf 3.9 (--setopt: cachedir, below which it makes
 * metadata/, solv/ and lock/; keepcache) and libdnf 0.56 and later (dnf-conf.cpp: "repo_id can contain globs"; dnf-repo.cpp: metadata_expire). Where
 * microdnf is a name of dnf 5, as in Fedora since 38, it is that.
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
const NAMES = ['dnf', 'yum', 'dnf5', 'microdnf'] as const;

export const dnfSupply = async (purpose: Vendor['purpose'], directory: string, scratch: string): Promise<ToolSupply> => {
  const commands = new Map(NAMES.map((name) => [name, commandOf(purpose)]));
  if (purpose === 'keep') {
    await mkdir(directory, { recursive: true });
    return { mounts: [{ source: directory, target: CACHE, readOnly: false, why: 'what dnf fetches is kept (--vendor)' }], commands };
  }
  if (!existsSync(directory)) return {};
  // Not the indexes, which are made of them again: behind a link they cannot be written.
  const cache = join(scratch, 'dnf');
  await mkdir(cache);
  for (const name of (await directoriesOf(directory)).filter((each) => !OF_MICRODNF.has(each)))
    await linksTo(join(directory, name), join(cache, name), `${KEPT}/${name}`);
  const why = 'packages kept before (--offline)';
  return {
    mounts: [
      { source: cache, target: CACHE, readOnly: false, why },
      { source: directory, target: KEPT, readOnly: true, why },
    ],
    commands,
  };
};

/** Indexes and locks. */
const OF_MICRODNF: ReadonlySet<string> = new Set(['solv', 'lock']);

const commandOf =
  (purpose: Vendor['purpose']): CommandScript =>
  ({ program, behind }) => {
    if (behind.endsWith('/microdnf')) return microdnf(purpose, program);
    if (!/\/dnf[^/]*$/.test(behind)) return `#!/bin/sh\nexec ${program} "$@"\n`;
    const setting = behind.endsWith('/dnf5') ? 'system_cachedir' : 'cachedir';
    return script(program, [...(purpose === 'use' ? ['-C'] : []), `--setopt=${setting}=${CACHE}`]);
  };

const script = (program: string, options: readonly string[], before = ''): string =>
  `#!/bin/sh
case " $* " in *' clean '*) exec ${program} "$@" ;; esac
${before}exec ${program} ${options.join(' ')} --setopt=keepcache=1 "$@"
`;

/** The word that calls metadata expired would ask for others. */
const NO_REFRESH = `for each in "$@"; do shift; [ "$each" = --refresh ] || set -- "$@" "$each"; done
`;

const microdnf = (purpose: Vendor['purpose'], program: string): string =>
  purpose === 'keep'
    ? script(program, [`--setopt=cachedir=${CACHE}`])
    : script(program, [`--setopt=cachedir=${CACHE}`, "'--setopt=*.metadata_expire=never'"], NO_REFRESH);
