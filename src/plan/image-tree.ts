/** Questions about what the image has, answered from its facts (two levels of directories and links). */
import type { ImageFacts } from '../image/facts.ts';
import { depthOf } from '../util/paths.ts';

/** Where an image keeps its software. What a host has there must not cover it. */
const SYSTEM_DIRECTORIES: ReadonlySet<string> = new Set([
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
]);

/** True where software of the image may lie. */
export const isSystemPath = (path: string): boolean => {
  const end = path.indexOf('/', 1);
  return SYSTEM_DIRECTORIES.has(end < 0 ? path : path.slice(0, end));
};

/** What the image has at `path`, as in ImageFacts.tree; undefined: nothing, or too deep to know. */
export const entryAt = ({ tree }: ImageFacts, path: string): string | undefined => {
  const entry = typeof tree === 'function' ? tree(path) : tree[path];
  return typeof entry === 'string' ? entry : undefined;
};

/**
 * True when a host directory shown at `path` is known to hide software of the image: a system directory the image has, or one right below it.
 * Deeper down only the launcher can tell.
 */
export const hidesImage = (facts: ImageFacts, path: string): boolean => isSystemPath(path) && entryAt(facts, path) !== undefined;

/** The image's symbolic link at `path`, as far as it is known. */
export const linkAt = (facts: ImageFacts, path: string): string | undefined => {
  const entry = entryAt(facts, path);
  return entry?.startsWith('l') === true ? entry.slice(1) : undefined;
};

/** True when the image has something at `path`; undefined: too deep to know. */
export const hasPath = (facts: ImageFacts, path: string): boolean | undefined => {
  if (path === '/' || entryAt(facts, path) !== undefined) return true;
  return depthOf(path) > 2 ? undefined : false;
};
