/** What lies where in an image: the `tree` of its facts. Two levels of directories and links, and files of /etc that runs mount over. */
import type { ImageFacts } from './facts.ts';
import type { ImageView } from './view.ts';
import { byBytes } from './walk.ts';

type Tree = ImageFacts['tree'];

/** A home with ten thousand users need not be listed. */
const MAX_TREE = 8000;
const MAX_TREE_BYTES = 256 * 1024;

/** Whose content says nothing of the image. */
const NOT_LISTED: ReadonlySet<string> = new Set(['/proc', '/sys', '/dev', '/tmp', '/home', '/root', '/run', '/scratch', '/.singularity.d']);

/** Where links are programs and libraries, hundreds of them in some images, and no places to mount on. */
const OF_PROGRAMS: ReadonlySet<string> = new Set(['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']);

/** Files of /etc that runs mount over. */
const ETC_FILES = [
  'group',
  'gshadow',
  'hostname',
  'hosts',
  'localtime',
  'machine-id',
  'mtab',
  'nsswitch.conf',
  'passwd',
  'resolv.conf',
  'shadow',
  'timezone',
].map((name) => `/etc/${name}`);

/** "d" for a directory, "l" and the target for a symbolic link; undefined: not listed. */
const whatIs = (view: ImageView, path: string, parent: string, kind: string | undefined): string | undefined => {
  if (kind === 'directory') return 'd';
  if (kind !== 'link' || OF_PROGRAMS.has(parent)) return undefined;
  const target = view.readlink(path);
  return target === null ? undefined : `l${target}`;
};

type Listed = { readonly path: string; readonly what: string };

const entriesOf = (view: ImageView, directory: string): readonly Listed[] => {
  const prefix = directory === '/' ? '/' : `${directory}/`;
  const entries = [...(view.readdir(directory) ?? [])].sort((a, b) => byBytes(a.name, b.name));
  return entries.flatMap(({ name, kind }): Listed[] => {
    const path = prefix + name;
    const what = whatIs(view, path, directory, kind === 'unknown' ? view.lstat(path)?.kind : kind);
    return what === undefined ? [] : [{ path, what }];
  });
};

const isListed = (path: string, what: string | undefined): boolean => what === 'd' && !NOT_LISTED.has(path);

/** All of it, for facts that are kept. */
export const listTree = (view: ImageView): Tree => {
  const tree: Record<string, string> = {};
  let entries = 0;
  let bytes = 0;
  const add = ({ path, what }: Listed): void => {
    bytes += path.length + what.length + 6;
    if (entries++ < MAX_TREE && bytes < MAX_TREE_BYTES) tree[path] = what;
  };
  const first = entriesOf(view, '/');
  first.forEach(add);
  for (const { path, what } of first) if (isListed(path, what)) entriesOf(view, path).forEach(add);
  for (const path of ETC_FILES) if (view.lstat(path)?.kind === 'file') add({ path, what: 'f' });
  return tree;
};

const entryAt = (view: ImageView, path: string): string | undefined => {
  const slash = path.lastIndexOf('/');
  if (slash < 0 || slash === path.length - 1) return undefined;
  const parent = path.slice(0, slash) || '/';
  if (parent !== '/' && !(parent.indexOf('/', 1) < 0 && isListed(parent, entryAt(view, parent)))) return undefined;
  const kind = view.lstat(path)?.kind;
  if (kind === 'file') return ETC_FILES.includes(path) ? 'f' : undefined;
  return whatIs(view, path, parent, kind);
};

/** The same tree, each path looked up when it is asked for: a run asks for a dozen. */
export const treeOnDemand =
  (view: ImageView): Tree =>
  (path) =>
    path.startsWith('/') ? entryAt(view, path) : undefined;
