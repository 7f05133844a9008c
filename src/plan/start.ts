/**
 * Where the program starts. The rule: inside is outside. The current directory is shown at its own path; where that cannot be, it is an error that
 * names --pwd, never silently another place. Only --contain (whose point it is) and `run` with the image's own WorkingDir start elsewhere.
 */
import { TsrunError } from '../util/errors.ts';
import { cleanPath, isWithin } from '../util/paths.ts';
import { hasPath, hidesImage, isSystemPath } from './image-tree.ts';
import { type MountTable, mountAt, put, showsHost } from './mount-table.ts';
import type { HomePlace } from './mounts.ts';
import type { Situation } from './situation.ts';

export type Start = {
  readonly path: string;
  /** PWD: another spelling of `path` where the caller used one that works inside too. */
  readonly pwd: string;
  readonly why: string;
};

const refuse: (what: string, why: string, hint: string) => never = (what, why, hint) => {
  throw new TsrunError({ code: 'E_CWD', what, why, hint });
};

/** The kernel's own directories: shown whole or not at all. */
const KERNEL_DIRECTORIES = ['/proc', '/sys', '/dev'];

type Shown = { readonly shown: true; readonly why: string } | { readonly shown: false; readonly why: string; readonly hint: string };

/** Cause and cure where showing the current directory would cover a directory of the image. */
export const hidingCwd = (path: string): { readonly why: string; readonly hint: string } => ({
  why: "the image has its own directory there, which the host's would hide",
  hint: `start in the image's with --pwd ${path}, or show yours elsewhere: --bind ${path}:/host --pwd /host`,
});

/** Makes the current directory visible at its own path, where that is possible. `needed`: the program is to start in it. */
const putCwd = (table: MountTable, situation: Situation, path: string, needed: boolean): Shown => {
  const { request, image } = situation;
  const elsewhere = 'choose a directory of the image with --pwd, for example --pwd /';
  if (path === '/') return { shown: true, why: 'the root stays the root' };
  if (showsHost(table, path)) return { shown: true, why: 'the current directory' };
  const mount = mountAt(table, path);
  if (mount !== undefined) {
    if (mount.target === path && KERNEL_DIRECTORIES.includes(path)) return { shown: true, why: 'the current directory' };
    const by = mount.op === 'bind' ? `${mount.source} is shown at ${mount.target} (${mount.why})` : `${mount.target} is ${mount.why}`;
    return { shown: false, why: `it is hidden: ${by}`, hint: elsewhere };
  }
  if (request.contain) return { shown: false, why: 'it is not shown with --contain', hint: `show it with --bind ${path}` };
  if (request.noMount.includes('cwd') || request.noMount.includes(path)) {
    return { shown: false, why: 'it was left out with --no-mount', hint: elsewhere };
  }
  if (KERNEL_DIRECTORIES.some((directory) => isWithin(path, directory))) {
    return { shown: false, why: 'it was left out with --no-mount', hint: elsewhere };
  }
  if (hidesImage(image.facts, path)) {
    return { shown: false, ...hidingCwd(path) };
  }
  const flags = ['recursive', 'own', ...(isSystemPath(path) ? ['absent'] : []), ...(needed ? [] : ['optional'])];
  put(table, { op: 'bind_cwd', target: path, flags, why: 'the current directory' });
  return { shown: true, why: 'the current directory' };
};

/** $PWD's spelling stays when it can be seen too, or can be shown without covering anything of the image. */
const spelling = (table: MountTable, situation: Situation, path: string, spelled: string): string => {
  if (spelled === path || showsHost(table, spelled)) return spelled;
  if (mountAt(table, spelled) !== undefined || hasPath(situation.image.facts, `/${spelled.split('/')[1] ?? ''}`) !== false) return path;
  put(table, { op: 'bind_cwd', target: spelled, flags: ['recursive', 'own', 'optional'], why: 'the current directory, as $PWD spells it' });
  return spelled;
};

/** Puts the current directory into the table and says where to start. Errors: E_CWD. */
export const putStart = (table: MountTable, situation: Situation, home: HomePlace): Start => {
  const { cwd, request, image, remarks } = situation;
  const own = ownDirectory(situation);
  const shown: Shown =
    cwd.kind === 'known'
      ? putCwd(table, situation, cwd.path, request.pwd === undefined && own === undefined)
      : {
          shown: false,
          why: 'it does not exist any more, or cannot be reached',
          hint: 'change to another directory, or choose one of the image with --pwd',
        };
  const here =
    cwd.kind === 'known' && shown.shown
      ? { path: cwd.path, pwd: spelling(table, situation, cwd.path, cwd.spelled), why: shown.why }
      : undefined;

  if (request.pwd !== undefined) {
    const path = cleanPath(request.pwd.text);
    return { path, pwd: path, why: request.pwd.origin };
  }
  if (own !== undefined) {
    if (here?.path !== own) remarks.push(`started in ${own}, the image's working directory; --pwd "$PWD" starts in the current one`);
    return { path: own, pwd: own, why: "the image's working directory (run)" };
  }
  if (here !== undefined) return here;
  if (request.contain) return { path: home.path, pwd: home.path, why: 'contained: the home directory' };
  return refuse(
    cwd.kind === 'known' ? `cannot start in ${cwd.path}` : 'cannot start in the current directory',
    shown.why,
    shown.shown ? `see tsrun exec --explain ${image.reference}` : shown.hint,
  );
};

/** `run` starts where the image's author meant it to, as Docker does; `exec` and `shell` are the caller's own commands. */
const ownDirectory = ({ request, image }: Situation): string | undefined => {
  const { workingDir, runscript } = image.facts;
  if (request.verb !== 'run' || runscript || !workingDir.startsWith('/')) return undefined;
  const path = cleanPath(workingDir);
  return path === '/' ? undefined : path;
};
