/**
 * Packages of an rpm database. Each package is a header: index entries (tag, type, offset, count; big-endian), then a store of values
 * (rpm's lib/header.cc; tags in rpmtag.h). Databases are SQLite files since rpm 4.16; for others see rpm-pages.ts.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { Package } from './packages.ts';
import { bdbHeaders, ndbHeaders } from './rpm-pages.ts';

/** Newest kind and place first. */
export const RPM_DATABASES = [
  '/usr/lib/sysimage/rpm/rpmdb.sqlite',
  '/var/lib/rpm/rpmdb.sqlite',
  '/usr/lib/sysimage/rpm/Packages.db',
  '/var/lib/rpm/Packages.db',
  '/var/lib/rpm/Packages',
] as const;

const MAX_PACKAGES = 100_000;
const MAX_ENTRIES = 65_536;
const MAX_TEXT = 4096;
const ENTRY = 16;

const TAG = { sha256header: 273, name: 1000, version: 1001, release: 1002, epoch: 1003, arch: 1022 } as const;
const INT32 = 4;

/** @param file a copy on the host. @throws Error when it is no database */
export const rpmPackages = async (file: string): Promise<readonly Package[]> => {
  const fd = openSync(file, 'r');
  try {
    const opened = { fd, size: fstatSync(fd).size };
    const headers = isSqlite(fd) ? await sqliteHeaders(file) : (ndbHeaders(opened) ?? bdbHeaders(opened));
    if (headers === undefined) throw new Error('it is no database that rpm makes');
    const packages: Package[] = [];
    let count = 0;
    for (const header of headers) {
      if (++count > MAX_PACKAGES) break;
      packages.push(...packageOf(header));
    }
    return packages;
  } finally {
    closeSync(fd);
  }
};

const isSqlite = (fd: number): boolean => {
  const head = Buffer.alloc(16);
  return readSync(fd, head, 0, 16, 0) === 16 && head.toString('latin1') === 'SQLite format 3\0';
};

/** @throws Error of SQLite when it is damaged */
const sqliteHeaders = async (file: string): Promise<readonly Buffer[]> => {
  const { DatabaseSync } = await import('node:sqlite');
  const database = new DatabaseSync(file, { readOnly: true, enableForeignKeyConstraints: false });
  try {
    const rows = database.prepare('SELECT blob FROM Packages LIMIT ?').all(MAX_PACKAGES);
    return rows.flatMap(({ blob }) => (blob instanceof Uint8Array ? [Buffer.from(blob)] : []));
  } finally {
    database.close();
  }
};

/** Exported for tests. */
export const packageOf = (header: Buffer): readonly Package[] => {
  const values = valuesOf(header);
  const [name, version, release] = [values.get(TAG.name), values.get(TAG.version), values.get(TAG.release)];
  // Keys that were imported are packages without files.
  if (name === undefined || version === undefined || release === undefined || name === 'gpg-pubkey') return [];
  const epoch = values.get(TAG.epoch);
  const digest = values.get(TAG.sha256header);
  return [
    {
      manager: 'rpm',
      name,
      version: `${epoch === undefined || epoch === '0' ? '' : `${epoch}:`}${version}-${release}`,
      architecture: values.get(TAG.arch),
      digest: digest === undefined ? undefined : `sha256:${digest}`,
    },
  ];
};

const WANTED: ReadonlySet<number> = new Set(Object.values(TAG));

/** The wanted tags as text; what lies outside of the header is passed over. */
const valuesOf = (header: Buffer): ReadonlyMap<number, string> => {
  const values = new Map<number, string>();
  if (header.length < 8) return values;
  const count = Math.min(header.readUInt32BE(0), MAX_ENTRIES);
  const store = 8 + count * ENTRY;
  if (store > header.length) return values;
  for (let at = 8; at < store; at += ENTRY) {
    const [tag, type, offset] = [header.readUInt32BE(at), header.readUInt32BE(at + 4), store + header.readUInt32BE(at + 8)];
    if (!WANTED.has(tag) || values.has(tag) || offset >= header.length) continue;
    if (type === INT32) {
      if (offset + 4 <= header.length) values.set(tag, String(header.readUInt32BE(offset)));
      continue;
    }
    const end = header.indexOf(0, offset);
    if (end >= 0 && end - offset <= MAX_TEXT) values.set(tag, header.toString('utf8', offset, end));
  }
  return values;
};
