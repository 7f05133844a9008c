/**
 * What conda, mamba and micromamba fetched, kept in DIR/conda under its address (https/HOST/CHANNEL/SUBDIR/FILE), and beside it FILE.json: what the
 * channel's index says of it.
 *
 * Both come from where each of them notes what it installed, ENVIRONMENT/conda-meta: so neither the program's path nor `conda clean` in the same command
 * matters. An archive is taken from the directory for packages, which is the step's own, and where that has been cleaned, fetched again; its hash is
 * checked. Building from DIR, that directory has the archives, and the indexes of their channels with these packages alone in the place where the
 * programs look for those they had fetched; they are told to stay offline.
 *
 * Written after conda 4.9 to 25 (core/package_cache_data.py, gateways/repodata/__init__.py) and libmamba 1 and 2 (core/package_cache.cpp,
 * core/subdir_index.cpp, api/configuration.cpp). pixi is another matter: its cache holds packages unpacked.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { access, chmod, constants, lstat, mkdir, readdir, readFile, realpath, symlink, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { digestOfFile } from './digest.ts';
import { fetchInto, putFile } from './kept-files.ts';
import type { Package } from './packages.ts';
import type { Fetch, StepSupply, ToolSupply, Vendor } from './vendor.ts';

/** Inside, in the memory-backed directory of the step. Also in the notes of what was installed: the same, with a network and without. */
const PACKAGES = '/dev/.tsrun-conda';
const KEPT = '/dev/.tsrun-conda-kept';

/** A document of conda-meta. */
export type CondaDocument = Readonly<Record<string, unknown>>;

export const condaSupply = async (purpose: Vendor['purpose'], directory: string, scratch: string): Promise<ToolSupply> => {
  const own = join(scratch, 'conda');
  if (purpose === 'use' && !existsSync(directory)) return {};
  await openDirectory(own);
  const why = purpose === 'keep' ? 'what conda fetches is kept (--vendor)' : 'packages kept before (--offline)';
  const packages = { source: own, target: PACKAGES, readOnly: false, why };
  if (purpose === 'keep') return { mounts: [packages], environment: () => VARIABLES, ended: () => takeArchives(own, directory) };
  await layOut(await keptRecords(directory), own);
  return {
    mounts: [packages, { source: directory, target: KEPT, readOnly: true, why }],
    environment: () => new Map([...VARIABLES, ...OFFLINE]),
  };
};

const VARIABLES: ReturnType<StepSupply['environment']> = new Map([['CONDA_PKGS_DIRS', PACKAGES]]);

/** libmamba has names of its own; `current_repodata.json` is an index of the newest packages only. */
const OFFLINE: ReturnType<StepSupply['environment']> = new Map([
  ['CONDA_OFFLINE', 'true'],
  ['MAMBA_OFFLINE', 'true'],
  ['CONDA_REPODATA_FNS', 'repodata.json'],
]);

/** Any user of the step may install packages. */
const openDirectory = async (path: string): Promise<void> => {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o777);
};

// --- keeping

const FILE = /^[a-z0-9_.][a-z0-9_.!+-]{0,250}\.(?:conda|tar\.bz2)$/i;

/** "https/conda.anaconda.org/conda-forge/noarch/x-1-0.conda", as libmamba 2 has it in its cache; undefined: no address of a package. */
const placeOf = (address: unknown): string | undefined => {
  if (typeof address !== 'string' || !URL.canParse(address)) return undefined;
  const { protocol, host, pathname } = new URL(address);
  const path = `${protocol.slice(0, -1)}/${host.replace(':', '_')}${pathname}`;
  const isPlain = path.length < 1000 && /^https?(?:\/[\w.~@+!%-]+){3,}$/.test(path) && !path.split('/').some((part) => /^\.+$/.test(part));
  return isPlain && FILE.test(basename(path)) ? path : undefined;
};

const MAX_URLS = 16 * 1024 * 1024;

/** `urls.txt` has the address of everything that was put there. A link of the step's leads nowhere. */
const takeArchives = async (own: string, directory: string): Promise<void> => {
  const top = await realpath(own);
  const list = await lstat(join(own, 'urls.txt')).catch(() => undefined);
  if (list?.isFile() !== true || list.size > MAX_URLS) return;
  for (const address of (await readFile(join(own, 'urls.txt'), 'utf8')).split('\n')) {
    const place = placeOf(address.trim());
    if (place === undefined) continue;
    for (const path of [join(top, basename(place)), join(top, place)]) {
      const isPlain = (await realpath(path).catch(() => undefined)) === path && (await lstat(path)).isFile();
      if (!isPlain || !(await isReadable(path))) continue;
      await mkdir(dirname(join(directory, place)), { recursive: true });
      await putFile(path, join(directory, place));
    }
  }
};

const isReadable = (path: string): Promise<boolean> =>
  access(path, constants.R_OK).then(
    () => true,
    () => false,
  );

/** What conda-meta says of this environment, and not of the package. */
const OF_ENVIRONMENT = new Set(
  ['app', 'extracted_package_dir', 'files', 'link', 'package_tarball_full_path', 'paths_data', 'requested_spec', 'requested_specs'].concat([
    'auth',
    'channel',
    'fn',
    'url',
  ]),
);

/** After a step: of each package that it installed, the archive and the record. What cannot be fetched a second time is not kept. */
export const keepCondaPackages = async (directory: string, documents: readonly CondaDocument[], fetch: Fetch): Promise<void> => {
  for (const document of documents) {
    const place = placeOf(document['url']);
    const digest = digestIn(document);
    if (place === undefined || digest === undefined) continue;
    const path = join(directory, place);
    await mkdir(dirname(path), { recursive: true });
    if (!(await fetchInto(path, String(document['url']), digest, fetch))) continue;
    const record = Object.fromEntries(Object.entries(document).filter(([name]) => !OF_ENVIRONMENT.has(name)));
    await writeFile(`${path}.json`, `${JSON.stringify({ url: document['url'], record }, undefined, 1)}\n`);
  }
};

const digestIn = ({ sha256, md5 }: CondaDocument): string | undefined => {
  if (typeof sha256 === 'string' && /^[0-9a-f]{64}$/.test(sha256)) return `sha256:${sha256}`;
  return typeof md5 === 'string' && /^[0-9a-f]{32}$/.test(md5) ? `md5:${md5}` : undefined;
};

// --- using

type KeptRecord = { readonly place: string; readonly url: string; readonly record: CondaDocument };

const keptRecords = async (directory: string): Promise<readonly KeptRecord[]> => {
  const paths = (await readdir(directory, { recursive: true }).catch(() => [])).filter((path) => path.endsWith('.json')).sort();
  return Promise.all(
    paths.map(async (path) => ({ place: path.slice(0, -5), ...JSON.parse(await readFile(join(directory, path), 'utf8')) }) as KeptRecord),
  );
};

/** The directory for packages as each of the programs expects it. */
const layOut = async (records: readonly KeptRecord[], own: string): Promise<void> => {
  const cache = join(own, 'cache');
  await openDirectory(cache);
  await writeFile(join(own, 'urls.txt'), records.map(({ url }) => `${url}\n`).join(''));
  await chmod(join(own, 'urls.txt'), 0o666);
  for (const { place } of records) {
    for (let above = dirname(place); above !== '.'; above = dirname(above)) await openDirectory(join(own, above));
    await symlink(join(KEPT, place), join(own, place));
    // Up to libmamba 2.4, and in conda: without the channel. Of two with one name, the first.
    await symlink(join(KEPT, place), join(own, basename(place))).catch(() => undefined);
  }
  for (const [channel, ofChannel] of Map.groupBy(records, ({ url }) => dirname(dirname(url))))
    for (const subdir of new Set(['noarch', ...ofChannel.map(({ url }) => basename(dirname(url)))])) {
      const packages = ofChannel.filter(({ url }) => basename(dirname(url)) === subdir);
      for (const name of [channel, new URL(channel).pathname.slice(1)])
        await writeIndex(cache, `${name}/${subdir}`, channel, subdir, packages);
    }
};

/** Any: an index is as old as it is. Whole seconds are what all file systems keep. */
const TIME = 1_500_000_000;

/** @param named by what a program calls it: its address, or the channel as it is known without one */
const writeIndex = async (
  cache: string,
  named: string,
  channel: string,
  subdir: string,
  packages: readonly KeptRecord[],
): Promise<void> => {
  const ending = (suffix: string): object =>
    Object.fromEntries(packages.filter(({ place }) => place.endsWith(suffix)).map(({ place, record }) => [basename(place), record]));
  const state = { url: `${channel}/${subdir}`, etag: '', mod: '', cache_control: '' };
  // Until conda 22.11 and libmamba 1.4 the state stood in the index, before everything else.
  const old = Object.fromEntries(Object.entries(state).map(([name, value]) => [`_${name}`, value]));
  const index = { ...old, info: { subdir }, packages: ending('.tar.bz2'), 'packages.conda': ending('.conda'), repodata_version: 1 };
  const text = JSON.stringify(index);
  const path = join(cache, createHash('md5').update(`${named}/`).digest('hex').slice(0, 8));
  await writeFile(`${path}.json`, text);
  await utimes(`${path}.json`, TIME, TIME);
  for (const suffix of ['.info.json', '.state.json']) {
    await writeFile(`${path}${suffix}`, JSON.stringify({ ...state, size: Buffer.byteLength(text), mtime_ns: TIME * 1e9 }));
    await chmod(`${path}${suffix}`, 0o666);
  }
};

/** @param directory DIR/conda. Returns the digest of a package's archive */
export const keptCondas = async (directory: string): Promise<(each: Package) => string | undefined> => {
  const digests = new Map<string, string>();
  for (const { place } of await keptRecords(directory)) digests.set(place, await digestOfFile(join(directory, place)));
  return ({ from, place = '' }) => (/\/\.pixi\//.test(place) ? undefined : digests.get(placeOf(from) ?? ''));
};
