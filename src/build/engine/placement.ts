/**
 * Where copied files go: the rules of COPY and ADD (docs.docker.com/reference/dockerfile, "COPY": destination) and of cp. Pure; the tree's answers
 * are handed in. Byte strings.
 */
import { cleanPath } from '../../util/paths.ts';

export type Destination = {
  /** Absolute, clean. */
  readonly path: string;
  /** Written so that it can only be a directory: "/x/", ".", "/x/.". */
  readonly mustBeDirectory: boolean;
};

/** @param start where a relative one begins */
export const destinationOf = (text: string, start: string): Destination => ({
  path: cleanPath(text.startsWith('/') ? text : `${start}/${text}`),
  mustBeDirectory: text === '' || /(?:^|\/)\.{0,2}$/.test(text),
});

/** The path and all directories above it but the root, longest first: what has to be looked at. */
export const prefixesOf = (path: string): readonly string[] => {
  const prefixes: string[] = [];
  for (let at = path; at !== '/' && at !== ''; at = at.slice(0, at.lastIndexOf('/')) || '/') prefixes.push(at);
  return prefixes;
};

export type Spot = {
  /** Absolute, behind all links. */
  readonly path: string;
  /** What is there now. */
  readonly type: 'd' | 'other' | undefined;
  /** Directories on the way to it that have to be made, parents first. */
  readonly missing: readonly string[];
};

/** @param found answers for `prefixesOf(path)`, in that order: the path behind links and the type */
export const spotOf = (path: string, found: readonly ({ readonly path: string; readonly type: string } | undefined)[]): Spot => {
  const prefixes = prefixesOf(path);
  const at = found.findIndex((each) => each !== undefined);
  const there = at < 0 ? { path: '/', type: 'd' } : (found[at] as { path: string; type: string });
  const rest = at < 0 ? path.slice(1) : path.slice((prefixes[at] as string).length + 1);
  if (rest === '' || path === '/')
    return { path: path === '/' ? '/' : there.path, type: path === '/' || there.type === 'd' ? 'd' : 'other', missing: [] };
  const root = there.path === '/' ? '' : there.path;
  const parts = rest.split('/');
  return {
    path: `${root}/${rest}`,
    type: undefined,
    missing: parts.slice(0, -1).map((_, index) => `${root}/${parts.slice(0, index + 1).join('/')}`),
  };
};

export type Named = { readonly name: string /** Below its origin's root. */; readonly path: string; readonly directory: boolean };

export type Placement = {
  /** Absolute: where the source itself goes; of a directory, where its content goes. */
  readonly target: string;
  /** The directory that has to be there first, besides those on the way to the spot. */
  readonly directories: readonly string[];
};

/**
 * Where each source goes. `undefined`: several sources, and a destination that is no directory.
 * @param alone one source, named without wildcards
 */
export const placements = (
  sources: readonly Named[],
  { mustBeDirectory }: Destination,
  spot: Spot,
  manner: 'cp' | 'docker',
  parents: boolean,
  alone: boolean,
): readonly Placement[] | undefined => {
  const intoDirectory = mustBeDirectory || spot.type === 'd' || parents;
  const onlyDirectories = sources.every((source) => source.directory);
  if (!alone && sources.length > 1 && !intoDirectory && !(manner === 'docker' && onlyDirectories)) return undefined;
  const below = (path: string): string => (spot.path === '/' ? `/${path}` : `${spot.path}/${path}`);
  const itself = spot.type === 'd' ? [] : [spot.path];
  return sources.map((source): Placement => {
    if (parents)
      return {
        target: below(source.path),
        directories: [
          ...itself,
          ...prefixesOf(`/${source.path}`)
            .slice(1)
            .reverse()
            .map((each) => below(each.slice(1))),
        ],
      };
    if (source.directory && manner === 'docker') return { target: spot.path, directories: mustBeDirectory ? itself : [] };
    if (intoDirectory) return { target: below(source.name), directories: itself };
    return { target: spot.path, directories: [] };
  });
};
