/** What is read: a tree of this machine's own Python with numpy and scipy, small files, and one large one; as a directory and as a SIF. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { primaryPartition, readSif } from '../../src/sif/read.ts';
import { withFile } from '../../src/util/file-source.ts';
import { makeBusyboxTree, tsrunPath } from '../../test/helpers/product.ts';

export type Data = {
  /** The tree, on whatever file system the data directory is on. */
  readonly tree: string;
  /** The same as a SIF, made by tsrun. */
  readonly image: string;
  /** Bytes of the image before its SquashFS. */
  readonly offset: number;
};

/** In the tree. */
export const TIMER = '/bin/spawn_times';
export const LARGE_FILE = '/opt/large';
/** Some ten thousand files, most of them small. */
export const SMALL_FILES = '/usr/include';

const LARGE_BYTES = 256 << 20;
const PROGRAMS = ['/usr/bin/python3', '/usr/bin/find', '/usr/bin/grep', '/usr/bin/fio', '/usr/bin/cat'] as const;
const FOLDERS = ['/usr/lib/python3', '/usr/lib/python3.11', '/usr/include'] as const;

/** Made once in `directory`, which the ordinary user must be able to enter. */
export const readingData = (directory: string): Data => {
  const tree = join(directory, 'tree');
  const image = join(directory, 'image.sif');
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  if (!existsSync(image)) {
    process.stderr.write(`making the data below ${directory}\n`);
    makeTree(tree);
    makeImage(tree, image);
  }
  return { tree, image, offset: squashOffset(image) };
};

const makeTree = (tree: string): void => {
  rmSync(tree, { recursive: true, force: true });
  mkdirSync(tree);
  makeBusyboxTree(tree);
  // A real program stands where busybox has an applet of the same name.
  for (const program of PROGRAMS) rmSync(join(tree, program.replace(/^\/usr/, '')), { force: true });
  const folders = FOLDERS.filter((folder) => existsSync(folder));
  copy(tree, folders);
  copy(tree, [...PROGRAMS, ...neededLibraries(folders)], ['--dereference']);
  const source = resolve(import.meta.dirname, '../launch/spawn_times.c');
  execFileSync('cc', ['-O2', '-static', '-o', join(tree, TIMER), source]);
  writeLargeFile(join(tree, LARGE_FILE));
  execFileSync('chmod', ['-R', 'a+rX', tree]);
};

const copy = (tree: string, paths: readonly string[], how: readonly string[] = []): void => {
  const packed = execFileSync('tar', ['-C', '/', ...how, '-cf', '-', ...paths.map((path) => path.slice(1))], { maxBuffer: 1 << 30 });
  execFileSync('tar', ['-C', tree, '--numeric-owner', '-xf', '-'], { input: packed });
};

/** Shared libraries of the programs and of all extension modules. */
const neededLibraries = (folders: readonly string[]): readonly string[] => {
  const modules = execFileSync('find', [...folders, '-name', '*.so*', '-type', 'f'], { encoding: 'utf8' })
    .trim()
    .split('\n');
  // ldd fails for a file that is no library; what it found for the others counts.
  const listed = spawnSync('ldd', [...PROGRAMS, ...modules], { encoding: 'utf8', maxBuffer: 1 << 28 }).stdout;
  const paths = listed.split('\n').flatMap((line) => /^\s+(?:\S+ => )?(\/\S+) \(0x/.exec(line)?.[1] ?? []);
  return [...new Set(paths)].sort();
};

/** Data as it lies in images: programs and libraries, which compress to about a third. */
const writeLargeFile = (path: string): void => {
  const fd = openSync(path, 'w');
  let left = LARGE_BYTES;
  const libraries = execFileSync('find', ['/usr/lib', '-name', '*.so*', '-type', 'f', '-size', '+64k'], { encoding: 'utf8' });
  for (const library of libraries.trim().split('\n').sort()) {
    if (left === 0) break;
    const part = readFileSync(library).subarray(0, left);
    writeFileSync(fd, part);
    left -= part.length;
  }
  closeSync(fd);
};

const makeImage = (tree: string, image: string): void => {
  const made = `${image}.new`;
  rmSync(made, { force: true });
  execFileSync('sh', ['-c', 'tar -C "$1" --owner=0 --group=0 --numeric-owner -cf - . | "$2" build "$3" -', 'sh', tree, tsrunPath, made], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  renameSync(made, image);
};

const squashOffset = (image: string): number => withFile(image, (source) => primaryPartition(readSif(source)).offset);
