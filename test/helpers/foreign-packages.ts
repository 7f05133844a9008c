/** Packages and indexes of other distributions' tools, in their real formats. */
import { createHash, createSign, type KeyObject } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { makeTar, type TestEntry } from './layers.ts';
import { zipOf } from './wheel.ts';

export type TestPackage = {
  readonly name: string;
  readonly version: string;
  readonly depends?: readonly string[];
  readonly files: readonly TestEntry[];
};

/** A tar without its end, as `abuild-tar --cut` leaves it. */
const cut = (entries: readonly TestEntry[]): Buffer => makeTar(entries).subarray(0, -1024);

const signed = (stream: Buffer, key: KeyObject): Buffer => {
  const content = createSign('sha1').update(stream).sign(key);
  return Buffer.concat([gzipSync(cut([{ path: '.SIGN.RSA.test.rsa.pub', content }])), stream]);
};

/** apk-v2(5): three gzip streams: signature, control section, data. */
export const apkOf = (each: TestPackage, key: KeyObject): { readonly bytes: Buffer; readonly control: Buffer } => {
  const data = gzipSync(makeTar(each.files));
  const fields = [
    `pkgname = ${each.name}`,
    `pkgver = ${each.version}`,
    'arch = x86_64',
    `datahash = ${createHash('sha256').update(data).digest('hex')}`,
  ];
  const control = gzipSync(cut([{ path: '.PKGINFO', content: `${fields.join('\n')}\n` }]));
  return { bytes: Buffer.concat([signed(control, key), data]), control };
};

/** APKINDEX.tar.gz of them. */
export const apkIndexOf = (packages: readonly TestPackage[], key: KeyObject): Buffer => {
  const stanza = (each: TestPackage): string => {
    const { bytes, control } = apkOf(each, key);
    const checksum = createHash('sha1').update(control).digest('base64');
    const fields = { C: `Q1${checksum}`, P: each.name, V: each.version, A: 'x86_64', S: bytes.length, I: 4096, T: 'a package' };
    const lines = [...Object.entries(fields).map(([field, value]) => `${field}:${value}`), `D:${(each.depends ?? []).join(' ')}`];
    return `${lines.join('\n')}\n\n`;
  };
  return signed(
    gzipSync(
      makeTar([
        { path: 'DESCRIPTION', content: 'a repository' },
        { path: 'APKINDEX', content: packages.map(stanza).join('') },
      ]),
    ),
    key,
  );
};

/** A .conda (conda-package-handling, "new format"): a zip of two tars, compressed with zstd. */
export const condaOf = (
  { name, version, depends = [], files }: TestPackage,
  subdir: string,
): { readonly fn: string; readonly bytes: Buffer } => {
  const stem = `${name}-${version}-0`;
  const index = { name, version, build: '0', build_number: 0, depends, subdir };
  const info = makeTar([
    { path: 'info/', type: 'dir' },
    { path: 'info/index.json', content: JSON.stringify(index) },
  ]);
  const bytes = zipOf({
    'metadata.json': '{"conda_pkg_format_version": 2}',
    [`pkg-${stem}.tar.zst`]: zstdCompressSync(makeTar(files)),
    [`info-${stem}.tar.zst`]: zstdCompressSync(info),
  });
  return { fn: `${stem}.conda`, bytes };
};

/** What `repodata.json` says of a file. */
export const condaRecord = ({ name, version, depends = [] }: TestPackage, bytes: Buffer, subdir: string): object => ({
  ...{ name, version, build: '0', build_number: 0, depends, subdir, timestamp: 1_600_000_000_000, license: 'MIT' },
  ...{ size: bytes.length, md5: createHash('md5').update(bytes).digest('hex'), sha256: createHash('sha256').update(bytes).digest('hex') },
});
