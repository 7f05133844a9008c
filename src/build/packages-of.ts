/** Which packages an image file has: what inventory.ts finds, and rpm's database, which is read as a file of its own. */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { hostView } from '../image/host-view.ts';
import { findFile } from '../image/walk.ts';
import { findPackages } from '../lock/inventory.ts';
import { type Package, sortPackages } from '../lock/packages.ts';
import { RPM_DATABASES, rpmPackages } from '../lock/rpm.ts';
import type { Host } from '../util/host.ts';
import { contentsOf } from './native-stream.ts';
import { nativeView } from './native-view.ts';
import type { SquashFile } from './squash-file.ts';

export type Inventory = {
  readonly packages: readonly Package[];
  /** What could not be read, one sentence each. */
  readonly notes: readonly string[];
};

const MAX_DATABASE = 1024 * 1024 * 1024;

/** @throws TsrunError E_IMAGE_READ */
export const packagesOf = async (image: SquashFile): Promise<Inventory> => {
  const view = nativeView(image);
  const found = findPackages(view);
  const database = RPM_DATABASES.map((path) => findFile(view, path)).find((file) => file !== null);
  if (database !== undefined && database !== null && database.node.size <= MAX_DATABASE) {
    const rpm = await withCopy(contentsOf(image, [database.path]), rpmPackages);
    if (rpm !== undefined) return { packages: sortPackages([...found, ...rpm]), notes: [] };
    return { packages: found, notes: [`${database.path} cannot be read: its packages are not in the list`] };
  }
  return { packages: found, notes: [] };
};

/** Of the files that lie in a directory: an unpacked base, what a step has left. What its databases do not say as plain files is passed over. */
export const packagesIn = async (host: Host, directory: string): Promise<readonly Package[]> => {
  const view = hostView(host, directory);
  const database = RPM_DATABASES.find((path) => view.lstat(path)?.kind === 'file');
  // A copy: SQLite may want to write beside it.
  const rpm = database === undefined ? [] : await withCopy(createReadStream(Buffer.from(`${directory}${database}`, 'latin1')), rpmPackages);
  return [...findPackages(view), ...(rpm ?? [])];
};

/** Undefined when the work on it fails: the database is an image's, and may be anything. */
const withCopy = async <T>(content: AsyncIterable<Uint8Array>, work: (file: string) => Promise<T>): Promise<T | undefined> => {
  const directory = await mkdtemp(join(tmpdir(), 'tsrun-rpm-'));
  try {
    const file = join(directory, 'database');
    await pipeline(Readable.from(content, { objectMode: false }), createWriteStream(file));
    return await work(file).catch(() => undefined);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
};
