/** The files of a layout or an archive, read by name: a directory, or the members of a tar file (in any order, through symbolic links). */
import { type FileHandle, open, stat, statfs, unlink } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { indexTarFile } from '../tar/index-file.ts';
import { TsrunError } from '../util/errors.ts';
import { fileChunks } from '../util/read-file.ts';
import { type LayerSource, layerTar, NOTHING_PROMISED } from './layer.ts';
import type { Limits } from './limits.ts';

export type Files = {
  /** What the user typed. */
  readonly name: string;
  /** `undefined`: no such file. */
  size(path: string): Promise<number | undefined>;
  open(path: string): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
};

/** @throws TsrunError E_SOURCE when the file is longer than `limit` or cannot be read */
export const readWhole = async (files: Files, path: string, limit: number): Promise<Uint8Array | undefined> => {
  const size = await files.size(path);
  if (size === undefined) return undefined;
  if (size > limit) throw sourceError(files.name, `${path} has ${size} bytes, more than ${limit}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of files.open(path)) chunks.push(chunk);
  return Buffer.concat(chunks);
};

export const sourceError = (name: string, why: string, hint?: string): TsrunError =>
  new TsrunError({ code: 'E_SOURCE', what: `cannot use ${name}`, why, hint });

/** Node's error for a source that cannot be opened, in our words. */
export const explainOpen = (error: unknown, name: string): unknown => {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'ENOTDIR') return sourceError(name, 'there is no such file', 'check the path');
  if (code === 'EACCES' || code === 'EPERM') return sourceError(name, 'you may not read it', 'ask its owner for access');
  if (code === 'EISDIR')
    return sourceError(name, 'it is a directory', 'for an OCI layout write oci:PATH, for a root file system the plain PATH');
  return error;
};

export const directoryFiles = async (root: string, name: string): Promise<Files> => {
  const found = await stat(root).catch((error: unknown) => {
    throw explainOpen(error, name);
  });
  if (!found.isDirectory())
    throw sourceError(name, 'it is not a directory', 'for an archive write oci-archive:FILE or docker-archive:FILE');
  return {
    name,
    size: async (path) => {
      const entry = await stat(join(root, path)).catch(() => undefined);
      return entry?.isFile() === true ? entry.size : undefined;
    },
    open: (path) => fileChunks(join(root, path)),
    close: async () => {},
  };
};

type Member = { readonly kind: 'file'; readonly offset: number; readonly size: number } | { readonly kind: 'link'; readonly to: string };

/**
 * @param scratch directory for the unpacked copy of a compressed archive (removed at once, kept open)
 * @throws TsrunError E_SOURCE, E_TAR, E_LAYER
 */
export const archiveFiles = async (path: string, name: string, scratch: string, limits: Limits): Promise<Files> => {
  const plain = await plainArchive(path, name, scratch, limits);
  const members = new Map<string, Member>();
  try {
    await indexTarFile(plain.path, name, ({ entry, offset }) => {
      const key = posix.normalize(entry.path.replace(/^\/+/, '')).replace(/\/$/, '');
      if (entry.type === 'file') members.set(key, { kind: 'file', offset, size: entry.size });
      // A hard link names a member, a symbolic link is relative to where it stands.
      if (entry.type === 'hardlink') members.set(key, { kind: 'link', to: posix.normalize(entry.linkpath) });
      if (entry.type === 'symlink') members.set(key, { kind: 'link', to: posix.join(posix.dirname(key), entry.linkpath) });
    });
  } catch (error) {
    await plain.close();
    throw explainOpen(error, name);
  }
  const resolve = (wanted: string): Extract<Member, { kind: 'file' }> | undefined => {
    let member = members.get(posix.normalize(wanted));
    for (let hops = 0; member?.kind === 'link' && hops < 8; hops++) member = members.get(member.to);
    return member?.kind === 'file' ? member : undefined;
  };
  return {
    name,
    size: async (wanted) => resolve(wanted)?.size,
    open: (wanted) => {
      const member = resolve(wanted);
      if (member === undefined) throw sourceError(name, `it has no file ${wanted}`);
      return fileChunks(plain.path, member.offset, member.size);
    },
    close: plain.close,
  };
};

/** A compressed archive cannot be read at places: it is unpacked once into a file without a name. */
const plainArchive = async (
  path: string,
  name: string,
  scratch: string,
  limits: Limits,
): Promise<{ readonly path: string; close(): Promise<void> }> => {
  const head = await readHead(path, name);
  const compressed = (head[0] === 0x1f && head[1] === 0x8b) || (head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528);
  if (!compressed) return { path, close: async () => {} };
  await requireRoom(scratch, (await stat(path)).size, name);
  const spool = await unnamedFile(scratch);
  try {
    const source: LayerSource = {
      label: 'the archive',
      ...NOTHING_PROMISED,
      open: () => fileChunks(path),
    };
    let bytes = 0;
    for await (const chunk of layerTar(source, name, limits, () => {})) {
      bytes += chunk.length;
      if (bytes > limits.bytes)
        throw sourceError(name, `it unpacks to more than ${limits.bytes} bytes`, 'raise the limit with --limit-size');
      await spool.write(chunk);
    }
  } catch (error) {
    await spool.close();
    throw error;
  }
  return { path: `/proc/self/fd/${spool.fd}`, close: () => spool.close() };
};

/** It will be longer than its compressed form. */
const requireRoom = async (directory: string, bytes: number, name: string): Promise<void> => {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize >= bytes) return;
  throw new TsrunError({
    code: 'E_OUTPUT_FULL',
    what: `cannot unpack ${name} in ${directory}`,
    why: `it has ${bytes} bytes compressed, and only ${bavail * bsize} are free there`,
    hint: 'write the image to another file system, or unpack the archive yourself; nothing was changed',
  });
};

const readHead = async (path: string, name: string): Promise<Buffer> => {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of fileChunks(path, 0, 512)) chunks.push(chunk);
  } catch (error) {
    throw explainOpen(error, name);
  }
  const head = Buffer.concat(chunks);
  if (head.length === 0) throw sourceError(name, 'the file is empty', 'make or fetch it again');
  return head;
};

/** Open for reading and writing, gone from its directory: the kernel frees it whatever happens to us. */
export const unnamedFile = async (directory: string): Promise<FileHandle> => {
  const path = join(directory, `.tsrun-spool-${process.pid}-${Math.random().toString(36).slice(2)}.tmp`);
  const file = await open(path, 'wx+', 0o600);
  await unlink(path);
  return file;
};
