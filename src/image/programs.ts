/** What the programs and libraries of an image say: its architecture, its C library, its MPI. */
import { isElf, readElf } from '../elf/read.ts';
import { bytesOf } from '../util/bytes.ts';
import type { ImageFacts } from './facts.ts';
import { archOfMachine } from './identity.ts';
import type { ImageView } from './view.ts';
import { byBytes, findFile, namesIn } from './walk.ts';

/** Programs that nearly every image has one of, small ones first. */
const PROGRAMS = ['/bin/sh', '/usr/bin/env', '/bin/true', '/bin/busybox', '/bin/bash', '/usr/bin/python3', '/bin/ls', '/sbin/ldconfig'];

const LIBRARY_DIRECTORIES = ['/lib64', '/usr/lib64', '/lib', '/usr/lib', '/usr/local/lib', '/usr/local/lib64'];
const MPI_DIRECTORIES = ['/usr/lib64/openmpi/lib', '/usr/lib64/mpich/lib', '/usr/local/mpi/lib', '/opt/openmpi/lib', '/opt/mpich/lib'];

/** The largest file that is looked into. */
export const MAX_PROGRAM_BYTES = 8 * 1024 * 1024;

export type ProgramFacts = Pick<ImageFacts, 'arch' | 'libc' | 'mpi'>;

/** @param extra further programs to look at, the entry point say; absolute paths */
export const programFacts = (view: ImageView, extra: readonly string[]): ProgramFacts => {
  const first = firstProgram(view, [...PROGRAMS, ...extra]);
  const directories = libraryDirectories(view);
  return {
    arch: first?.arch ?? '',
    libc: libcOf(view, first?.interp ?? null, directories),
    mpi: mpiIn(view, [...directories, ...MPI_DIRECTORIES]),
  };
};

type Program = { readonly arch: string; readonly interp: string | null };

/** The first that is dynamic says most; a static one at least the architecture. */
const firstProgram = (view: ImageView, paths: readonly string[]): Program | undefined => {
  let found: Program | undefined;
  for (const path of paths) {
    const elf = elfAt(view, path);
    if (elf === null) continue;
    const arch = goArch(elf.machine, elf.class, elf.littleEndian);
    if (elf.interp !== null) return { arch, interp: elf.interp };
    found ??= { arch, interp: null };
  }
  return found;
};

const elfAt = (view: ImageView, path: string): ReturnType<typeof readElf> => {
  const file = findFile(view, path);
  if (file === null || file.node.size > MAX_PROGRAM_BYTES) return null;
  const head = view.read(file.path, 4);
  if (head === null || !isElf(bytesOf(head))) return null;
  const source = {
    size: file.node.size,
    read: (offset: number, length: number) => {
      const text = view.read(file.path, length, offset) ?? '';
      if (text.length < length) throw new RangeError(`${file.path} ends early`);
      return bytesOf(text);
    },
  };
  try {
    return readElf(source);
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

const libcOf = (view: ImageView, interp: string | null, directories: readonly string[]): ImageFacts['libc'] => {
  const musl = interp?.includes('/ld-musl-') === true ? interp : muslLoader(view);
  const glibc = firstOf(directories, (directory) => {
    const elf = elfAt(view, `${directory}/libc.so.6`);
    return elf === null ? undefined : newest(elf.versionDefs);
  });
  if (interp?.includes('/ld-musl-') !== true && glibc !== undefined) return { kind: 'glibc', version: glibc };
  if (musl !== undefined) return { kind: 'musl', version: muslVersion(view, musl) };
  return { kind: 'none', version: '' };
};

const firstOf = <T>(paths: readonly string[], find: (path: string) => T | undefined): T | undefined => {
  for (const path of paths) {
    const found = find(path);
    if (found !== undefined) return found;
  }
  return undefined;
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
