/** Images for the cluster's jobs: busybox, and this machine's MPI libraries with a program made with each. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readlinkSync, realpathSync, symlinkSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { makeBusyboxImage } from '../helpers/product.ts';

const must = (program: string, ...args: string[]): string => {
  const done = spawnSync(program, args, { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${program} ${args.join(' ')}: ${done.stderr}`);
  return done.stdout;
};

const source = (name: string): string => join(import.meta.dirname, 'programs', `${name}.c`);

/** A file at the same path in the tree, with what it is a link to; a directory with all that is in it. */
const bring = (tree: string, path: string): void => {
  const place = realpathSync(dirname(path));
  const target = join(tree, place, basename(path));
  if (existsSync(target)) return;
  mkdirSync(dirname(target), { recursive: true });
  cpSync(path, target, { recursive: true, verbatimSymlinks: true });
  if (lstatSync(path).isSymbolicLink()) bring(tree, resolve(place, readlinkSync(path)));
};

const filesBelow = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() && entry.name.endsWith('.so') ? [join(entry.parentPath, entry.name)] : [],
  );

/** The shared libraries that programs and libraries need. */
const bringLibrariesOf = (tree: string, paths: readonly string[]): void => {
  const listed = spawnSync('ldd', paths, { encoding: 'utf8' }).stdout;
  for (const [, path = ''] of listed.matchAll(/(?:=> |^\t)(\/\S+) \(0x/gm)) bring(tree, path);
};

/** With `/bin/neighbour`. */
export const makeJobImage = (place: string): string =>
  makeBusyboxImage(place, (tree) => {
    must('cc', '-O1', '-Wall', '-Wextra', '-Werror', '-static', '-o', join(tree, 'bin/neighbour'), source('neighbour'));
  });

export const MPI = ['openmpi', 'mpich'] as const;

export const mpiIsThere = (): boolean => MPI.every((name) => existsSync(`/usr/bin/mpicc.${name}`));

/** With `/bin/hello.openmpi` and `/bin/hello.mpich`, and what they load when they run; of one alone also as `/bin/solver`. */
export const makeMpiImage = (place: string, which: readonly (typeof MPI)[number][] = MPI): string =>
  makeBusyboxImage(place, (tree) => {
    for (const name of ['lib', 'lib64']) symlinkSync(`usr/${name}`, join(tree, name));
    const programs = which.map((name) => {
      const program = join(tree, `bin/hello.${name}`);
      must(`mpicc.${name}`, '-O1', '-Wall', '-Wextra', '-Werror', '-o', program, source('hello'));
      return program;
    });
    if (which.length === 1) symlinkSync(`hello.${which[0]}`, join(tree, 'bin/solver'));
    const libraries = dirname(realpathSync(must('cc', '-print-file-name=libc.so.6').trim()));
    const plugins = ['openmpi', 'pmix2', 'ucx'].map((name) => join(libraries, name)).filter((path) => existsSync(path));
    for (const path of [...plugins, '/etc/openmpi', '/usr/share/openmpi', '/usr/share/pmix2']) if (existsSync(path)) bring(tree, path);
    bringLibrariesOf(tree, [...programs, ...plugins.flatMap(filesBelow)]);
  });
