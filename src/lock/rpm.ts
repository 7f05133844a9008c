/**
 * Packages of an rpm database. Each package is a header: index entries (tag, type, offset, count; big-endian), then a store of values
 * (rpm's lib/header.cc; tags in rpmtag.h). Databases are SQLite files since rpm 4.16; older kinds are left to `rpm -qa` in the image.
 */
import type { Package } from './packages.ts';

/** Newest place first. */
export const RPM_DATABASES = ['/usr/lib/sysimage/rpm/rpmdb.sqlite', '/var/lib/rpm/rpmdb.sqlite'] as const;
/** Of other kinds: there are packages, and we cannot read which. */
export const OTHER_RPM_DATABASES = ['/usr/lib/sysimage/rpm/Packages.db', '/var/lib/rpm/Packages.db', '/var/lib/rpm/Packages'] as const;

const MAX_PACKAGES = 100_000;
const MAX_ENTRIES = 65_536;
const MAX_TEXT = 4096;
const ENTRY = 16;

const TAG = { sha256header: 273, name: 1000, version: 1001, release: 1002, epoch: 1003, arch: 1022 } as const;
const INT32 = 4;

/** @param file a copy on the host. @throws Error of SQLite when it is no database */
export const rpmPackages = async (file: string): Promise<readonly Package[]> => {
  const { DatabaseSync } = await import('node:sqlite');
  const database = new DatabaseSync(file, { readOnly: true, enableForeignKeyConstraints: false });
  try {
    const rows = database.prepare('SELECT blob FROM Packages LIMIT ?').all(MAX_PACKAGES);
    return rows.flatMap(({ blob }) => (blob instanceof Uint8Array ? packageOf(Buffer.from(blob)) : []));
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
