/**
 * `--vendor DIR`: what a build took from the network, kept, so that it can be built again without one.
 *
 *     DIR/tsrun.lock          what was built
 *     DIR/base/               base images, an OCI layout; each under the name the recipe gives it
 *     DIR/apt/STAGE/archives  .deb files, as apt fetched them
 *     DIR/apt/STAGE/lists     the package lists by which apt chose them, with the archive's signatures
 *
 * apt finds both through the configuration of the step, outside of the image's tree: what a recipe does to /var/lib/apt/lists and
 * /var/cache/apt touches only the image. Building from DIR, apt has no network, keeps the lists it has (its own rule when a fetch fails for the
 * moment), and checks every archive against their hashes, which the signatures cover. Other package managers have nothing here yet.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TsrunError } from '../util/errors.ts';
import type { Package } from './packages.ts';

export type Vendor = {
  /** Absolute. */
  readonly directory: string;
  /** `keep`: fetch and keep; `use`: what is there must do. */
  readonly purpose: 'keep' | 'use';
};

/** What a step is given besides; for the engine. */
export type StepSupply = {
  readonly mounts: readonly { readonly source: string; readonly target: string; readonly why: string }[];
  /** Lines for the file that APT_CONFIG names. */
  readonly aptConfig: string;
};

/** Inside, in the memory-backed directory of the step. */
const APT_INSIDE = '/dev/.tsrun-apt';

/** @param stage index in the recipe: two stages may have different distributions with files of the same name. @throws TsrunError E_VENDOR */
export const supplyOf = async ({ directory, purpose }: Vendor, stage: number): Promise<StepSupply> => {
  const apt = join(directory, 'apt', String(stage));
  try {
    for (const folder of ['archives/partial', 'lists/partial']) await mkdir(join(apt, folder), { recursive: true });
  } catch (error) {
    throw vendorError(directory, error);
  }
  const settings = [
    `Dir::Cache::archives "${APT_INSIDE}/archives"`,
    `Dir::State::lists "${APT_INSIDE}/lists"`,
    'APT::Keep-Downloaded-Packages "true"',
    // `apt` has a default of its own, unlike apt-get.
    'Binary::apt::APT::Keep-Downloaded-Packages "true"',
    ...(purpose === 'use'
      ? // The lists are as old as they are, and nobody answers.
        ['Acquire::Retries "0"', 'Acquire::Check-Valid-Until "false"', 'Binary::apt::APT::Update::Error-Mode "persistent-failure"']
      : []),
  ];
  return {
    mounts: [
      { source: apt, target: APT_INSIDE, why: purpose === 'keep' ? 'packages are kept (--vendor)' : 'packages kept before (--offline)' },
    ],
    aptConfig: settings.map((line) => `${line};\n`).join(''),
  };
};

const vendorError = (directory: string, error: unknown): TsrunError =>
  new TsrunError({
    code: 'E_VENDOR',
    what: `cannot keep packages in ${directory}`,
    why: error instanceof Error ? error.message : String(error),
    hint: 'give --vendor a directory that you may write to',
    cause: error,
  });

/** @throws TsrunError E_VENDOR when DIR does not hold what --vendor writes */
export const requireVendored = async (directory: string): Promise<void> => {
  const found = await stat(join(directory, 'base/index.json')).catch(() => undefined);
  if (found?.isFile() === true) return;
  throw new TsrunError({
    code: 'E_VENDOR',
    what: `cannot build from ${directory}`,
    why: 'it holds no base images: it is no directory that --vendor made',
    hint: `make it with a network: tsrun build --lock --vendor ${directory} OUT RECIPE`,
  });
};

/** `packages` with the digests of the .deb files that were kept; those of nothing that was kept stay as they are. */
export const withArchiveDigests = async (directory: string, packages: readonly Package[]): Promise<readonly Package[]> => {
  const digests = new Map<string, string>();
  for (const stage of await readdir(join(directory, 'apt')).catch(() => [])) {
    const archives = join(directory, 'apt', stage, 'archives');
    for (const name of (await readdir(archives).catch(() => [])).sort())
      if (name.endsWith('.deb')) digests.set(name, await fileDigest(join(archives, name)));
  }
  return packages.map((each) => {
    const digest = each.manager === 'dpkg' ? digests.get(archiveName(each)) : undefined;
    return digest === undefined ? each : { ...each, digest };
  });
};

/** As apt names them: NAME_VERSION_ARCHITECTURE.deb, with ":" and what else is no file name quoted. */
const archiveName = ({ name, version, architecture = '' }: Package): string =>
  [name, version, architecture]
    .map((part) => part.replace(/[_:%]/g, (each) => `%${each.charCodeAt(0).toString(16)}`))
    .join('_')
    .concat('.deb');

const fileDigest = async (path: string): Promise<string> => {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
  return `sha256:${hash.digest('hex')}`;
};
