/**
 * .dockerignore: which paths of the context do not exist for a build. The last pattern that takes a path, or a directory above it, decides; `!`
 * takes paths back in. Rules: Docker's documentation of .dockerignore, and of `--exclude`.
 */
import { type Glob, matches, pathGlob } from './glob.ts';
import { linesOf, trim } from './text.ts';

/** Whether a path is ignored: relative to the context, parted by "/", no slash at its ends. */
export type IgnoreRules = (path: string) => boolean;

/** Where the file for a recipe lies, best first, relative to their directories. */
export const ignoreFileNames = (recipePath: string): { readonly besideRecipe: string; readonly inContext: string } => ({
  besideRecipe: `${recipePath}.dockerignore`,
  inContext: '.dockerignore',
});

/**
 * Where a pattern takes paths back in (`hasExceptions`), an ignored directory may still hold files that are not.
 * Patterns that mean nothing (a class that is not closed) take no path, as in Docker.
 */
export const ignoreRules = (text: string): IgnoreRules => rulesOf(linesOf(text).filter((line) => !line.startsWith('#')));

export const hasExceptions = (text: string): boolean => linesOf(text).some((line) => trim(line).startsWith('!'));

/** `--exclude` patterns, one each. */
export const excludeRules = (patterns: readonly string[]): IgnoreRules => rulesOf(patterns);

const rulesOf = (lines: readonly string[]): IgnoreRules => {
  const patterns = lines.map(patternOf).filter((pattern) => pattern !== null);
  return (path) => {
    const paths = withParents(path);
    let ignored = false;
    // A pattern that would change nothing need not be tried.
    for (const { glob, back } of patterns) if (ignored === back && paths.some((each) => matches(glob, each))) ignored = !back;
    return ignored;
  };
};

const patternOf = (line: string): { readonly glob: Glob; readonly back: boolean } | null => {
  const text = trim(line);
  const back = text.startsWith('!');
  const pattern = clean(back ? trim(text.slice(1)) : text);
  if (pattern === '') return null;
  const glob = pathGlob(pattern);
  return glob === null ? null : { glob, back };
};

/** As Go's filepath.Clean: no empty parts, "." or "a/.."; and no slash in front. */
const clean = (pattern: string): string => {
  const parts: string[] = [];
  for (const part of pattern.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..' && parts.length > 0 && parts.at(-1) !== '..') parts.pop();
    else parts.push(part);
  }
  return parts.join('/');
};

const withParents = (path: string): readonly string[] => {
  const paths = [path];
  for (let slash = path.lastIndexOf('/'); slash > 0; slash = path.lastIndexOf('/', slash - 1)) paths.push(path.slice(0, slash));
  return paths;
};
