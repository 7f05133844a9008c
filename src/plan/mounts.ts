/** What of the host is shown in the run, and where: default mounts, config binds, the user's own binds. In the order of the decisions. */
import type { RequestedBind } from '../request/request.ts';
import { errnoText } from '../util/errno.ts';
import { TsrunError } from '../util/errors.ts';
import { EACCES, ENOENT, failed } from '../util/host.ts';
import { isWithin, parentOf, resolveFrom } from '../util/paths.ts';
import { putMinimalDevices } from './devices.ts';
import { hidesImage, linkAt } from './image-tree.ts';
import { type MountOp, type MountTable, mountAround, put, showsHost } from './mount-table.ts';
import type { Situation } from './situation.ts';

export const RECURSIVE: readonly string[] = ['recursive'];
const RECURSIVE_OPTIONAL: readonly string[] = ['recursive', 'optional'];

/** Made once, not by every start. */
const usual = (path: string, flags: readonly string[]): MountOp => ({
  op: 'bind',
  source: path,
  target: path,
  flags,
  why: 'default mount',
});
const PROC = usual('/proc', RECURSIVE);
const SYS = usual('/sys', RECURSIVE_OPTIONAL);
const DEV = usual('/dev', ['recursive', 'dev']);
const TEMPORARY = ['/tmp', '/var/tmp'].map((path) => usual(path, RECURSIVE_OPTIONAL));

/** How the reasons of its mounts begin. */
const HOME_DIRECTORY = 'home directory';

/** Directory in the run where HOME points. */
export type HomePlace = { readonly path: string; readonly why: string };

const leftOut = (situation: Situation, name: string): boolean => situation.request.noMount.includes(name);

/** /proc, /sys, /dev. */
export const putKernel = (table: MountTable, situation: Situation): void => {
  const { request, host } = situation;
  if (!leftOut(situation, 'proc')) {
    if (request.pid) put(table, { op: 'proc', target: '/proc', why: 'a process list of its own' });
    else put(table, PROC);
  }
  if (!leftOut(situation, 'sys')) put(table, SYS);
  if (leftOut(situation, 'dev')) return;
  if (request.contain) {
    putMinimalDevices(table, host, request.ipc);
    return;
  }
  put(table, DEV);
  if (request.ipc && !failed(host.stat('/dev/mqueue'))) {
    put(table, { op: 'mqueue', target: '/dev/mqueue', why: 'message queues of its own' });
  }
};

/** /tmp and /var/tmp; in images where one is a link to the other, only the one. */
export const putTemporary = (table: MountTable, situation: Situation): void => {
  if (leftOut(situation, 'tmp')) return;
  for (let at = 0; at < TEMPORARY.length; at++) {
    const mount = TEMPORARY[at] as MountOp;
    const { target } = mount;
    const link = linkAt(situation.image.facts, target);
    if (link !== undefined && ['/tmp', '/var/tmp'].includes(resolveFrom(parentOf(target), link))) continue;
    if (leftOut(situation, target)) continue;
    if (situation.request.contain) put(table, { op: 'tmpfs', target, mode: 0o1777, size: 0, why: 'contained: empty, in memory' });
    else put(table, mount);
  }
};

/** The home directory, at the path people write and at the one behind its symbolic links. Says where HOME points. */
export const putHome = (table: MountTable, situation: Situation): HomePlace => {
  const { request, home, image } = situation;
  if (request.home !== undefined) return putChosenHome(table, situation, request.home);
  const { path, real } = home;
  if (path === '/') return { path, why: home.origin === 'none' ? 'neither HOME nor an account says where the home is' : 'the home is /' };
  if (request.noHome || leftOut(situation, 'home')) return { path, why: 'left out as asked' };
  if (request.contain) {
    put(table, { op: 'tmpfs', target: path, mode: 0o700, size: 0, why: 'contained: an empty home, in memory' });
    return { path, why: 'contained' };
  }
  if (real === undefined) {
    put(table, {
      op: 'tmpfs',
      target: path,
      mode: 0o700,
      size: 0,
      why: 'the home does not exist or cannot be reached: an empty one, in memory',
    });
    return { path, why: 'not there' };
  }
  if (real === '/' || hidesImage(image.facts, path)) return { path, why: 'not shown: the image has its own directory there' };
  const why = `${HOME_DIRECTORY} (${home.origin})`;
  for (const target of real === path ? [path] : [real, path]) {
    if (showsHost(table, target) || (target !== path && hidesImage(image.facts, target))) continue;
    put(table, {
      op: 'bind',
      source: target,
      target,
      flags: RECURSIVE,
      why: target === path ? why : `${HOME_DIRECTORY}, behind its symbolic links`,
    });
  }
  return { path, why };
};

/**
 * The home among the binds that were asked for. One that does not exist is in memory, unless it would lie in a directory of the host, where it can
 * neither be made nor hidden. Where something else is shown around it, the home is only there if that has a place for it.
 */
export const settleHome = (table: MountTable, { request, home, warnings }: Situation): void => {
  if (request.home !== undefined || (home.real !== undefined && request.binds.length === 0)) return;
  for (const target of home.real === undefined || home.real === home.path ? [home.path] : [home.path, home.real]) {
    const entry = table.entries.get(target);
    const around = mountAround(table, target);
    if (entry?.op === 'bind' && entry.why.startsWith(HOME_DIRECTORY) && around?.op === 'bind' && around.source !== around.target) {
      table.entries.set(target, { ...entry, flags: [...entry.flags, 'optional'] });
    }
    if (entry?.op !== 'tmpfs' || home.real !== undefined) continue;
    if (around?.op === 'bind') {
      table.entries.delete(target);
      warnings.push(`home ${home.path} is not there`);
    } else if (!request.contain) warnings.push(`home ${home.path} is not there: the program has an empty one in memory`);
  }
};

const putChosenHome = (
  table: MountTable,
  situation: Situation,
  chosen: { source: string; target: string | undefined; origin: string },
): HomePlace => {
  const source = fromCwd(situation, chosen.source, chosen.origin);
  const stat = situation.host.stat(source);
  if (failed(stat)) throw missingSource(chosen.origin, source, source, stat);
  if (stat.kind !== 'directory') {
    throw new TsrunError({
      code: 'E_BIND_SOURCE',
      what: `cannot use ${chosen.origin} ${chosen.source}`,
      why: 'it is not a directory',
      hint: 'choose a directory as home',
    });
  }
  const target = chosen.target ?? source;
  if (target !== '/') put(table, { op: 'bind', source, target, flags: RECURSIVE, why: chosen.origin });
  return { path: target, why: chosen.origin };
};

const fromCwd = (situation: Situation, path: string, origin: string): string => {
  if (path.startsWith('/')) return resolveFrom('/', path);
  if (situation.cwd.kind === 'known') return resolveFrom(situation.cwd.path, path);
  throw new TsrunError({
    code: 'E_CWD',
    what: `cannot use ${origin} ${path}`,
    why: 'the path is relative, and the current directory does not exist any more',
    hint: 'write an absolute path, or change to another directory first',
  });
};

const missingSource = (origin: string, source: string, target: string, errno: number): TsrunError => {
  const why =
    errno === ENOENT
      ? 'source does not exist'
      : errno === EACCES
        ? 'you may not look into a directory on the way to the source'
        : `the source cannot be reached (${errnoText(errno)})`;
  return new TsrunError({
    code: 'E_BIND_SOURCE',
    what: `cannot mount ${source} on ${target}`,
    why,
    hint: `it was asked for with ${origin}${errno !== ENOENT ? '' : /\/[~$]/.test(source) ? `; ~ and variables are expanded by the shell only, and ~ only where a word begins` : `; make it first: mkdir -p ${source}`}`,
  });
};

/** Config binds (left out with --contain), then those of environment and command line: at the same target the last one wins. */
export const putBinds = (table: MountTable, situation: Situation): void => {
  const { request } = situation;
  const withConfig = !request.contain && !leftOut(situation, 'bind-paths');
  for (const bind of request.binds) {
    if (bind.optional && (!withConfig || leftOut(situation, bind.target ?? bind.source))) continue;
    putBind(table, situation, bind);
  }
};

const putBind = (table: MountTable, situation: Situation, bind: RequestedBind): void => {
  const { host, warnings } = situation;
  const source = bind.optional && !bind.source.startsWith('/') ? undefined : fromCwd(situation, bind.source, bind.origin);
  if (source === undefined) {
    throw new TsrunError({
      code: 'E_CONFIG',
      what: `cannot use the config file ${bind.origin}`,
      why: `bind ${bind.source} is not an absolute path`,
      hint: 'begin it with /; ~ and variables are not expanded there',
    });
  }
  const target = bind.target ?? source;
  if (target === '/') {
    throw new TsrunError({
      code: 'E_BIND_SPEC',
      what: `cannot use ${bind.origin} ${bind.source}`,
      why: 'nothing can be shown at / itself',
      hint: `name a target: ${bind.source}:/host`,
    });
  }
  const stat = host.stat(source);
  if (failed(stat)) {
    if (!bind.optional) throw missingSource(bind.origin, source, target, stat);
    warnings.push(`${source} is not there and was left out (${bind.origin})`);
    return;
  }
  // Devices that were shown somewhere on purpose are meant to work.
  const isDevice = isWithin(source, '/dev');
  const flags = [...(bind.readOnly ? ['ro'] : []), 'recursive', ...(bind.optional ? ['optional'] : ['own']), ...(isDevice ? ['dev'] : [])];
  put(table, { op: 'bind', source, target, flags, why: bind.origin }, stat.kind !== 'directory');
};
