/**
 * Digests and descriptors: how OCI documents point at each other (image-spec, descriptor.md).
 * Pure: used by the planner, the store, the registry client and the converter.
 */
import { TsrunError } from '../util/errors.ts';

export type DigestAlgorithm = 'sha256' | 'sha512';

/** `sha256:` + 64 or `sha512:` + 128 lower-case hex digits; made only by `parseDigest` or by hashing. */
export type Digest = `${DigestAlgorithm}:${string}`;

export type Descriptor = {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes of the blob as stored (compressed), a safe integer ≥ 0. */
  readonly size: number;
  readonly urls?: readonly string[] | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  readonly artifactType?: string | undefined;
  /** Only on entries of an index. */
  readonly platform?: Platform | undefined;
};

/** GOOS / GOARCH words, as everywhere in OCI. */
export type Platform = {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string | undefined;
};

const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

export const isDigest = (text: string): text is Digest => DIGEST.test(text);

/** @throws TsrunError E_DIGEST when `text` is not a digest tsrun can check. */
export const parseDigest = (text: string): Digest => {
  if (isDigest(text)) return text;
  throw new TsrunError({
    code: 'E_DIGEST',
    what: `cannot use digest ${JSON.stringify(text.slice(0, 200))}`,
    why: 'expected sha256: and 64, or sha512: and 128 lower-case hex digits',
  });
};

export const digestAlgorithm = (digest: Digest): DigestAlgorithm => (digest.startsWith('sha256:') ? 'sha256' : 'sha512');

export const digestHex = (digest: Digest): string => digest.slice(digest.indexOf(':') + 1);
