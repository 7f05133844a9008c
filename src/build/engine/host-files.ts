/**
 * Files of the host that a recipe copies: found by name or wildcard, walked, hashed, and given as tar entries. `docker`: below the context
 * directory only, links kept but for the named one itself, .dockerignore heeded. `cp`: any path of the host, all links followed. Names are byte strings.
 */
import { createHash } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { lstat, readdir, readlink, realpath, stat } from 'node:fs/promises';
import { matches, pathGlob } from '../../recipe/glob.ts';
import type { IgnoreRules } from '../../recipe/ignore.ts';
import type { TarEntry } from '../../tar/entry.ts';
import type { TarItem } from '../../tar/write.ts';
import { TsrunError } from '../../util/errors.ts';

export type HostFile = {
  /** Below the source; "" is the source itself. */
  readonly path: string;
  /** On the host. */
  readonly absolute: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'fifo';
  readonly mode: number;
  readonly size: number;
  /** Whole seconds since 1970. */
  readonly mtime: number;
  readonly link: string;
};

/** One thing that was named, with all that is below it (parents first, siblings sorted by bytes). */
export type HostSource = {
  /** Last part of its name. */
  readonly name: string;
  /** Below the context, or below what stands before "/./" in its name; for --parents. */
  readonly path: string;
  readonly files: readonly HostFile[];
};

export type Ignore = {
  readonly ignores: IgnoreRules;
  /** An ignored directory may hold files that are taken back in. */
  readonly hasExceptions: boolean;
};

export const NOTHING_IGNORED: Ignore = { ignores: () => false, hasExceptions: false };

export const hasWildcard = (path: string): boolean => /[*?[\\]/.test(path);

export type Finding = {
  /** Absolute; names begin here, and do not lead out of it. `/` for `cp`. */
  readonly root: string;
  /** Where relative names begin (`cp`); below or equal to the root. */
  readonly start: string;
  readonly manner: 'cp' | 'docker';
  readonly ignore: Ignore;
  /** Left out besides: patterns over the name below the source. */
  readonly exclude: IgnoreRules;
  /** What the build itself writes: left out wherever it is found and not named. Absolute. */
  readonly outputs: readonly string[];
  /** "recipe:3": begins every error. */
  readonly place: string;
  /** Hears of a pattern of a Dockerfile that nothing matches: as with Docker it stands for nothing (`COPY package.json package-lock.json* ./`). */
  readonly onNothing: (pattern: string) => void;
};

const MAX_FILES = 4_000_000;
const MAX_LINKS = 40;

const raw = (path: string): Buffer => Buffer.from(path, 'latin1');
const latin1 = (bytes: Buffer): string => bytes.toString('latin1');

/** @param names as the recipe has them, expanded. @throws TsrunError E_COPY_SOURCE */
export const findSources = async (names: readonly string[], finding: Finding): Promise<readonly HostSource[]> => {
  const sources: HostSource[] = [];
  const outputs = await identitiesOf(finding.outputs);
  for (const name of names) {
    const before = sources.length;
    const paths = await expandName(name, finding);
    for (const path of paths) {
      const source = await sourceAt(path, name, finding, outputs);
      if (source !== undefined) sources.push(source);
    }
    if (sources.length > before) continue;
    if (finding.manner === 'cp' || !hasWildcard(name)) throw await missing(name, finding);
    finding.onNothing(name);
  }
  return sources;
};

const identity = ({ dev, ino }: Stats): string => `${dev} ${ino}`;

const identitiesOf = async (paths: readonly string[]): Promise<ReadonlySet<string>> => {
  const found = await Promise.all(paths.map((path) => lstat(raw(path)).catch(() => undefined)));
  return new Set(found.flatMap((each) => (each === undefined ? [] : [identity(each)])));
};

/** Clean paths below the root that the name stands for; a name without wildcards stands for itself. */
const expandName = async (name: string, finding: Finding): Promise<readonly string[]> => {
  const full = finding.manner === 'docker' || name.startsWith('/') ? name : `${finding.start}/${name}`;
  const parts = cleanParts(full);
  if (!hasWildcard(name)) return [parts.join('/')];
  let found: readonly string[] = [''];
  for (const part of parts) {
    const next: string[] = [];
    for (const directory of found) {
      if (!hasWildcard(part)) {
        next.push(directory === '' ? part : `${directory}/${part}`);
        continue;
      }
      const glob = pathGlob(part);
      for (const child of await namesIn(await resolveBelow(finding, directory))) {
        // As in a shell: a leading dot has to be written.
        if (finding.manner === 'cp' && child.startsWith('.') && !part.startsWith('.')) continue;
        if (glob !== null && matches(glob, child)) next.push(directory === '' ? child : `${directory}/${child}`);
      }
    }
    found = next;
  }
  return found;
};

/** With --parents, what stands before "/./" is not made at the destination. @param path what the name has become, part for part */
export const belowPivot = (name: string, path: string): string => {
  const at = name.indexOf('/./');
  const above = at < 0 ? 0 : cleanParts(name.slice(0, at)).length;
  return path.split('/').slice(above).join('/');
};

/** A name cannot lead out of the context: ".." of its root is the root. */
const cleanParts = (path: string): readonly string[] => {
  const kept: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') kept.pop();
    else kept.push(part);
  }
  return kept;
};

const namesIn = async (absolute: string | undefined): Promise<readonly string[]> => {
  if (absolute === undefined) return [];
  try {
    return (await readdir(raw(absolute), { encoding: 'buffer' })).map(latin1).sort((a, b) => (a < b ? -1 : 1));
  } catch {
    return [];
  }
};

/** The host path behind a path below the root, with symbolic links followed as a process rooted there would; undefined when there is none. */
const resolveBelow = async ({ root, manner }: Finding, path: string): Promise<string | undefined> => {
  if (manner === 'cp') {
    try {
      return latin1(await realpath(raw(`/${path}`), { encoding: 'buffer' }));
    } catch {
      return undefined;
    }
  }
  let left = cleanParts(path);
  let at: readonly string[] = [];
  for (let links = 0; left.length > 0; ) {
    const [part = '', ...rest] = left;
    if (part === '..') {
      at = at.slice(0, -1);
      left = rest;
      continue;
    }
    const absolute = [root === '/' ? '' : root, ...at, part].join('/');
    let found: Stats;
    try {
      found = await lstat(raw(absolute));
    } catch {
      return undefined;
    }
    if (!found.isSymbolicLink()) {
      at = [...at, part];
      left = rest;
      continue;
    }
    if (++links > MAX_LINKS) return undefined;
    const target = latin1(await readlink(raw(absolute), { encoding: 'buffer' }));
    if (target.startsWith('/')) at = [];
    left = [...target.split('/').filter((each) => each !== '' && each !== '.'), ...rest];
  }
  return at.length === 0 ? root : [root === '/' ? '' : root, ...at].join('/');
};

const sourceAt = async (path: string, name: string, finding: Finding, outputs: ReadonlySet<string>): Promise<HostSource | undefined> => {
  const absolute = await resolveBelow(finding, path);
  if (absolute === undefined) return undefined;
  const below = finding.root === '/' ? absolute.slice(1) : absolute.slice(finding.root.length + 1);
  const walker: Walker = { finding, outputs, name, below, count: 0, files: [], open: [] };
  await walk(walker, absolute, '');
  if (walker.files.length === 0) return undefined;
  return { name: path.slice(path.lastIndexOf('/') + 1), path: belowPivot(name, path), files: walker.files };
};

type Walker = {
  readonly finding: Finding;
  readonly outputs: ReadonlySet<string>;
  readonly name: string;
  /** Of the source, below the root: what .dockerignore speaks of. */
  readonly below: string;
  count: number;
  readonly files: HostFile[];
  /** Directories being walked, by device and inode: a link to one of them would never end. */
  readonly open: string[];
};

const walk = async (walker: Walker, absolute: string, path: string): Promise<void> => {
  const { finding, below, name, outputs } = walker;
  const named = [below, path].filter((part) => part !== '').join('/');
  const found = await look(walker, absolute);
  if (path !== '' && finding.exclude(path)) return;
  const ignored = named !== '' && finding.ignore.ignores(named);
  if (found === undefined || (ignored && (!found.isDirectory() || !finding.ignore.hasExceptions))) return;
  if (outputs.has(identity(found)) && (path !== '' || hasWildcard(name))) return;
  if (++walker.count > MAX_FILES) throw sourceError(walker.name, finding, `it has more than ${MAX_FILES} files`, 'copy less');
  const file = await fileOf(walker, absolute, path, found);
  if (file === undefined) return;
  const before = walker.files.length;
  walker.files.push(file);
  if (file.type !== 'directory') return;
  const id = identity(found);
  if (walker.open.includes(id))
    throw sourceError(walker.name, finding, `${show(path)} is a link to a directory it lies in`, 'copy the parts of it by name');
  walker.open.push(id);
  for (const child of await childrenOf(walker, absolute))
    await walk(walker, `${absolute}/${child}`, path === '' ? child : `${path}/${child}`);
  walker.open.pop();
  // An ignored directory is only there for what was taken back.
  if (ignored && walker.files.length === before + 1) walker.files.pop();
};

const look = async ({ finding, name }: Walker, absolute: string): Promise<Stats | undefined> => {
  try {
    return await (finding.manner === 'cp' ? stat(raw(absolute)) : lstat(raw(absolute)));
  } catch (error) {
    if (codeOf(error) === 'ENOENT' && finding.manner === 'docker') return undefined;
    throw sourceError(name, finding, `${show(absolute)}: ${reason(error)}`, 'check the file and its permissions');
  }
};

const childrenOf = async ({ finding, name }: Walker, absolute: string): Promise<readonly string[]> => {
  try {
    return (await readdir(raw(absolute), { encoding: 'buffer' })).map(latin1).sort((a, b) => (a < b ? -1 : 1));
  } catch (error) {
    throw sourceError(name, finding, `${show(absolute)}: ${reason(error)}`, 'check the directory and its permissions');
  }
};

const fileOf = async (walker: Walker, absolute: string, path: string, found: Stats): Promise<HostFile | undefined> => {
  const type = found.isFile()
    ? 'file'
    : found.isDirectory()
      ? 'directory'
      : found.isSymbolicLink()
        ? 'symlink'
        : found.isFIFO()
          ? 'fifo'
          : undefined;
  if (type === undefined) {
    // Sockets cannot be copied by anybody; devices are no business of a context.
    if (path !== '') return undefined;
    throw sourceError(walker.name, walker.finding, 'it is a device or a socket', 'copy files and directories');
  }
  const link = type === 'symlink' ? latin1(await readlink(raw(absolute), { encoding: 'buffer' })) : '';
  const { mode, mtimeMs, size } = found;
  return { path, absolute, type, mode: mode & 0o7777, size: type === 'file' ? size : 0, mtime: Math.floor(mtimeMs / 1000), link };
};

const show = (path: string): string => JSON.stringify(Buffer.from(path, 'latin1').toString('utf8').slice(0, 300));

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined);

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'you may not read it',
  ELOOP: 'too many symbolic links',
};

const reason = (error: unknown): string => REASONS[String(codeOf(error))] ?? (error instanceof Error ? error.message : String(error));

const sourceError = (name: string, { place }: Finding, why: string, hint: string): TsrunError =>
  new TsrunError({ code: 'E_COPY_SOURCE', what: `${place}: cannot copy ${show(name)}`, why, hint });

const missing = async (name: string, finding: Finding): Promise<TsrunError> => {
  if (finding.manner === 'cp')
    return sourceError(name, finding, `there is no such file on this machine`, 'paths are relative to the current directory');
  const there = hasWildcard(name) ? undefined : await resolveBelow(finding, cleanParts(name).join('/'));
  if (there !== undefined)
    return sourceError(name, finding, 'it is left out by .dockerignore', 'take it back there with a line that begins with !');
  return sourceError(
    name,
    finding,
    `there is no such file in ${show(finding.root)}`,
    'paths begin at the directory given as context; nothing above it can be copied',
  );
};

/** Of everything that will be in the image: names, kinds, modes, links, contents. Not times. */
export const digestOfSources = async (sources: readonly HostSource[], finding: Finding, signal: AbortSignal): Promise<string> => {
  const hash = createHash('sha256');
  for (const { name, path, files } of sources) {
    hash.update(`source ${JSON.stringify([name, path])}\n`);
    for (const file of files) {
      hash.update(`${JSON.stringify([file.path, file.type, file.mode, file.link])}\n`);
      if (file.type === 'file') hash.update(await contentDigest(file, name, finding, signal));
    }
  }
  return hash.digest('hex');
};

const contentDigest = async (file: HostFile, name: string, finding: Finding, signal: AbortSignal): Promise<Buffer> => {
  const hash = createHash('sha256');
  for await (const chunk of contentOf(file, name, finding)) {
    signal.throwIfAborted();
    hash.update(chunk);
  }
  return hash.digest();
};

async function* contentOf(file: HostFile, name: string, finding: Finding): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(raw(file.absolute), { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>;
  } catch (error) {
    throw sourceError(name, finding, `${show(file.absolute)}: ${reason(error)}`, 'check the file and its permissions');
  }
}

export type Placed = { readonly uid: number; readonly gid: number /** Of files and directories. */; readonly mode: number | undefined };

/** @param target where `file` goes in the image, relative, clean */
export const hostItem = (file: HostFile, target: string, { uid, gid, mode }: Placed, name: string, finding: Finding): TarItem => {
  const entry: TarEntry = {
    type: file.type,
    path: target,
    linkpath: file.link,
    mode: file.type === 'symlink' ? 0o777 : (mode ?? file.mode),
    uid,
    gid,
    mtime: file.mtime,
    mtimeNanos: 0,
    size: file.size,
    devMajor: 0,
    devMinor: 0,
    xattrs: undefined,
  };
  return { entry, content: file.type === 'file' ? contentOf(file, name, finding) : undefined };
};
