/**
 * An image written again for what a run does first:
 *
 *     image ─► tree ─┐
 *     touches ───────┴─► contents in order of first touch, then the rest ─► SquashFS, directories that were touched last ─► hot list ─► SIF
 *
 * The files stay the same to the last bit of their metadata (the tree digest tells), and so does every other object of the SIF. The same image and the
 * same touches give the same bytes.
 */
import { writeSync } from 'node:fs';
import { factsJson } from '../image/compute.ts';
import { IMAGE_FACTS_OBJECT } from '../image/facts.ts';
import { HOT_LIST_OBJECT } from '../image/image.ts';
import type { SifObject } from '../sif/format.ts';
import { createSif, type SifBuilder } from '../sif/write.ts';
import { parentOf, ROOT, setFileContent } from '../squashfs/tree.ts';
import { COMPRESSOR_IDS, type Compressor, type WriteResult } from '../squashfs/types.ts';
import { createSquashfsWriter, type Writer } from '../squashfs/writer.ts';
import { TsrunError } from '../util/errors.ts';
import { nativeProgram } from '../util/native-program.ts';
import { fileChunks } from '../util/read-file.ts';
import { refuseExisting, requireFree, sifArch } from './convert.ts';
import { factsOfFile, metadataOfFile } from './foreign.ts';
import { type ImageInode, type ImageTree, imageOutput, readImageTree } from './image-tree.ts';
import { OBJECTS } from './records.ts';
import { objectText, type SquashFile } from './squash-file.ts';
import { readTouches, TOUCH, type Touch } from './touches.ts';

export type OptimizeOptions = {
  readonly force: boolean;
  readonly threads: number | undefined;
  readonly signal: AbortSignal;
  /** Bytes of file contents written, of all. */
  readonly onProgress: (done: number, total: number) => void;
};

export type Optimized = {
  readonly treeDigest: string;
  /** Files whose content was touched, and their bytes; bytes of all files. */
  readonly hotFiles: number;
  readonly hotBytes: number;
  readonly bytes: number;
  /** Entries of the hot list. */
  readonly pieces: number;
  readonly notes: readonly string[];
};

/** @param records files that `--record` made, the most important one first. @throws TsrunError E_RECORD, E_EXISTS, E_OUTPUT, E_OUTPUT_FULL, E_SOURCE … */
export const optimizeImage = async (
  image: SquashFile,
  records: readonly string[],
  target: string,
  options: OptimizeOptions,
): Promise<Optimized> => {
  refuseExisting(target, options.force);
  await requireFree(target, image.size, `the image needs about ${image.size}`);
  const touches = await readTouches(records, image);
  const source = await readImageTree(image);
  const hot = touches.filter(({ inode }) => source.inodes.has(inode));
  if (!hot.some(({ kind }) => kind === TOUCH.data)) {
    throw new TsrunError({
      code: 'E_RECORD',
      what: `cannot optimize ${image.path}`,
      why: 'nothing was read of it',
      hint: 'record a command that does what the image is used for',
    });
  }
  const files = contentOrder(source, hot);
  let optimized: Optimized | undefined;
  await createSif(target, launchScriptOf(image), async (sif) => {
    optimized = await fillSif(sif, image, source, files, hot, options);
  });
  return optimized as Optimized;
};

const launchScriptOf = ({ sif }: SquashFile) => (sif === undefined ? {} : { launchScript: sif.header.launchScript });

// --- the order

type Files = { readonly hot: readonly ImageInode[]; readonly cold: readonly ImageInode[] };

/** Files by the first touch of their content, then all others as they are named. */
const contentOrder = ({ inodes }: ImageTree, touches: readonly Touch[]): Files => {
  const hot = new Set<ImageInode>();
  for (const { kind, inode } of touches) {
    const file = inodes.get(inode) as ImageInode;
    if (kind === TOUCH.data && isStored(file)) hot.add(file);
  }
  return { hot: [...hot], cold: [...inodes.values()].filter((file) => isStored(file) && !hot.has(file)) };
};

const isStored = ({ kind, size }: ImageInode): boolean => kind === 'f' && size > 0;

/** Directories in which something was touched, and all above them: by node. */
const hotDirectories = ({ tree, inodes }: ImageTree, touches: readonly Touch[]): Uint8Array => {
  const hot = new Uint8Array(tree.count);
  hot[ROOT] = 1;
  for (const { inode } of touches) {
    const { node, kind } = inodes.get(inode) as ImageInode;
    for (let at = kind === 'd' ? node : parentOf(tree, node); hot[at] === 0; at = parentOf(tree, at)) hot[at] = 1;
  }
  return hot;
};

// --- writing

const fillSif = async (
  sif: SifBuilder,
  image: SquashFile,
  source: ImageTree,
  files: Files,
  touches: readonly Touch[],
  options: OptimizeOptions,
): Promise<Optimized> => {
  const facts = factsOfFile(image);
  const objects = image.sif?.objects ?? [];
  const ids = new Map<number, number>();
  let written: WriteResult | undefined;
  let list: Uint8Array | undefined;
  const addPartition = (content: Extract<SifObject['content'], { type: 'partition' }>, name: string): Promise<number> =>
    sif.addStream({ content, name }, async (fd, offset) => {
      written = await writePartition(fd, offset, image, source, files, touches, options);
      // The file has no name yet, and need not get one.
      const made = { ...image, path: `/proc/${process.pid}/fd/${fd}`, offset, size: written.bytes };
      list = await hotList(made, source, touches);
      return written.bytes;
    });

  const keep = async (object: SifObject): Promise<void> => {
    const { content, name, group, link, id } = object;
    const to = link.to === 'object' ? ids.get(link.id) : undefined;
    const kept = link.to !== 'object' ? link : to === undefined ? ({ to: 'nothing' } as const) : ({ to: 'object', id: to } as const);
    ids.set(id, await sif.addStream({ content, name, group, link: kept }, (fd, offset) => copyObject(fd, offset, image, object)));
  };

  const keptFacts = objects.find(isFacts);
  for (const object of objects) {
    const { content, name, id } = object;
    if (content.type === 'partition' && content.role === 'primary') ids.set(id, await addPartition(content, name));
    else if (isKept(object) && object !== keptFacts) await keep(object);
  }
  if (image.sif === undefined)
    await addPartition({ type: 'partition', fileSystem: 'squashfs', role: 'primary', arch: sifArch(facts.arch) }, OBJECTS.partition);
  const addMissing = async (name: string, text: string): Promise<void> => {
    if (!objects.some((object) => object.name === name)) await sif.add({ content: { type: 'generic-json' }, name }, Buffer.from(text));
  };
  await addMissing(OBJECTS.metadata, metadataOfFile(image));
  await sif.add({ content: { type: 'generic' }, name: HOT_LIST_OBJECT }, list as Uint8Array);
  // Last: a start reads them to the end of the file, and so sees as well that all of it is there.
  if (keptFacts === undefined) await addMissing(IMAGE_FACTS_OBJECT, factsJson(facts));
  else await keep(keptFacts);
  const { treeDigest, contentBytes, notes } = written as WriteResult;
  requireSameTree(image, treeDigest);
  const signed = objects.some(({ content }) => content.type === 'signature');
  return {
    treeDigest,
    hotFiles: files.hot.length,
    hotBytes: files.hot.reduce((sum, { size }) => sum + size, 0),
    bytes: contentBytes,
    pieces: Buffer.from(list as Uint8Array).readUInt32LE(12),
    notes: [...notes, ...(signed ? ['its signatures were left out: they are about the other file'] : [])],
  };
};

const isFacts = ({ content, name }: SifObject): boolean => content.type === 'generic-json' && name === IMAGE_FACTS_OBJECT;

/** An older hot list is about the other file, and so are signatures. */
const isKept = ({ content, name }: SifObject): boolean =>
  content.type !== 'signature' && !(content.type === 'generic' && name === HOT_LIST_OBJECT);

const copyObject = async (fd: number, offset: number, { path }: SquashFile, object: SifObject): Promise<number> => {
  let at = offset;
  for await (const chunk of fileChunks(path, object.offset, object.size)) {
    for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done, chunk.length - done, at + done);
    at += chunk.length;
  }
  return at - offset;
};

/** Images of tsrun say what is in them: what was written must be the same. */
const requireSameTree = (image: SquashFile, treeDigest: string): void => {
  const build = objectText(image, 'generic-json', OBJECTS.build);
  const before = /"treeDigest":\s*"(sha256:[0-9a-f]{64})"/.exec(build)?.[1];
  if (before === undefined || before === treeDigest) return;
  throw new TsrunError({
    code: 'E_IMAGE_READ',
    what: `cannot optimize ${image.path}`,
    why: `its files have the tree digest ${treeDigest}, but it says ${before}`,
    hint: 'the image was changed or is damaged: build or fetch it again',
  });
};

const writePartition = async (
  fd: number,
  offset: number,
  image: SquashFile,
  source: ImageTree,
  files: Files,
  touches: readonly Touch[],
  { threads, signal, onProgress }: OptimizeOptions,
): Promise<WriteResult> => {
  const format = await formatOf(image);
  const native = format.compressor === 'xz' || format.compressor === 'lz4';
  const writer = createSquashfsWriter({ fd, offset, ...format, threads, codecCommand: native ? [nativeProgram(), '@codec'] : undefined });
  try {
    await pour(writer, image, source, files, signal, onProgress);
    return await writer.finish(source.tree, { hotDirectories: hotDirectories(source, touches) });
  } finally {
    await writer.abort();
  }
};

/** The bytes of all files, one after the other, from the native reader to the writer. */
const pour = async (
  writer: Writer,
  image: SquashFile,
  { tree }: ImageTree,
  { hot, cold }: Files,
  signal: AbortSignal,
  onProgress: OptimizeOptions['onProgress'],
): Promise<void> => {
  const files = [...hot, ...cold];
  const total = files.reduce((sum, { size }) => sum + size, 0);
  const paths = (function* (): Generator<string> {
    for (const { path } of files) yield `${path}\0`;
  })();
  let next = 0;
  let left = 0;
  let done = 0;
  for await (const chunk of imageOutput('pour', image, paths)) {
    signal.throwIfAborted();
    for (let at = 0; at < chunk.length; ) {
      const file = files[next];
      if (file === undefined) throw new Error('the reader gave more than was asked for');
      if (left === 0) {
        left = file.size;
        writer.beginFile(left);
      }
      const part = chunk.subarray(at, at + left);
      await writer.write(part);
      at += part.length;
      left -= part.length;
      if (left > 0) continue;
      setFileContent(tree, file.node, writer.endFile());
      next++;
    }
    done += chunk.length;
    onProgress(done, total);
  }
};

/** As the image has it; the level is known of images of tsrun only. */
const formatOf = async (
  image: SquashFile,
): Promise<{ compressor: Compressor; blockSize: number; level: number | undefined; mkfsTime: number }> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of fileChunks(image.path, image.offset, 96)) chunks.push(Buffer.from(chunk));
  const block = Buffer.concat(chunks);
  const id = block.readUInt16LE(20);
  const [compressor] = (Object.entries(COMPRESSOR_IDS) as [Compressor, number][]).find((entry) => entry[1] === id) ?? [];
  if (compressor === undefined) {
    throw new TsrunError({
      code: 'E_IMAGE_NOT',
      what: `cannot optimize ${image.path}`,
      why: `it is compressed with compressor ${id} of SquashFS, which is neither zstd, gzip, xz nor lz4`,
    });
  }
  const level = Number(/"level":\s*(\d{1,2})\b/.exec(objectText(image, 'generic-json', OBJECTS.build))?.[1] ?? Number.NaN);
  const usual = compressor === 'gzip' ? 9 : undefined;
  const known = compressor === 'zstd' || compressor === 'gzip' ? level : Number.NaN;
  return { compressor, blockSize: block.readUInt32LE(12), level: Number.isNaN(known) ? usual : known, mkfsTime: block.readUInt32LE(8) };
};

// --- the hot list

/** The touches made again on the new image tell where all of that lies now. */
const hotList = async (made: SquashFile, { inodes }: ImageTree, touches: readonly Touch[]): Promise<Uint8Array> => {
  const input = (function* (): Generator<string> {
    for (const { kind, inode, offset, length } of touches)
      yield `${kind}\0${(inodes.get(inode) as ImageInode).path}\0${offset}\0${length}\0`;
  })();
  const chunks: Uint8Array[] = [];
  for await (const chunk of imageOutput('hot', made, input)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
};
