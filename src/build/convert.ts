/**
 * The converter: one image in, one SIF out.
 *
 *     source ─► layers ─► mergeLayers ─► tree ─► /.singularity.d, facts ─► SquashFS ─► SIF objects ─► rename
 *
 * The output appears whole or not at all; the same input, options and tsrun version give the same bytes.
 */
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { computeFacts, factsJson } from '../image/compute.ts';
import { IMAGE_FACTS_MAX_BYTES, IMAGE_FACTS_OBJECT, type ImageFacts } from '../image/facts.ts';
import { renderSingularity } from '../image/singularity.ts';
import type { ImageView } from '../image/view.ts';
import { EMPTY_CONFIG, parseRunConfig, type RunConfig } from '../oci/config.ts';
import type { OciImage } from '../oci/image.ts';
import { storedBytes } from '../oci/image.ts';
import type { Limits } from '../oci/limits.ts';
import { layerCompression } from '../oci/media-types.ts';
import { type ExactContents, type Merged, mergeLayers } from '../oci/merge.ts';
import { ARCHITECTURES, type SifArch } from '../sif/format.ts';
import { createSif, type SifBuilder } from '../sif/write.ts';
import type { BlockList, KnownImage } from '../squashfs/known-blocks.ts';
import type { Compressor, WriteResult } from '../squashfs/types.ts';
import { createSquashfsWriter, type Writer } from '../squashfs/writer.ts';
import { TsrunError } from '../util/errors.ts';
import { nativeProgram } from '../util/native-program.ts';
import { decodeUtf8, encodeUtf8 } from '../util/utf8.ts';
import { VERSION } from '../util/version.ts';
import { keepBytes } from './keep.ts';
import { buildRecordText, definitionText, inspectMetadata, OBJECTS } from './records.ts';
import { addRendered } from './render.ts';
import { treeView } from './tree-view.ts';

export type ConvertOptions = {
  readonly compressor: Compressor;
  readonly level: number | undefined;
  /** Bytes; a power of two. */
  readonly blockSize: number;
  /** Compressing threads; `undefined`: as many as are useful here. Does not change the bytes written. */
  readonly threads: number | undefined;
  readonly limits: Limits;
  /** Replace an existing target. */
  readonly force: boolean;
  /** Images with blocks that need not be compressed; then `Converted.blocks` lists those of the new one. */
  readonly known?: readonly KnownImage[] | undefined;
  readonly signal: AbortSignal;
  /** Stored bytes read so far, of `total` when that is known. */
  readonly onProgress: (done: number, total: number | undefined) => void;
};

export type Converted = {
  readonly facts: ImageFacts;
  readonly treeDigest: string;
  readonly entries: number;
  readonly bytes: number;
  readonly contentBytes: number;
  /** What the image could not hold exactly, one sentence each. */
  readonly notes: readonly string[];
  readonly blocks: BlockList | undefined;
};

/** @throws TsrunError E_EXISTS, E_OUTPUT, E_OUTPUT_FULL, and everything the source and its layers can be wrong about */
export const convertImage = async (image: OciImage, target: string, options: ConvertOptions): Promise<Converted> => {
  refuseExisting(target, options.force);
  await requireSpace(image, target);
  const config = image.config === undefined ? EMPTY_CONFIG : parseRunConfig(JSON.parse(Buffer.from(image.config).toString('utf8')));
  let converted: Converted | undefined;
  await createSif(target, {}, async (sif) => {
    converted = await fillSif(sif, image, config, options);
  });
  return converted as Converted;
};

export const refuseExisting = (target: string, force: boolean): void => {
  if (force || !existsSync(target)) return;
  throw new TsrunError({ code: 'E_EXISTS', what: `cannot write ${target}`, why: 'it exists', hint: 'to replace it, add --force' });
};

const fillSif = async (sif: SifBuilder, image: OciImage, config: RunConfig, options: ConvertOptions): Promise<Converted> => {
  const bytes = image.definition ?? encodeUtf8(definitionText(image.origin));
  const definition = decodeUtf8(bytes) ?? bytes;
  await sif.add({ content: { type: 'definition' }, name: OBJECTS.definition }, Buffer.from(bytes, 'latin1'));
  if (image.config !== undefined) await sif.add({ content: { type: 'generic-json' }, name: OBJECTS.ociConfig }, image.config);
  if (image.manifest !== undefined) await sif.add({ content: { type: 'generic-json' }, name: OBJECTS.ociManifest }, image.manifest);

  // The SIF writer encodes descriptors at the end; by then the tree has told the architecture of images that do not name one.
  const partition = { type: 'partition' as const, fileSystem: 'squashfs' as const, role: 'primary' as const, arch: 'unknown' as SifArch };
  let written: Written | undefined;
  await sif.addStream({ content: partition, name: OBJECTS.partition }, async (fd, offset) => {
    written = await writeImage(fd, offset, image, options, (writer, merged) => finish(writer, merged, image, config));
    partition.arch = sifArch(written.facts.arch);
    return written.result.bytes;
  });
  const { facts, view, result, merged } = written as Written;
  await sif.add(
    { content: { type: 'generic-json' }, name: OBJECTS.metadata },
    Buffer.from(inspectMetadata(view, config.labels, definition)),
  );
  const factsText = Buffer.from(factsJson(facts));
  if (factsText.length <= IMAGE_FACTS_MAX_BYTES) await sif.add({ content: { type: 'generic-json' }, name: IMAGE_FACTS_OBJECT }, factsText);
  await sif.add({ content: { type: 'generic-json' }, name: OBJECTS.build }, Buffer.from(buildText(image, options, result)));
  const { treeDigest, contentBytes, notes, blocks } = result;
  return { facts, treeDigest, entries: merged.entries, bytes: result.bytes, contentBytes, notes, blocks };
};

type Written = { readonly facts: ImageFacts; readonly view: ImageView; readonly result: WriteResult; readonly merged: Merged };

/**
 * The image's layers as one SquashFS at `offset` of an open file.
 * @param complete ends the writer: adds what the layers do not have, writes the tables
 */
export const writeImage = async <T>(
  fd: number,
  offset: number,
  image: OciImage,
  options: ConvertOptions,
  complete: (writer: Writer, merged: Merged) => Promise<T>,
): Promise<T> => {
  let exact: ExactContents | undefined;
  for (;;) {
    const writer = openWriter(fd, offset, options);
    try {
      const merged = await merge(image, writer, exact, options);
      if (merged.rewrite === undefined) return await complete(writer, merged);
      exact = merged.rewrite;
    } catch (error) {
      throw writeErrorOf(error);
    } finally {
      await writer.abort();
    }
  }
};

/** Where the system said no, the output file's own error says it best: it knows the target. */
const writeErrorOf = (error: unknown): unknown =>
  error instanceof TsrunError && error.code === 'E_SQUASHFS_WRITE' && error.cause instanceof Error ? error.cause : error;

const openWriter = (fd: number, offset: number, { compressor, level, blockSize, threads, known }: ConvertOptions): Writer => {
  const native = compressor === 'xz' || compressor === 'lz4';
  return createSquashfsWriter({
    fd,
    offset,
    compressor,
    level,
    blockSize,
    threads,
    known,
    codecCommand: native ? [nativeProgram(), '@codec'] : undefined,
  });
};

const merge = (image: OciImage, writer: Writer, exact: ExactContents | undefined, options: ConvertOptions): Promise<Merged> => {
  const total = storedBytes(image);
  let done = 0;
  return mergeLayers({
    name: image.name,
    layers: image.layers,
    filter: (handler, at) => image.layers[at]?.through?.(handler) ?? handler,
    writer,
    limits: options.limits,
    keep: keepBytes,
    onBytes: (bytes) => {
      done += bytes;
      options.onProgress(done, total);
    },
    signal: options.signal,
    exact,
  });
};

const finish = async (writer: Writer, merged: Merged, image: OciImage, config: RunConfig): Promise<Written> => {
  const { tree } = merged;
  const kept = new Map(merged.kept);
  const recording: Writer = recordSmall(writer, kept);
  await addRendered(tree, recording, renderSingularity(config), config.created);
  const view = treeView(tree, kept);
  const facts = computeFacts(view, image.config === undefined ? undefined : config, image.platform?.architecture);
  return { facts, view, result: await writer.finish(tree), merged };
};

/** Rendered files are small: all of them are kept for the facts and the inspect data. */
const recordSmall = (writer: Writer, kept: Map<number, { bytes: Uint8Array; size: number }>): Writer => {
  let bytes: Uint8Array = new Uint8Array(0);
  return {
    ...writer,
    beginFile: (size) => {
      bytes = new Uint8Array(0);
      writer.beginFile(size);
    },
    write: (chunk) => {
      bytes = chunk;
      return writer.write(chunk);
    },
    endFile: () => {
      const content = writer.endFile();
      kept.set(content, { bytes, size: bytes.length });
      return content;
    },
  };
};

/** GOARCH → what SIF has a code for. */
export const sifArch = (arch: string): SifArch => ARCHITECTURES.find((entry) => entry[1] === arch)?.[1] ?? 'unknown';

const buildText = (image: OciImage, { compressor, level, blockSize }: ConvertOptions, result: WriteResult): string =>
  buildRecordText({
    version: 1,
    tsrun: VERSION,
    node: process.versions.node,
    treeDigest: result.treeDigest,
    compression: { compressor, level, blockSize },
    source: { ...image.origin, manifestDigest: image.manifestDigest },
    layers: image.layers.flatMap(({ diffId, digest }) => diffId ?? digest ?? []),
  });

/** A share of compressed layers that no image stays below: what is known before any work. Of plain tar nothing is: it may be zeros. */
const SURELY_NEEDED = 0.3;

const requireSpace = async (image: OciImage, target: string): Promise<void> => {
  const compressed = image.layers.reduce((sum, { mediaType, size = 0 }) => sum + (isCompressed(mediaType) ? size : 0), 0);
  const why = `from ${compressed} bytes of layers the image will have about as many`;
  await requireFree(target, Math.ceil(compressed * SURELY_NEEDED), why);
};

const isCompressed = (mediaType: string | undefined): boolean =>
  mediaType !== undefined && layerCompression(mediaType) !== undefined && layerCompression(mediaType) !== 'none';

/** @throws TsrunError E_OUTPUT_FULL. Quotas are not visible this way; they show when writing. */
export const requireFree = async (target: string, needed: number, why: string): Promise<void> => {
  const space = await statfs(dirname(target)).catch(() => undefined);
  if (space === undefined || space.bavail * space.bsize >= needed) return;
  throw new TsrunError({
    code: 'E_OUTPUT_FULL',
    what: `cannot write ${target}`,
    why: `its file system has ${space.bavail * space.bsize} bytes left; ${why}`,
    hint: 'free some space, or write to another file system; nothing was changed',
  });
};
