/**
 * What pip fetched, kept in DIR/pip under the names of the files.
 *
 * `pip install` tells what it installed and from where when PIP_REPORT names a file (pip's "Installation Report", version 1; pip 22.2 and later), also
 * the build environments it makes for source distributions. Here that file is a pipe, so that every pip of a step is heard. What it names is fetched
 * again and checked against the hash it gives; neither pip's cache nor --no-cache-dir matters. Building from DIR, pip looks there and nowhere else.
 */
import { spawnSync } from 'node:child_process';
import { constants, existsSync, openSync, readSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { digestOfFile } from './digest.ts';
import { fetchInto } from './kept-files.ts';
import type { Package } from './packages.ts';
import type { Sources, ToolSupply, Vendor } from './vendor.ts';

/** Inside, in the memory-backed directory of the step. */
const INSIDE = '/dev/.tsrun-pip';

export const pipSupply = async (
  purpose: Vendor['purpose'],
  directory: string,
  scratch: string,
  { fetch, onLocal }: Sources,
): Promise<ToolSupply> => {
  if (purpose === 'use') {
    if (!existsSync(directory)) return {};
    return {
      mounts: [{ source: directory, target: INSIDE, readOnly: true, why: 'packages kept before (--offline)' }],
      environment: (own) =>
        new Map([
          ['PIP_NO_INDEX', '1'],
          ['PIP_FIND_LINKS', [INSIDE, own.get('PIP_FIND_LINKS')].join(' ').trim()],
        ]),
    };
  }
  const own = join(scratch, 'pip');
  await mkdir(own);
  const listener = listen(join(own, 'report'));
  if (listener === undefined) return {};
  return {
    mounts: [{ source: own, target: INSIDE, readOnly: false, why: 'what pip fetches is kept (--vendor)' }],
    environment: () => new Map([['PIP_REPORT', `${INSIDE}/report`]]),
    ended: async () => {
      const reports = listener.end();
      for (const each of localPackages(reports)) onLocal(each);
      const files = fetchedFiles(reports);
      if (files.length > 0) await mkdir(directory, { recursive: true });
      // What cannot be fetched a second time is not kept: the lock will name the package.
      for (const { name, address, digest } of files) await fetchInto(join(directory, name), address, digest, fetch);
    },
  };
};

/** Of a hundred thousand lines of METADATA in each; more is not pip's. */
const MAX_REPORTS = 256 * 1024 * 1024;

/** Undefined where no pipe can be made. */
const listen = (path: string): { readonly end: () => string } | undefined => {
  if (spawnSync('mkfifo', ['-m', '666', path]).status !== 0) return undefined;
  // Open for both: it has no end between two writers.
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const parts: Buffer[] = [];
  let bytes = 0;
  const take = (part: Buffer): void => {
    bytes += part.length;
    if (bytes <= MAX_REPORTS) parts.push(part);
  };
  const socket = new Socket({ fd, readable: true, writable: false });
  socket.on('error', () => undefined).on('data', take);
  return {
    end: () => {
      socket.pause();
      for (const part of rest(fd)) take(part);
      socket.destroy();
      return bytes > MAX_REPORTS ? '' : Buffer.concat(parts).toString('utf8');
    },
  };
};

/** What has been written and not been read yet. */
function* rest(fd: number): Generator<Buffer> {
  for (;;) {
    const part = Buffer.alloc(65_536);
    let length = 0;
    try {
      length = readSync(fd, part);
    } catch {
      return; // EAGAIN: it is empty.
    }
    if (length === 0) return;
    yield part.subarray(0, length);
  }
}

export type FetchedFile = { readonly name: string; readonly address: string; readonly digest: string | undefined };

/** Names that cannot lead elsewhere. */
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._+!-]{0,250}\.(?:whl|tar\.gz|tgz|tar\.bz2|zip)$/;

/** @param text installation reports, one after the other. Not those of files that lay there, nor of repositories. Exported for tests */
export const fetchedFiles = (text: string): readonly FetchedFile[] => [
  ...new Map(
    installed(text)
      .flatMap(fileOf)
      .map((file) => [file.name, file]),
  ).values(),
];

/** What was installed from files that lay there. Exported for tests */
export const localPackages = (text: string): readonly Pick<Package, 'manager' | 'name' | 'version'>[] =>
  installed(text).flatMap((item) => {
    const { download_info: download, metadata } = recordOf(item);
    const { url } = recordOf(download);
    const { name, version } = recordOf(metadata);
    const isLocal = typeof url === 'string' && url.startsWith('file:') && typeof name === 'string' && typeof version === 'string';
    return isLocal ? [{ manager: 'pip', name, version }] : [];
  });

/** Only the last brace of a report stands at the beginning of a line. */
const installed = (text: string): readonly unknown[] =>
  text
    .split(/(?<=\n\})(?=\{)/)
    .map(parsed)
    .flatMap((report) => listOf(recordOf(report)['install']));

const fileOf = (item: unknown): readonly FetchedFile[] => {
  const { download_info: download } = recordOf(item);
  const { url, archive_info: archive } = recordOf(download);
  if (typeof url !== 'string' || !URL.canParse(url) || !/^https?:/.test(url)) return [];
  const { hashes, hash } = recordOf(archive);
  const { sha256 } = recordOf(hashes);
  const hex = typeof sha256 === 'string' ? sha256 : typeof hash === 'string' ? /^sha256=(.*)$/.exec(hash)?.[1] : undefined;
  const name = decoded(new URL(url).pathname.replace(/^.*\//, ''));
  return FILE_NAME.test(name) ? [{ name, address: url, digest: hex === undefined ? undefined : `sha256:${hex}` }] : [];
};

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
};

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const recordOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** @param directory DIR/pip. Returns the digest of a package's archive */
export const keptDistributions = async (directory: string): Promise<(each: Package) => string | undefined> => {
  const digests = new Map<string, string>();
  for (const file of (await readdir(directory).catch(() => [])).sort())
    if (FILE_NAME.test(file)) digests.set(distributionKey(file), await digestOfFile(join(directory, file)));
  return ({ name, version }) => digests.get(`${normalName(name)} ${version}`);
};

/** NAME-VERSION-TAGS.whl, NAME-VERSION.tar.gz. */
const distributionKey = (file: string): string => {
  const stem = file.replace(/\.(?:whl|tar\.gz|tgz|tar\.bz2|zip)$/, '');
  const parts = file.endsWith('.whl')
    ? stem.split('-').slice(0, 2)
    : [stem.slice(0, stem.lastIndexOf('-')), stem.slice(stem.lastIndexOf('-') + 1)];
  return `${normalName(parts[0] ?? '')} ${parts[1] ?? ''}`;
};

/** "Simple repository API", normalized names. */
const normalName = (name: string): string => name.replace(/[-_.]+/g, '-').toLowerCase();
