/**
 * A layer as a stream of tar bytes: read, checked against its digest, decompressed by what it is (not only by what its media type says),
 * checked against its diffID. Nothing after a mismatch is believed: the error comes before the stream ends.
 */
import { createHash, type Hash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { TarHandler } from '../tar/read.ts';
import { TsrunError } from '../util/errors.ts';
import { type Digest, digestAlgorithm } from './descriptor.ts';
import { type Limits, limitError, RATIO_FREE_BYTES } from './limits.ts';
import { layerCompression } from './media-types.ts';
import { DECODER_OPTIONS, ZstdFormatError, zstdDecode } from './zstd.ts';

export type LayerSource = {
  /** For messages: "layer 2 of 5 (sha256:0123456789ab)". */
  readonly label: string;
  /** `undefined`: only the bytes themselves tell (a tar file, an archive of `docker save`). */
  readonly mediaType: string | undefined;
  /** Of the bytes as stored; `undefined` when nobody promised one, or it has been checked already. */
  readonly digest: Digest | undefined;
  /** Stored bytes; `undefined` when unknown. */
  readonly size: number | undefined;
  /** Of the uncompressed tar. */
  readonly diffId: Digest | undefined;
  /** False for a pipe: it can be read once. */
  readonly reopenable: boolean;
  /** Changes entries on their way into the image; the same each time. */
  readonly through?: ((next: TarHandler) => TarHandler) | undefined;
  open(): AsyncIterable<Uint8Array>;
};

/** A layer of which only its bytes tell. */
export const NOTHING_PROMISED = {
  mediaType: undefined,
  digest: undefined,
  size: undefined,
  diffId: undefined,
  reopenable: true,
} as const satisfies Partial<LayerSource>;

type Compression = 'none' | 'gzip' | 'zstd';

const CHUNK = 1 << 20;

/**
 * @param name of the image, for errors
 * @param onBytes told of stored bytes as they are read, for progress
 * @throws TsrunError E_LAYER, E_DIGEST_MISMATCH, E_LIMIT, and what `open` throws
 */
export async function* layerTar(
  layer: LayerSource,
  name: string,
  limits: Limits,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const stored = { bytes: 0 };
  const checked = checkedBytes(layer.open(), layer, name, (length) => {
    stored.bytes += length;
    onBytes(length);
  });
  const diff = layer.diffId === undefined ? undefined : createHash(digestAlgorithm(layer.diffId));
  let bytes = 0;
  try {
    for await (const chunk of decoded(checked, layer, name)) {
      bytes += chunk.length;
      if (bytes > RATIO_FREE_BYTES && bytes > stored.bytes * limits.ratio) {
        throw limitError(name, `${layer.label} unpacks to more than ${limits.ratio} times its size`, '--limit-ratio');
      }
      diff?.update(chunk);
      yield chunk;
    }
  } catch (error) {
    throw explain(error, layer, name);
  }
  if (diff !== undefined && layer.diffId !== undefined) requireDigest(diff, layer.diffId, layer, name, 'unpacked content');
}

async function* checkedBytes(
  source: AsyncIterable<Uint8Array>,
  layer: LayerSource,
  name: string,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  const hash = layer.digest === undefined ? undefined : createHash(digestAlgorithm(layer.digest));
  let size = 0;
  for await (const chunk of source) {
    size += chunk.length;
    if (layer.size !== undefined && size > layer.size)
      throw damaged(layer, name, `it has more than the ${layer.size} bytes of its descriptor`);
    hash?.update(chunk);
    onBytes(chunk.length);
    yield chunk;
  }
  if (layer.size !== undefined && size < layer.size) throw damaged(layer, name, `it is cut off: ${size} of ${layer.size} bytes`);
  if (hash !== undefined && layer.digest !== undefined) requireDigest(hash, layer.digest, layer, name, 'content');
}

const decoded = async function* (source: AsyncIterable<Uint8Array>, layer: LayerSource, name: string): AsyncGenerator<Uint8Array> {
  const { head, all } = await peek(source, 512);
  const compression = compressionOf(head, layer, name);
  switch (compression) {
    case 'none':
      yield* all;
      return;
    case 'gzip':
      yield* gunzip(all);
      return;
    case 'zstd':
      yield* zstdDecode(all);
      return;
    default:
      compression satisfies never;
  }
};

async function* gunzip(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const decoder = createGunzip(DECODER_OPTIONS);
  const input = Readable.from(source, { objectMode: false, highWaterMark: CHUNK });
  input.on('error', (error) => decoder.destroy(error));
  try {
    yield* input.pipe(decoder) as AsyncIterable<Buffer>;
  } finally {
    input.destroy();
  }
}

/** The first bytes of a stream, and the whole stream again. */
const peek = async (source: AsyncIterable<Uint8Array>, length: number): Promise<{ head: Buffer; all: AsyncIterable<Uint8Array> }> => {
  const iterator = source[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  for (let size = 0; size < length; ) {
    const next = await iterator.next();
    if (next.done === true) break;
    first.push(next.value);
    size += next.value.length;
  }
  const all = async function* (): AsyncGenerator<Uint8Array> {
    try {
      yield* first;
      yield* { [Symbol.asyncIterator]: () => iterator };
    } finally {
      // Whoever stops reading at the first bytes has not met the source yet, which has to be let go.
      await iterator.return?.();
    }
  };
  return { head: Buffer.concat(first).subarray(0, length), all: all() };
};

/** Magic numbers decide; a media type is only believed where it agrees, since registries hold layers of the wrong name. */
const compressionOf = (head: Buffer, layer: LayerSource, name: string): Compression => {
  const magic = magicOf(head);
  if (magic === 'gzip' || magic === 'zstd' || magic === 'none') return magic;
  if (magic !== undefined) {
    throw new TsrunError({
      code: 'E_LAYER',
      what: `cannot read ${layer.label} of ${name}`,
      why: `it is compressed with ${magic}, which image layers are not`,
      hint: `unpack it first: ${magic} -dc FILE | tsrun build OUT.sif -`,
    });
  }
  if (head.length === 0) return 'none';
  const said = layer.mediaType === undefined ? undefined : layerCompression(layer.mediaType);
  throw damaged(layer, name, said === undefined || said === 'none' ? 'it is no tar archive' : `it is neither ${said} nor a tar archive`);
};

const magicOf = (head: Buffer): Compression | 'xz' | 'bzip2' | 'lz4' | undefined => {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head.length >= 4) {
    const word = head.readUInt32LE(0);
    if (word === 0xfd2fb528 || (word & 0xfffffff0) >>> 0 === 0x184d2a50) return 'zstd';
    if (word === 0x184d2204) return 'lz4';
  }
  if (head.subarray(0, 6).equals(Buffer.from('\xfd7zXZ\0', 'latin1'))) return 'xz';
  if (head.subarray(0, 3).equals(Buffer.from('BZh'))) return 'bzip2';
  // A tar header starts with a name and has its magic at 257; old ones only have octal fields, which the reader's checksum decides.
  const looksLikeTar =
    head.length === 512 && (head.subarray(257, 262).equals(Buffer.from('ustar')) || /^[0-7 \0]+$/.test(head.toString('latin1', 148, 156)));
  return looksLikeTar ? 'none' : undefined;
};

const requireDigest = (hash: Hash, expected: Digest, layer: LayerSource, name: string, of: string): void => {
  const found = `${digestAlgorithm(expected)}:${hash.digest('hex')}`;
  if (found === expected) return;
  throw new TsrunError({
    code: 'E_DIGEST_MISMATCH',
    what: `cannot use ${layer.label} of ${name}`,
    why: `the digest of its ${of} is ${found}, not ${expected}`,
    hint: 'the image is damaged or was changed: fetch or make it again',
  });
};

const damaged = (layer: LayerSource, name: string, why: string): TsrunError =>
  new TsrunError({
    code: 'E_LAYER',
    what: `cannot read ${layer.label} of ${name}`,
    why,
    hint: 'the image is damaged or cut off: fetch or make it again',
  });

/** zlib's errors say nothing of layers. */
const explain = (error: unknown, layer: LayerSource, name: string): unknown => {
  if (error instanceof TsrunError) return error;
  if (error instanceof ZstdFormatError) return damaged(layer, name, error.message);
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (!/^Z_|^ZSTD_|^ERR_ZSTD/.test(code)) return error;
  const cut = code === 'Z_BUF_ERROR';
  return damaged(layer, name, cut ? 'the compressed data is cut off' : `the compressed data is damaged (${(error as Error).message})`);
};
