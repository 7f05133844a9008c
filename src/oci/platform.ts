/**
 * Which image of an index fits a machine: OCI words for architectures, their variants, and the choice.
 * Rule for variants: an older variant of the same architecture runs on a newer machine, never the other way round.
 */
import { TsrunError } from '../util/errors.ts';
import type { Descriptor, Platform } from './descriptor.ts';

/** What people and `uname -m` say → OCI. */
const SPELLINGS: Readonly<Record<string, { architecture: string; variant?: string }>> = {
  x86_64: { architecture: 'amd64' },
  x64: { architecture: 'amd64' },
  aarch64: { architecture: 'arm64' },
  i386: { architecture: '386' },
  i686: { architecture: '386' },
  ia32: { architecture: '386' },
  armhf: { architecture: 'arm', variant: 'v7' },
  armv7l: { architecture: 'arm', variant: 'v7' },
  armv6l: { architecture: 'arm', variant: 'v6' },
  armv8l: { architecture: 'arm', variant: 'v7' },
  loongarch64: { architecture: 'loong64' },
  armel: { architecture: 'arm', variant: 'v5' },
};

/** OCI architectures of Linux (Go's list); other words are more likely a slip than a machine. */
const ARCHITECTURES = [
  '386',
  'amd64',
  'arm',
  'arm64',
  'loong64',
  'mips',
  'mips64',
  'mips64le',
  'mipsle',
  'ppc64',
  'ppc64le',
  'riscv64',
  's390x',
];

/**
 * `arm64`, `arm/v7`, `linux/amd64/v3`, or a `uname -m` word.
 * @throws TsrunError E_PLATFORM for words that are no platform.
 */
export const parsePlatform = (text: string): Platform => {
  const parts = text.toLowerCase().split('/');
  const os = parts[0] === 'linux' ? parts.shift() : 'linux';
  const [word = '', variant] = parts;
  const known = Object.hasOwn(SPELLINGS, word) ? SPELLINGS[word] : undefined;
  const architecture = known?.architecture ?? word;
  if (parts.length > 2 || os === undefined || !ARCHITECTURES.includes(architecture) || variant === '') {
    throw new TsrunError({
      code: 'E_PLATFORM',
      what: `cannot use architecture ${JSON.stringify(text.slice(0, 100))}`,
      why: 'it is not a known Linux architecture',
      hint: `known: ${ARCHITECTURES.join(' ')}, with a variant as in arm/v7`,
    });
  }
  const chosen = variant ?? known?.variant;
  return { os: 'linux', architecture, ...(chosen === undefined ? {} : { variant: chosen }) };
};

/** `linux/arm/v7`. */
export const formatPlatform = (platform: Platform): string =>
  [platform.os || '?', platform.architecture || '?', ...(platform.variant === undefined ? [] : [platform.variant])].join('/');

/**
 * How well an image for `offered` runs on `wanted`: the higher the better, `undefined` if it does not.
 * Without a variant in `wanted`, arm means v7 and arm64 v8; amd64 means the baseline, so v2…v4 images (which may not start) are left out.
 */
export const platformFit = (offered: Platform, wanted: Platform): number | undefined => {
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return undefined;
  const limit = level(wanted.variant) ?? DEFAULT_LEVEL[wanted.architecture];
  const value = offered.variant === undefined ? BASE_LEVEL[wanted.architecture] : level(offered.variant);
  if (limit === undefined || value === undefined)
    return offered.variant === wanted.variant ? 1 : offered.variant === undefined ? 0 : undefined;
  return value <= limit ? value : undefined;
};

/** `v7` → 7; `v8.1` → 8.1. */
const level = (variant: string | undefined): number | undefined => {
  const digits = /^v(\d{1,3}(?:\.\d{1,3})?)$/.exec(variant ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
};

/** What a machine of this architecture can be taken to run. */
const DEFAULT_LEVEL: Readonly<Record<string, number>> = { amd64: 1, arm: 7, arm64: 8 };
/** What an image without a variant needs. For arm that is unknown: any named variant that fits is preferred. */
const BASE_LEVEL: Readonly<Record<string, number>> = { amd64: 1, arm: 0, arm64: 8 };

export type PlatformChoice = {
  /** Best first; equal fits in the order of the index. */
  readonly fitting: readonly Descriptor[];
  /** Entries that say nothing of their platform (nested indexes, lone manifests): to be looked into when nothing fits. */
  readonly unlabelled: readonly Descriptor[];
  /** For the error: every platform that is on offer. */
  readonly offered: readonly string[];
};

export const choosePlatform = (entries: readonly Descriptor[], wanted: Platform): PlatformChoice => {
  const images = entries.filter((entry) => !isAttestation(entry));
  const labelled = images.filter((entry) => entry.platform !== undefined);
  const fitting = labelled
    .map((entry) => ({ entry, fit: entry.platform === undefined ? undefined : platformFit(entry.platform, wanted) }))
    .filter((candidate): candidate is { entry: Descriptor; fit: number } => candidate.fit !== undefined)
    .sort((a, b) => b.fit - a.fit)
    .map(({ entry }) => entry);
  return {
    fitting,
    unlabelled: images.filter((entry) => entry.platform === undefined),
    offered: [...new Set(labelled.flatMap((entry) => (entry.platform === undefined ? [] : [formatPlatform(entry.platform)])))],
  };
};

/** BuildKit keeps provenance beside the images, as entries for the platform unknown/unknown. */
const isAttestation = (entry: Descriptor): boolean =>
  entry.annotations?.['vnd.docker.reference.type'] !== undefined ||
  entry.platform?.architecture === 'unknown' ||
  entry.platform?.os === 'unknown';

/** @throws TsrunError E_PLATFORM, always. */
export const refusePlatform = (name: string, wanted: Platform, offered: readonly string[]): never => {
  const shown = offered.slice(0, 30).map((platform) => platform.slice(0, 60));
  throw new TsrunError({
    code: 'E_PLATFORM',
    what: `cannot use ${name} on ${formatPlatform(wanted)}`,
    why: shown.length === 0 ? 'the image names no platform' : `the image is there for ${shown.join(', ')}`,
    hint: shown.length === 0 ? undefined : 'choose another image, or one of these with --arch to build it for another machine',
  });
};
