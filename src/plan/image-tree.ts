/** Questions about what the image has, answered from its facts (two levels of directories and links). */
import type { ImageFacts } from '../image/facts.ts';
import { depthOf, isWithin } from '../util/paths.ts';

/** Where an image keeps its software. What a host has there must not cover it. */
const SYSTEM_DIRECTORIES = [
  '/usr',
  '/bin',
  '/sbin',
  '/lib',
  '/lib32',
  '/lib64',
  '/libx32',
  '/etc',
  '/opt',
  '/var',
  '/boot',
  '/.singularity.d',
];

/** True where software of the image may lie. */
export const isSystemPath = (path: string): boolean => SYSTEM_DIRECTORIES.some((directory) => isWithin(path, directory));

/**
 * True when a host directory shown at `path` is known to hide software of the image: a system directory the image has, or one right below it.
 * Deeper down only the launcher can tell.
 */
export const hidesImage = (facts: ImageFacts, path: string): boolean => facts.tree[path] !== undefined && isSystemPath(path);

/** The image's symbolic link at `path`, as far as it is known. */
export const linkAt = (facts: ImageFacts, path: string): string | undefined => {
  const entry = facts.tree[path];
  return entry?.startsWith('l') === true ? entry.slice(1) : undefined;
};

/** True when the image has something at `path`; undefined: too deep to know. */
export const hasPath = (facts: ImageFacts, path: string): boolean | undefined => {
  if (path === '/' || facts.tree[path] !== undefined) return true;
  return depthOf(path) > 2 ? undefined : false;
};
