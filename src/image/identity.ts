/** What makes an image file the same one, and the names under which the store keeps what was made from it. */
import { fnv64 } from '../util/fnv.ts';
import type { Stat } from '../util/host.ts';

/**
 * The store's key for facts of an image file. Without the device number: on shared file systems it differs from node to node, and inode, size and
 * two times with nanoseconds say enough.
 */
export const fileKey = (stat: Pick<Stat, 'ino' | 'size' | 'mtime' | 'ctime'>): string =>
  `${stat.ino}-${stat.size}-${stat.mtime}-${stat.ctime}`;

/** The store's key for the SIF made from a registry image. @param digest "sha256:hex" of what the reference points at. */
export const registryImageKey = (digest: string, arch: string): string => `${digest.replace(':', '-')}-${arch}`;

/**
 * The store's key for the SIF made from a local archive or layout.
 * @param kind `oci-layout`, `oci-archive`, `docker-archive` or `tar`; @param stat of the archive, or of a layout's index.json.
 */
export const archiveImageKey = (kind: string, tag: string | undefined, stat: Stat, arch: string): string =>
  `${kind}-${fileKey(stat)}-${fnv64(tag ?? '')}-${arch}`;

const MACHINES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  aarch64: 'arm64',
  i386: '386',
  i686: '386',
  armv6l: 'arm',
  armv7l: 'arm',
  armv8l: 'arm',
  loongarch64: 'loong64',
};

/** `uname -m` as GOARCH, the word images use. */
export const archOfMachine = (machine: string): string => MACHINES[machine] ?? machine;

/** Programs of `image` run on `machine` (both GOARCH) as they are. */
export const archRuns = (image: string, machine: string): boolean =>
  image === machine ||
  image === '' ||
  image === 'unknown' ||
  (image === '386' && machine === 'amd64') ||
  (image === 'arm' && machine === 'arm64');
