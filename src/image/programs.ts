/** What the programs and libraries of an image say: its architecture, its C library, its MPI. */
import { type ElfSource, readElfHead, readElfText } from '../elf/read.ts';
import { parentOf } from '../util/paths.ts';
import type { ImageFacts } from './facts.ts';
import { archOfMachine } from './identity.ts';
import type { ImageView } from './view.ts';
import { byBytes, type FoundFile, findFile, namesIn, resolveInside } from './walk.ts';

/** Programs that nearly every image has one of, small ones first. */
const PROGRAMS = ['/bin/sh', '/usr/bin/env', '/bin/true', '/bin/busybox', '/bin/bash', '/usr/bin/python3', '/bin/ls', '/sbin/ldconfig'];

const LIBRARY_DIRECTORIES = ['/lib64', '/usr/lib64', '/lib', '/usr/lib', '/usr/local/lib', '/usr/local/lib64'];
const MPI_DIRECTORIES = ['/usr/lib64/openmpi/lib', '/usr/lib64/mpich/lib', '/usr/local/mpi/lib', '/opt/openmpi/lib', '/opt/mpich/lib'];

/** The largest file that is looked into. */
const MAX_PROGRAM_BYTES = 8 * 1024 * 1024;

/** Each is found out when it is called. */
export type ProgramFacts = {
  readonly arch: () => string;
  readonly libc: () => ImageFacts['libc'];
  readonly mpi: () => readonly string[];
};

/** @param extra further programs to look at, the entry point say; absolute paths */
export const programFacts = (view: ImageView, extra: readonly string[]): ProgramFacts => {
  let found: { readonly program: Program | undefined } | undefined;
  const first = (): Program | undefined => {
    found ??= { program: firstProgram(view, [...PROGRAMS, ...extra]) };
    return found.program;
  };
  return {
    arch: () => first()?.arch ?? '',
    libc: () => libcOf(view, first()?.interp ?? null),
    mpi: () => mpiIn(view, [...libraryDirectories(view), ...MPI_DIRECTORIES]),
  };
};

type Program = { readonly arch: string; readonly interp: string | null };

/** The first that is dynamic says most; a static one at least the architecture. */
const firstProgram = (view: ImageView, paths: readonly string[]): Program | undefined => {
  const seen = new Set<string>();
  let found: Program | undefined;
  for (const path of paths) {
    const file = findFile(view, path);
    // In busybox images all of them are one file.
    if (file === null || seen.has(file.path)) continue;
    seen.add(file.path);
    const elf = readAt(view, file, readElfHead);
    if (elf === null) continue;
    const arch = goArch(elf.machine, elf.class, elf.littleEndian);
    if (elf.interp !== null) return { arch, interp: elf.interp };
    found ??= { arch, interp: null };
  }
  return found;
};

const readAt = <T>(view: ImageView, file: FoundFile, read: (source: ElfSource) => T | null): T | null => {
  const { path, node } = file;
  if (node.size > MAX_PROGRAM_BYTES) return null;
  try {
    return read({
      size: node.size,
      read: (offset, length) => {
        const text = view.read(path, length, offset) ?? '';
        if (text.length < length) throw new RangeError(`${path} ends early`);
        return text;
      },
    });
  } catch {
    // A view may hold less of a file than its size says.
    return null;
  }
};

/** ELF's machine as GOARCH. */
const goArch = (machine: string, bits: 32 | 64, littleEndian: boolean): string => {
  if (machine === 'ppc64') return littleEndian ? 'ppc64le' : 'ppc64';
  if (machine === 'mips') return `mips${bits === 64 ? '64' : ''}${littleEndian ? 'le' : ''}`;
  return archOfMachine(machine);
};

/** Also the ones named after a triplet, as /usr/lib/x86_64-linux-gnu. */
const libraryDirectories = (view: ImageView): readonly string[] =>
  LIBRARY_DIRECTORIES.flatMap((directory) => [
    directory,
    ...namesIn(view, directory)
      .filter((name) => /^[a-z0-9_]+-linux-(gnu|musl)[a-z0-9]*$/.test(name))
      .map((name) => `${directory}/${name}`),
  ]);

const libcOf = (view: ImageView, interp: string | null): ImageFacts['libc'] => {
  const isMusl = interp?.includes('/ld-musl-') === true;
  const glibc = isMusl ? undefined : glibcVersion(view, interp);
  if (glibc !== undefined) return { kind: 'glibc', version: glibc };
  const musl = isMusl ? interp : muslLoader(view);
  if (musl !== undefined) return { kind: 'musl', version: muslVersion(view, musl) };
  return { kind: 'none', version: '' };
};

/** The loader and its library lie side by side; only where no program tells of a loader they have to be looked for. */
const glibcVersion = (view: ImageView, interp: string | null): string | undefined => {
  const loader = interp === null ? null : resolveInside(view, interp);
  const beside = loader === null ? undefined : versionIn(view, parentOf(loader));
  if (beside !== undefined) return beside;
  for (const directory of libraryDirectories(view)) {
    const version = versionIn(view, directory);
    if (version !== undefined) return version;
  }
  return undefined;
};

const versionIn = (view: ImageView, directory: string): string | undefined => {
  const file = findFile(view, directory === '/' ? '/libc.so.6' : `${directory}/libc.so.6`);
  const elf = file === null ? null : readAt(view, file, readElfText);
  return elf === null ? undefined : newest(elf.versionDefs);
};

/** glibc adds symbols in nearly every release; what programs can be refused for is exactly this list. */
const newest = (definitions: readonly string[]): string | undefined => {
  const versions = definitions.flatMap((text) => {
    const match = /^GLIBC_(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?$/.exec(text);
    return match === null ? [] : [{ major: Number(match[1]), minor: Number(match[2]) }];
  });
  versions.sort((a, b) => b.major - a.major || b.minor - a.minor);
  const top = versions[0];
  return top === undefined ? undefined : `${top.major}.${top.minor}`;
};

const muslLoader = (view: ImageView): string | undefined => {
  const name = namesIn(view, '/lib').find((entry) => /^ld-musl-[a-z0-9_]+\.so\.1$/.test(entry));
  return name === undefined ? undefined : `/lib/${name}`;
};

/** The loader prints its version when run without arguments; the text stands alone between NULs. */
const muslVersion = (view: ImageView, loader: string): string => {
  const file = findFile(view, loader);
  const text = file === null ? '' : (view.read(file.path, Math.min(file.node.size, 2 * 1024 * 1024)) ?? '');
  return /\0(1\.[0-9]{1,2}\.[0-9]{1,3})\0/.exec(text)?.[1] ?? '';
};

const mpiIn = (view: ImageView, directories: readonly string[]): readonly string[] => {
  const names = directories.flatMap((directory) => namesIn(view, directory));
  return [...new Set(names.filter((name) => /^libmpi(?:ch)?\.so\.[0-9]{1,3}$/.test(name)))].sort(byBytes);
};
