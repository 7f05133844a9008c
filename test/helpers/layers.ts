/** Makes layers and OCI layouts of our own for tests: a small tar writer, gzip and zstd, digests, an index. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';

/** Names are byte strings. */
export type TestEntry = {
  readonly path: string;
  readonly type?: 'file' | 'dir' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';
  readonly content?: Uint8Array | string;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly device?: readonly [number, number];
  readonly xattrs?: Readonly<Record<string, string>>;
  /** Further PAX records, as they are. */
  readonly pax?: Readonly<Record<string, string>>;
};

const FLAGS = { file: '0', hardlink: '1', symlink: '2', char: '3', block: '4', dir: '5', fifo: '6' } as const;

const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, '0')}\0`;

export type RawHeader = {
  readonly name: string;
  readonly flag: string;
  readonly size: number;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly device?: readonly [number, number];
  readonly magic?: string;
};

/** One header block with a right checksum. */
export const tarHeader = (raw: RawHeader): Buffer => {
  const block = Buffer.alloc(512);
  const put = (text: string, at: number): number => block.write(text, at, 'latin1');
  put(raw.name.slice(0, 100), 0);
  put(octal(raw.mode ?? 0o644, 8), 100);
  put(octal(raw.uid ?? 0, 8), 108);
  put(octal(raw.gid ?? 0, 8), 116);
  put(octal(raw.size, 12), 124);
  put(octal(raw.mtime ?? 0, 12), 136);
  put(raw.flag, 156);
  put((raw.link ?? '').slice(0, 100), 157);
  put(raw.magic ?? 'ustar\x0000', 257);
  const [major, minor] = raw.device ?? [0, 0];
  put(octal(major, 8), 329);
  put(octal(minor, 8), 337);
  return withChecksum(block);
};

export const withChecksum = (block: Buffer): Buffer => {
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
};

export const padded = (data: Uint8Array): Buffer => Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);

const paxRecord = (key: string, value: string): string => {
  const body = ` ${key}=${value}\n`;
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return `${length}${body}`;
};

export const paxHeader = (records: Readonly<Record<string, string>>, flag = 'x'): Buffer => {
  const data = Buffer.from(
    Object.entries(records)
      .map(([key, value]) => paxRecord(key, value))
      .join(''),
    'latin1',
  );
  return Buffer.concat([tarHeader({ name: 'pax', flag, size: data.length }), padded(data)]);
};

export const tarEntry = (entry: TestEntry): Buffer => {
  const type = entry.type ?? 'file';
  const content = type === 'file' ? Buffer.from(entry.content ?? '') : Buffer.alloc(0);
  const pax: Record<string, string> = { ...entry.pax };
  if (entry.path.length > 100) pax['path'] = entry.path;
  if ((entry.link ?? '').length > 100) pax['linkpath'] = entry.link ?? '';
  for (const [name, value] of Object.entries(entry.xattrs ?? {})) pax[`SCHILY.xattr.${name}`] = value;
  const header = tarHeader({
    name: entry.path,
    flag: FLAGS[type],
    size: content.length,
    link: entry.link ?? '',
    mode: entry.mode ?? (type === 'dir' ? 0o755 : 0o644),
    uid: entry.uid ?? 0,
    gid: entry.gid ?? 0,
    mtime: entry.mtime ?? 1_600_000_000,
    ...(entry.device === undefined ? {} : { device: entry.device }),
  });
  const blocks = [header, padded(content)];
  return Buffer.concat(Object.keys(pax).length > 0 ? [paxHeader(pax), ...blocks] : blocks);
};

export const TAR_END: Buffer = Buffer.alloc(1024);

export const makeTar = (entries: readonly TestEntry[]): Buffer => Buffer.concat([...entries.map(tarEntry), TAR_END]);

export const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export type Compression = 'none' | 'gzip' | 'zstd';

const MEDIA_TYPES: Readonly<Record<Compression, string>> = {
  none: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
};

export type LayoutImage = {
  /** Tars, base first. */
  readonly layers: readonly Buffer[];
  readonly compression?: Compression;
  /** The `config` part of the image config. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly architecture?: string;
  readonly tag?: string;
};

const compress = (tar: Buffer, compression: Compression): Buffer =>
  compression === 'gzip' ? gzipSync(tar, { level: 1 }) : compression === 'zstd' ? zstdCompressSync(tar) : tar;

type Described = { readonly mediaType: string; readonly digest: string; readonly size: number };

/** Writes an OCI layout with one image; returns the descriptors of its parts. */
export const writeLayout = (
  directory: string,
  image: LayoutImage,
): { readonly manifest: Described; readonly layers: readonly Described[] } => {
  const compression = image.compression ?? 'gzip';
  mkdirSync(join(directory, 'blobs/sha256'), { recursive: true });
  const put = (bytes: Uint8Array, mediaType: string): Described => {
    const digest = sha256(bytes);
    writeFileSync(join(directory, 'blobs/sha256', digest.slice(7)), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const layers = image.layers.map((tar) => put(compress(tar, compression), MEDIA_TYPES[compression]));
  const config = {
    architecture: image.architecture ?? 'amd64',
    os: 'linux',
    created: '2021-02-03T04:05:06Z',
    config: image.config ?? {},
    rootfs: { type: 'layers', diff_ids: image.layers.map(sha256) },
  };
  const configBlob = put(Buffer.from(JSON.stringify(config)), 'application/vnd.oci.image.config.v1+json');
  const manifest = put(
    Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json', config: configBlob, layers })),
    'application/vnd.oci.image.manifest.v1+json',
  );
  writeFileSync(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const annotations = { 'org.opencontainers.image.ref.name': image.tag ?? 'latest' };
  writeFileSync(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [{ ...manifest, annotations }] }));
  return { manifest, layers };
};
