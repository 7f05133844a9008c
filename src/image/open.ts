/**
 * From what the user typed to an image that can be run, by looking at the file, never at its name. A SIF costs one open and two
 * reads (descriptors, facts); a directory what finding out its facts costs. What needs the network or the image's inside is left to the full program (`Prepare`).
 */
import type { Digest } from '../oci/descriptor.ts';
import { isDigest } from '../oci/descriptor.ts';
import { parseReference, type Reference, type RegistryReference } from '../oci/reference.ts';
import { findObject, primaryPartition, readSif } from '../sif/read.ts';
import { factsPath, imagePath, referencePath } from '../store/layout.ts';
import { u16At, u64At } from '../util/byte-fields.ts';
import { type ByteSource, bytesOf } from '../util/bytes.ts';
import { errnoText } from '../util/errno.ts';
import { type ErrorCode, TsrunError } from '../util/errors.ts';
import { EACCES, EISDIR, ELOOP, ENOENT, ENOTDIR, failed, type Host, type Stat } from '../util/host.ts';
import { nameOf } from '../util/paths.ts';
import { lazyFacts } from './compute.ts';
import { IMAGE_FACTS_MAX_BYTES, IMAGE_FACTS_OBJECT, type ImageFacts } from './facts.ts';
import { hostView } from './host-view.ts';
import { archiveImageKey, archOfMachine, archRuns, fileKey, registryImageKey } from './identity.ts';
import { type DirectoryImage, HOT_LIST_OBJECT, type Image, type Prepare, type SquashImage } from './image.ts';
import { quickFacts } from './quick-facts.ts';
import { parseFacts } from './read-facts.ts';
import { type Area, readUsualSif, type UsualSif } from './usual-sif.ts';

/** Covers the magic numbers of everything that is told apart, and a usual SIF's descriptors. */
const HEAD_BYTES = 4096 + 8 * 585;
const MAX_REFERENCE_BYTES = 64 * 1024;
/** What a converter writes there: metadata for Apptainer. */
const MAX_BEHIND_FACTS = 4096;

export type OpenOptions = {
  /** Stores to look into, the first one first. Absolute paths. Asked for only when the image does not say it all. */
  readonly stores: () => readonly string[];
  /** The full program has been run: what is still missing stays missing. */
  readonly prepared: boolean;
  /** For relative paths; '' where it is unknown. */
  readonly cwd: string;
};

const refuse: (code: ErrorCode, image: string, why: string, hint?: string) => never = (code, image, why, hint) => {
  throw new TsrunError({ code, what: `cannot use image ${image}`, why, hint });
};

/** Errors: E_IMAGE_…, E_SIF_…, E_REFERENCE; E_PREPARE when the full program did not bring what was missing. */
export const openImage = (host: Host, text: string, options: OpenOptions): Image | Prepare => {
  const reference = parseReference(text);
  if (reference.kind === 'stdin-tar')
    refuse('E_IMAGE_STDIN', '-', 'standard input belongs to the program', 'build it first: tsrun build image.sif -');
  if (reference.kind === 'path') return openPath(host, reference.path, text, options);
  const stored = storedImage(host, reference, options.stores());
  if (stored !== undefined) return openPath(host, stored, text, options);
  return prepare(text, [text], options);
};

const prepare = (image: string, args: readonly string[], options: OpenOptions): Prepare => {
  if (!options.prepared) return { prepare: ['__prepare', ...args] };
  return refuse(
    'E_PREPARE',
    image,
    `it was prepared, but is not in the store ${options.stores()[0] ?? ''}`,
    'see whether that place is full or shared with another version of tsrun',
  );
};

// --- the store

const storedImage = (
  host: Host,
  reference: Exclude<Reference, { kind: 'path' | 'stdin-tar' }>,
  stores: readonly string[],
): string | undefined => {
  const arch = archOfMachine(host.machine());
  for (const store of stores) {
    const key = reference.kind === 'registry' ? registryKey(host, store, reference, arch) : archiveKey(host, reference, arch);
    if (key === undefined) continue;
    const path = imagePath(store, key);
    if (!failed(host.access(path, 4))) return path;
  }
  return undefined;
};

const registryKey = (host: Host, store: string, reference: RegistryReference, arch: string): string | undefined => {
  const digest = reference.digest ?? rememberedDigest(host, referencePath(store, reference));
  return digest === undefined ? undefined : registryImageKey(digest, arch);
};

const rememberedDigest = (host: Host, path: string): Digest | undefined => {
  const text = host.read(path, 0, MAX_REFERENCE_BYTES);
  if (failed(text)) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    const digest = typeof value === 'object' && value !== null && 'digest' in value ? value.digest : undefined;
    return typeof digest === 'string' && isDigest(digest) ? digest : undefined;
  } catch {
    return undefined;
  }
};

const archiveKey = (
  host: Host,
  reference: Exclude<Reference, { kind: 'path' | 'stdin-tar' | 'registry' }>,
  arch: string,
): string | undefined => {
  const stat = host.stat(reference.kind === 'oci-layout' ? `${reference.path}/index.json` : reference.path);
  if (failed(stat)) return undefined;
  return archiveImageKey(reference.kind, 'tag' in reference ? reference.tag : undefined, stat, arch);
};

// --- files and directories

const openPath = (host: Host, path: string, typed: string, options: OpenOptions): Image | Prepare => {
  const handle = host.openKeep(path);
  if (failed(handle)) return refuseMissing(path, handle);
  const absolute = absolutePath(path, options.cwd);
  const examine = (): Stat => {
    const stat = host.fstat(handle);
    return failed(stat) ? refuseMissing(path, stat) : stat;
  };
  const identity = (): ReturnType<SquashImage['identity']> => {
    const stat = examine();
    return { key: fileKey(stat), device: stat.dev };
  };

  const usual = readUsualSif(host, handle);
  let found = usual === undefined ? undefined : inWholeSif(host, handle, usual);
  if (found === undefined) {
    const stat = examine();
    if (stat.kind === 'directory') return openDirectory(host, absolute, typed);
    found = usual === undefined || usual.end > stat.size ? lookInside(host, path, handle, stat) : inSif(host, path, handle, usual);
  }
  const facts = found.facts ?? storedFacts(host, options.stores(), identity().key);
  if (facts === null) return prepare(typed, [absolute], options);
  checkArch(path, found.arch === 'unknown' ? facts.arch : found.arch, host.machine());
  return {
    kind: 'squashfs',
    container: found.container,
    path: absolute,
    handle: host.isLauncher ? handle : -1,
    offset: found.offset,
    size: found.size,
    hot: found.hot,
    identity,
    facts,
    reference: typed,
  };
};

/** `..` stays: behind a symbolic link it means another directory than in the text. A directory without a path has a name all the same. */
const absolutePath = (path: string, cwd: string): string =>
  path.startsWith('/') ? path : `${cwd === '' ? '/proc/self/cwd' : cwd === '/' ? '' : cwd}/${path.replace(/^(\.\/+)+/, '')}`;

const refuseMissing = (path: string, errno: number): never => {
  const isPath = path.includes('/') || /\.(sif|sqfs|sqsh|squashfs|img|tar)$/.test(path);
  const near = isPath ? undefined : `an image in a registry is written docker://${path}`;
  if (errno === ENOENT) refuse('E_IMAGE_MISSING', path, 'there is no such file', near ?? 'check the path');
  if (errno === ENOTDIR) refuse('E_IMAGE_MISSING', path, 'a part of the path is a file, not a directory', 'check the path');
  if (errno === EACCES) refuse('E_IMAGE_READ', path, 'you may not read it', `ask its owner for read permission; see ls -l ${path}`);
  if (errno === ELOOP) refuse('E_IMAGE_READ', path, 'its symbolic links lead in a circle', 'check the path');
  return refuse('E_IMAGE_READ', path, `it cannot be opened for reading (${errnoText(errno)})`, 'an image is a regular file or a directory');
};

const readAt = (host: Host, path: string, handle: number, offset: number, length: number): string => {
  const text = host.pread(handle, offset, length);
  if (failed(text)) {
    if (text === EISDIR) refuse('E_IMAGE_NOT', path, 'it is a directory');
    return refuse(
      'E_IMAGE_READ',
      path,
      `reading at ${offset} failed (${errnoText(text)})`,
      'the file system has a fault, or the file changed: try again or copy the file',
    );
  }
  if (text.length < length)
    refuse(
      'E_IMAGE_READ',
      path,
      `it ended at ${offset + text.length} while it was read`,
      'it was being written or cut: wait or fetch it again',
    );
  return text;
};

type Found = {
  readonly container: SquashImage['container'];
  readonly offset: number;
  readonly size: number;
  readonly arch: string;
  readonly facts: ImageFacts | null;
  readonly hot?: Area | undefined;
};

const lookInside = (host: Host, path: string, handle: number, stat: Stat): Found => {
  const head = readAt(host, path, handle, 0, Math.min(stat.size, HEAD_BYTES));
  if (head.startsWith('SIF_MAGIC\0', 32)) return inSif(host, path, handle, readAnySif(host, path, handle, stat, head));
  if (head.startsWith('hsqs')) return bareSquash(path, stat, head, 0);
  // Singularity 2 could put a line "#!/usr/bin/env run-singularity" in front.
  const line = head.startsWith('#!') ? head.indexOf('\n') : -1;
  if (line > 0 && line < 2048 && head.startsWith('hsqs', line + 1)) return bareSquash(path, stat, head, line + 1);
  return refuseForeign(path, stat, head);
};

/** SquashFS 4.0 superblock: version at 28, bytes used at 40 (kernel Documentation/filesystems/squashfs, squashfs_fs.h). */
const bareSquash = (path: string, stat: Stat, head: string, offset: number): Found => ({
  container: 'SquashFS',
  offset,
  size: squashSize(path, head, offset, stat.size - offset),
  arch: 'unknown',
  facts: null,
});

const squashSize = (path: string, head: string, at: number, room: number): number => {
  if (room < 96 || head.length < at + 96)
    refuse('E_IMAGE_TRUNCATED', path, 'it ends inside the SquashFS superblock', 'fetch or build it again');
  if (u16At(head, at + 28) !== 4 || u16At(head, at + 30) !== 0) {
    refuse(
      'E_IMAGE_NOT',
      path,
      `it is SquashFS version ${u16At(head, at + 28)}.${u16At(head, at + 30)}`,
      'tsrun reads version 4.0: unpack it with an old unsquashfs and pack it again',
    );
  }
  const used = u64At(head, at + 40);
  if (used > room)
    refuse(
      'E_IMAGE_TRUNCATED',
      path,
      `its SquashFS has ${used} bytes, the file only ${room} for it`,
      'it was not copied or downloaded completely: fetch it again',
    );
  return room;
};

type Located = { readonly root: Area & { readonly arch: string }; readonly facts: Area | undefined; readonly hot: Area | undefined };

/** What the partition holds is looked at by whoever serves it, who has to do so anyhow. */
const rootWith = ({ root, hot }: Located, facts: ImageFacts | null): Found => ({
  container: 'SIF',
  offset: root.offset,
  size: root.size,
  arch: root.arch,
  facts,
  hot,
});

const inSif = (host: Host, path: string, handle: number, sif: Located): Found => {
  const { facts } = sif;
  const text = facts === undefined || facts.size > IMAGE_FACTS_MAX_BYTES ? '' : readAt(host, path, handle, facts.offset, facts.size);
  return rootWith(sif, text === '' ? null : factsIn(host, text));
};

/** By reading the facts to the end of the file, which says as well that nothing of it is missing. Undefined: something is, or much lies behind them. */
const inWholeSif = (host: Host, handle: number, sif: UsualSif): Found | undefined => {
  const { facts, end } = sif;
  if (facts === undefined || facts.size > IMAGE_FACTS_MAX_BYTES || end - facts.offset > facts.size + MAX_BEHIND_FACTS) return undefined;
  const text = host.pread(handle, facts.offset, end - facts.offset);
  return failed(text) || facts.offset + text.length < end ? undefined : rootWith(sif, factsIn(host, text.slice(0, facts.size)));
};

const factsIn = (host: Host, text: string): ImageFacts | null => quickFacts(host, text) ?? parseFacts(text);

const readAnySif = (host: Host, path: string, handle: number, stat: Stat, head: string): Located => {
  const headBytes = bytesOf(head);
  const source: ByteSource = {
    size: stat.size,
    read: (offset, length) =>
      offset + length <= headBytes.length
        ? headBytes.subarray(offset, offset + length)
        : bytesOf(readAt(host, path, handle, offset, length)),
  };
  try {
    const sif = readSif(source);
    const root = primaryPartition(sif);
    const { fileSystem, arch } = root.content;
    if (fileSystem === 'encrypted-squashfs' || fileSystem === 'gocryptfs-squashfs') {
      refuse(
        'E_IMAGE_ENCRYPTED',
        path,
        'its root file system is encrypted',
        'tsrun has no encrypted images: build it again without encryption',
      );
    }
    if (fileSystem === 'ext3')
      refuse('E_IMAGE_EXT3', path, 'its root file system is an ext3 partition', 'convert it once: apptainer build new.sif old.sif');
    if (fileSystem !== 'squashfs')
      refuse('E_IMAGE_NOT', path, `its root file system is of the kind "${fileSystem}"`, 'tsrun runs SIF images with SquashFS inside');
    const { offset, size } = root;
    return {
      root: { offset, size, arch },
      facts: findObject(sif, 'generic-json', IMAGE_FACTS_OBJECT),
      hot: findObject(sif, 'generic', HOT_LIST_OBJECT),
    };
  } catch (error) {
    if (!(error instanceof TsrunError) || error.what.includes(path)) throw error;
    throw new TsrunError({ code: error.code, what: `cannot use image ${path}`, why: error.why, hint: error.hint });
  }
};

/** Files that are no image tsrun can run at once; those it can convert get the command. */
const refuseForeign = (path: string, stat: Stat, head: string): never => {
  const quoted = nameOf(path);
  const build = (scheme: string): string => `convert it first: tsrun build image.sif ${scheme}${path}`;
  if (stat.size === 0) refuse('E_IMAGE_NOT', path, 'the file is empty', 'the copy or download of it failed: fetch it again');
  if (head.length > 1082 && u16At(head, 1080) === 0xef53)
    refuse('E_IMAGE_EXT3', path, 'it is an ext3 file system', `convert it once: apptainer build new.sif ${quoted}`);
  if (head.startsWith('ustar', 257))
    refuse(
      'E_IMAGE_ARCHIVE',
      path,
      'it is a tar archive',
      `${build('docker-archive:')} (or oci-archive:, or tar: for a plain root file system)`,
    );
  if (head.startsWith('\x1f\x8b') || head.startsWith('\x28\xb5\x2f\xfd'))
    refuse('E_IMAGE_ARCHIVE', path, 'it is compressed data', build('tar:'));
  if (head.startsWith('sqsh'))
    refuse('E_IMAGE_NOT', path, 'it is a SquashFS for big-endian machines', 'unpack it with unsquashfs and pack it again');
  if (head.startsWith('#!')) refuse('E_IMAGE_NOT', path, 'it is a script', `the image comes before the command: tsrun exec IMAGE ${path}`);
  if (head.startsWith('\x7fELF'))
    refuse('E_IMAGE_NOT', path, 'it is a program', `the image comes before the command: tsrun exec IMAGE ${path}`);
  return refuse(
    'E_IMAGE_NOT',
    path,
    'it is neither a SIF nor a SquashFS image',
    'fetch or build it again; a damaged start of a file looks like this too',
  );
};

const checkArch = (path: string, arch: string, machine: string): void => {
  const here = archOfMachine(machine);
  if (archRuns(arch, here)) return;
  refuse('E_IMAGE_ARCH', path, `it is for ${arch}, this machine is ${here}`, `fetch it for this machine: tsrun pull --arch ${here} ...`);
};

const storedFacts = (host: Host, stores: readonly string[], key: string): ImageFacts | null => {
  for (const store of stores) {
    const text = host.read(factsPath(store, key), 0, IMAGE_FACTS_MAX_BYTES + 1);
    const facts = failed(text) || text.length > IMAGE_FACTS_MAX_BYTES ? null : factsIn(host, text);
    if (facts !== null) return facts;
  }
  return null;
};

const openDirectory = (host: Host, path: string, typed: string): DirectoryImage & { readonly reference: string } => {
  const root = path.replace(/(?<=.)\/+$/, '');
  if (!failed(host.access(`${root}/oci-layout`, 4))) {
    refuse('E_IMAGE_LAYOUT', path, 'it is an OCI layout, not a root file system', `write oci:${path}`);
  }
  const facts = lazyFacts(hostView(host, root));
  checkArch(path, facts.arch, host.machine());
  return { kind: 'directory', path: root, facts, reference: typed };
};
