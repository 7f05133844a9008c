/**
 * What apt fetched, kept in DIR/apt/STAGE:
 *
 *     archives/  .deb files
 *     lists/     the package lists by which apt chose them, with the archive's signatures
 *
 * apt works in directories that are the step's own, with links to what has been kept, and hands new files over before dpkg begins and after each
 * update: so `apt-get clean` takes nothing away. Building from DIR, apt has no network, keeps the lists it has (its own rule when a fetch fails for the
 * moment), and checks every archive against their hashes, which the signatures cover.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOfFile } from './digest.ts';
import { linksTo } from './kept-files.ts';
import type { Package } from './packages.ts';
import type { ToolSupply, Vendor } from './vendor.ts';

/** Inside, in the memory-backed directory of the step. */
const WORK = '/dev/.tsrun-apt';
const KEPT = '/dev/.tsrun-apt-kept';
const FOLDERS = ['archives', 'lists'] as const;

export const aptSupply = async (purpose: Vendor['purpose'], directory: string, scratch: string): Promise<ToolSupply> => {
  const work = join(scratch, 'apt');
  for (const folder of FOLDERS) {
    if (purpose === 'keep') await mkdir(join(directory, folder), { recursive: true });
    await linksTo(join(directory, folder), join(work, folder), `${KEPT}/${folder}`);
    await mkdir(join(work, folder, 'partial'), { recursive: true });
  }
  const settings = [
    `Dir::Cache::archives "${WORK}/archives"`,
    `Dir::State::lists "${WORK}/lists"`,
    ...(purpose === 'keep'
      ? [`DPkg::Pre-Invoke {"${handOver('archives', '*.deb')}"; }`, `APT::Update::Post-Invoke {"${handOver('lists', '*_*')}"; }`]
      : // The lists are as old as they are, and nobody answers.
        ['Acquire::Retries "0"', 'Acquire::Check-Valid-Until "false"', 'Binary::apt::APT::Update::Error-Mode "persistent-failure"']),
  ];
  const why = purpose === 'keep' ? 'packages are kept (--vendor)' : 'packages kept before (--offline)';
  return {
    mounts: [
      { source: work, target: WORK, readOnly: false, why },
      ...(existsSync(directory) ? [{ source: directory, target: KEPT, readOnly: purpose === 'use', why }] : []),
    ],
    aptConfig: settings.map((line) => `${line};\n`).join(''),
  };
};

/** For the image's shell: files, not the links to what has been kept. */
const handOver = (folder: (typeof FOLDERS)[number], names: string): string =>
  `for f in ${WORK}/${folder}/${names}; do if [ -f $f ] && [ ! -L $f ]; then cp $f ${KEPT}/${folder}/; fi; done`;

/** @param directory DIR/apt. Returns the digest of a package's archive */
export const keptArchives = async (directory: string): Promise<(each: Package) => string | undefined> => {
  const digests = new Map<string, string>();
  for (const stage of await readdir(directory).catch(() => [])) {
    const archives = join(directory, stage, 'archives');
    for (const name of (await readdir(archives).catch(() => [])).sort())
      if (name.endsWith('.deb')) digests.set(name, await digestOfFile(join(archives, name)));
  }
  return (each) => digests.get(archiveName(each));
};

/** As apt names them: NAME_VERSION_ARCHITECTURE.deb, with ":" and what else is no file name quoted. */
const archiveName = ({ name, version, architecture = '' }: Package): string =>
  [name, version, architecture]
    .map((part) => part.replace(/[_:%]/g, (each) => `%${each.charCodeAt(0).toString(16)}`))
    .join('_')
    .concat('.deb');
