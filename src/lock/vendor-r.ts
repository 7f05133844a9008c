/**
 * What R fetched, kept in DIR/r under its addresses: the lists of packages and the packages that `install.packages` and its kin take from a repository,
 * and all else that `download.file` is asked for.
 *
 * R_PROFILE names a file that R reads as it starts, here one that puts a function around utils::download.file, and then does what the image's own
 * would have done. Building from DIR, that function answers from there.
 */
import { constants, existsSync } from 'node:fs';
import { access, chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOfFile } from './digest.ts';
import { putFile } from './kept-files.ts';
import type { Package } from './packages.ts';
import type { StepSupply, SupplyMount, ToolSupply, Vendor } from './vendor.ts';

/** Inside, in the memory-backed directory of the step. */
const PROFILE = '/dev/.tsrun-r';
const FILES = '/dev/.tsrun-r-files';
/** A variable: the file that R would have read. */
const OWN_PROFILE = 'TSRUN_R_PROFILE';

export const rSupply = async (purpose: Vendor['purpose'], directory: string, scratch: string): Promise<ToolSupply> => {
  const [own, fetched] = [join(scratch, 'r'), join(scratch, 'r-files')];
  if (purpose === 'use' && !existsSync(directory)) return {};
  for (const each of [own, fetched]) await mkdir(each);
  await writeFile(join(own, 'profile'), profile(purpose));
  const environment: StepSupply['environment'] = (own) =>
    new Map([
      ['R_PROFILE', `${PROFILE}/profile`],
      [OWN_PROFILE, own.get('R_PROFILE') ?? ''],
    ]);
  const mounts = (source: string, why: string): readonly SupplyMount[] => [
    { source: own, target: PROFILE, readOnly: true, why },
    { source, target: FILES, readOnly: purpose === 'use', why },
  ];
  if (purpose === 'use') return { mounts: mounts(directory, 'packages kept before (--offline)'), environment };
  // Any user of the step may install packages.
  await chmod(fetched, 0o777);
  return { mounts: mounts(fetched, 'what R fetches is kept (--vendor)'), environment, ended: () => keep(fetched, directory) };
};

/** Names of files are addresses, with all but letters, digits and ._~- quoted by "%". */
const profile = (purpose: Vendor['purpose']): string => `local({
  nameOf <- function(url) file.path("${FILES}", vapply(url, utils::URLencode, "", reserved = TRUE, repeated = TRUE, USE.NAMES = FALSE))
  around <- function(fetch) {
    force(fetch)
    ${purpose === 'keep' ? KEEP : USE}
  }
  put <- function(...) {
    space <- asNamespace("utils")
    fetch <- get("download.file", space)
    unlockBinding("download.file", space)
    assign("download.file", around(fetch), space)
    lockBinding("download.file", space)
  }
  if ("utils" %in% loadedNamespaces()) put() else setHook(packageEvent("utils", "onLoad"), put)
})
local({
  own <- Sys.getenv("${OWN_PROFILE}")
  if (own == "") own <- file.path(R.home("etc"), "Rprofile.site")
  if (file.exists(own)) sys.source(own, baseenv())
})
`;

const KEEP = `function(url, destfile, ...) {
    status <- fetch(url, destfile, ...)
    suppressWarnings(file.copy(path.expand(destfile), nameOf(url), overwrite = TRUE))
    invisible(status)
  }`;

const USE = `function(url, destfile, ...) {
    kept <- nameOf(url)
    there <- file.exists(kept)
    if (!any(there)) return(fetch(url, destfile, ...))
    file.copy(kept[there], path.expand(destfile)[there], overwrite = TRUE)
    invisible(0L)
  }`;

/** Of an address of the network. */
const NAME = /^(?:https?|ftp)%3A%2F%2F[A-Za-z0-9%._~-]{1,240}$/i;

/** What another user of the step has closed is not kept: the lock will name the package. */
const keep = async (fetched: string, directory: string): Promise<void> => {
  const entries = (await readdir(fetched, { withFileTypes: true })).filter((entry) => entry.isFile() && NAME.test(entry.name));
  if (entries.length > 0) await mkdir(directory, { recursive: true });
  for (const { name } of entries) {
    const isOpen = await access(join(fetched, name), constants.R_OK).then(
      () => true,
      () => false,
    );
    if (isOpen) await putFile(join(fetched, name), join(directory, name));
  }
};

const ARCHIVE = /%2F(?<name>[A-Za-z][A-Za-z0-9.]*)_(?<version>[0-9][0-9.-]*)\.(?:tar\.gz|tgz)$/i;

/** @param directory DIR/r. Returns the digest of a package's archive */
export const keptRArchives = async (directory: string): Promise<(each: Package) => string | undefined> => {
  const digests = new Map<string, string>();
  for (const file of (await readdir(directory).catch(() => [])).sort()) {
    const { name, version } = ARCHIVE.exec(file)?.groups ?? {};
    if (name !== undefined) digests.set(`${name} ${version}`, await digestOfFile(join(directory, file)));
  }
  return ({ name, version }) => digests.get(`${name} ${version}`);
};
