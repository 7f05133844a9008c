/** Reference → something to convert: an image of layers, or a file that already holds a SquashFS. */
import { lstat, open, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Digest, Platform } from '../oci/descriptor.ts';
import { openDockerArchive } from '../oci/docker-archive.ts';
import { archiveFiles, directoryFiles, explainOpen, sourceError } from '../oci/files.ts';
import { layerLabel, type OciImage } from '../oci/image.ts';
import { type LayerSource, NOTHING_PROMISED } from '../oci/layer.ts';
import { openLayout } from '../oci/layout.ts';
import type { Limits } from '../oci/limits.ts';
import type { Reference, RegistryReference } from '../oci/reference.ts';
import type { Registry } from '../registry/types.ts';
import { nativeProgram } from '../util/native-program.ts';
import { fileChunks } from '../util/read-file.ts';
import { childOutput, gathered } from './child-stream.ts';

export type Source =
  | { readonly kind: 'layers'; readonly image: OciImage }
  /** A SIF or bare SquashFS file; what is in it is found out by foreign.ts. */
  | { readonly kind: 'squashfs'; readonly path: string; readonly name: string };

export type SourceContext = {
  readonly platform: Platform;
  readonly limits: Limits;
  /** Directory on the target's file system, for the unpacked copy of a compressed archive. */
  readonly scratch: string;
  /** Only called for docker:// references; closed by the caller. */
  readonly registry: () => Promise<Registry>;
  /** Ends the wait for standard input; whoever reads the rest looks at it between chunks. */
  readonly signal?: AbortSignal | undefined;
};

/** @throws TsrunError E_SOURCE, E_MANIFEST, E_PLATFORM …: all that can be known before the layers are read */
export const openSource = async (reference: Reference, context: SourceContext): Promise<Source> => {
  const { platform, limits, scratch } = context;
  switch (reference.kind) {
    case 'registry':
      return { kind: 'layers', image: await registryImage(reference, await context.registry(), platform) };
    case 'oci-layout': {
      const files = await directoryFiles(reference.path, reference.text);
      return { kind: 'layers', image: await openLayout(files, layoutOptions(reference, 'oci', platform)) };
    }
    case 'oci-archive': {
      const files = await archiveFiles(reference.path, reference.text, scratch, limits);
      return { kind: 'layers', image: await closing(files, openLayout(files, layoutOptions(reference, 'oci-archive', platform))) };
    }
    case 'docker-archive': {
      const files = await archiveFiles(reference.path, reference.text, scratch, limits);
      return {
        kind: 'layers',
        image: await closing(files, openDockerArchive(files, layoutOptions(reference, 'docker-archive', platform))),
      };
    }
    case 'tar':
      return { kind: 'layers', image: await tarImage(reference.path, reference.text) };
    case 'stdin-tar':
      return { kind: 'layers', image: rootfsImage('standard input', 'tar', '-', stdinLayer(context.signal)) };
    case 'path':
      return openPath(reference.path);
    default:
      return reference satisfies never;
  }
};

const closing = async (files: { close(): Promise<void> }, opening: Promise<OciImage>): Promise<OciImage> => {
  try {
    return await opening;
  } catch (error) {
    await files.close();
    throw error;
  }
};

/** The address without its directory: the same archive gives the same image wherever it lies. */
const layoutOptions = (reference: { readonly path: string; readonly tag?: string | undefined }, bootstrap: string, platform: Platform) => ({
  tag: reference.tag,
  platform,
  origin: { bootstrap, from: basename(reference.path) + (reference.tag === undefined ? '' : `:${reference.tag}`) },
});

const registryImage = async (reference: RegistryReference, registry: Registry, platform: Platform): Promise<OciImage> => {
  const image = await registry.resolve(reference, { platform });
  const blobs = registry.fetchLayers(image);
  // Their errors are met when a layer is opened, which may be much later.
  for (const blob of blobs.values()) blob.catch(() => {});
  const layers = image.layers.map(({ mediaType, digest, size }, at): LayerSource => {
    const open = async function* (): AsyncGenerator<Uint8Array> {
      yield* fileChunks(await (blobs.get(digest) as Promise<string>));
    };
    // The store has checked the digest; the size still guards against a blob that was cut off afterwards.
    return {
      label: layerLabel(at, image.layers.length, digest),
      mediaType,
      digest: undefined,
      size,
      diffId: diffIdAt(image.config.bytes, at),
      reopenable: true,
      open,
    };
  });
  return {
    name: reference.text,
    origin: { bootstrap: 'docker', from: reference.text.replace(/^docker:\/\//, '') },
    layers,
    config: image.config.bytes,
    manifest: image.manifest.bytes,
    manifestDigest: image.manifest.digest,
    platform: image.platform,
    close: async () => {},
  };
};

/** `resolve` has checked the config. */
const diffIdAt = (config: Uint8Array, at: number): Digest | undefined => {
  const { rootfs } = JSON.parse(Buffer.from(config).toString('utf8')) as { rootfs: { diff_ids: readonly Digest[] } };
  return rootfs.diff_ids[at];
};

const tarImage = async (path: string, name: string): Promise<OciImage> => {
  const found = await stat(path).catch((error: unknown) => {
    throw explainOpen(error, name);
  });
  if (found.isDirectory()) throw sourceError(name, 'it is a directory', `give its plain path: ${path}`);
  if (found.isFile() && found.size === 0) throw sourceError(name, 'the file is empty', 'make or fetch it again');
  // A pipe is not looked into: what is read of it is gone.
  const mediaType = found.isFile() ? mediaTypeOf(await readHead(path)) : undefined;
  const size = found.isFile() ? found.size : undefined;
  const layer = { ...NOTHING_PROMISED, label: 'the archive', mediaType, size, reopenable: found.isFile(), open: () => fileChunks(path) };
  return { ...rootfsImage(name, 'tar', basename(path), layer), path: found.isFile() ? path : undefined };
};

const mediaTypeOf = (head: Buffer): string | undefined => {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'application/vnd.oci.image.layer.v1.tar+gzip';
  return head.length >= 4 && head.readUInt32LE(0) === 0xfd2fb528 ? 'application/vnd.oci.image.layer.v1.tar+zstd' : undefined;
};

const stdinLayer = (signal: AbortSignal | undefined): LayerSource => ({
  ...NOTHING_PROMISED,
  label: 'the archive',
  reopenable: false,
  open: () => {
    signal?.addEventListener('abort', () => process.stdin.destroy(signal.reason), { once: true });
    return gathered(process.stdin);
  },
});

const rootfsImage = (name: string, bootstrap: string, from: string, layer: LayerSource): OciImage => ({
  name,
  origin: { bootstrap, from },
  layers: [layer],
  config: undefined,
  manifest: undefined,
  manifestDigest: undefined,
  platform: undefined,
  close: async () => {},
});

const openPath = async (path: string): Promise<Source> => {
  const found = await stat(path).catch((error: unknown) => {
    throw looksLikeName(path)
      ? sourceError(path, 'there is no such file', `an image of a registry is written docker://${path}`)
      : explainOpen(error, path);
  });
  if (found.isDirectory()) {
    const layout = await stat(`${path}/oci-layout`).catch(() => undefined);
    if (layout !== undefined) throw sourceError(path, 'it is an OCI layout, not a root file system', `write oci:${path}`);
    // In a sandbox that this user has made, everything belongs to them; who is meant stands in records, and is root where there is none.
    const sandbox = found.uid === process.getuid?.() && (await isSandbox(path));
    const open = (): AsyncIterable<Uint8Array> =>
      childOutput([nativeProgram(), sandbox ? '@layer' : '@image', 'tar', path], `cannot read the directory ${path}`);
    return {
      kind: 'layers',
      image: {
        ...rootfsImage(path, 'localimage', basename(path), { ...NOTHING_PROMISED, label: 'the directory', open }),
        path,
      },
    };
  }
  const head = await readHead(path);
  if (head.subarray(32, 41).toString('latin1') === 'SIF_MAGIC' || head.subarray(0, 4).toString('latin1') === 'hsqs') {
    return { kind: 'squashfs', path, name: path };
  }
  throw sourceError(
    path,
    whatItIs(head, found.size),
    'known: SIF and SquashFS files, directories, and tar:, docker-archive:, oci-archive: in front of a tar file',
  );
};

/** Owners of links of a sandbox, at its top; see native/owners.h. It is in no image. */
export const SANDBOX_OWNERS = '.tsrun-owners';

/** Made by `--sandbox`, here or, by an ordinary user, by Apptainer: what root has unpacked with that has its owners. */
const isSandbox = async (path: string): Promise<boolean> =>
  (await lstat(`${path}/${SANDBOX_OWNERS}`).catch(() => undefined))?.isFile() === true ||
  (process.getuid?.() !== 0 && (await stat(`${path}/.singularity.d/env`).catch(() => undefined))?.isDirectory() === true);

/** "alpine", "alpine:3", "ghcr.io/a/b:1": meant for a registry, unless it ends like a file. */
const looksLikeName = (path: string): boolean =>
  /^[a-z0-9]+(?:[._-][a-z0-9]+)*(?:[/:][A-Za-z0-9._-]+)*$/.test(path) &&
  !/\.(?:sif|simg|squashfs|sqsh|sqfs|img|tar|tgz|gz|zst)$/.test(path);

const readHead = async (path: string): Promise<Buffer> => {
  try {
    const file = await open(path, 'r');
    try {
      const head = Buffer.alloc(4096);
      const { bytesRead } = await file.read(head, 0, head.length, 0);
      return head.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw explainOpen(error, path);
  }
};

const whatItIs = (head: Buffer, size: number): string => {
  if (size === 0) return 'the file is empty';
  if (head.toString('latin1', 257, 262) === 'ustar') return 'it is a tar archive, which may hold a root file system or an image';
  if (head[0] === 0x1f && head[1] === 0x8b) return 'it is compressed data';
  if (head.length > 1082 && head.readUInt16LE(1080) === 0xef53) return 'it is an ext3 image';
  return 'it is neither a SIF nor a SquashFS file';
};
