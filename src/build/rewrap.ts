/** An existing SquashFS or SIF as a new SIF: its root file system is taken byte for byte, the facts are added. */
import { writeSync } from 'node:fs';
import { factsJson } from '../image/compute.ts';
import { IMAGE_FACTS_OBJECT, type ImageFacts } from '../image/facts.ts';
import type { SifObject } from '../sif/format.ts';
import { readObject } from '../sif/read.ts';
import { createSif, type SifBuilder } from '../sif/write.ts';
import { withFile } from '../util/file-source.ts';
import { fileChunks } from '../util/read-file.ts';
import { refuseExisting, requireFree, sifArch } from './convert.ts';
import { factsOfFile, metadataOfFile } from './foreign.ts';
import { OBJECTS } from './records.ts';
import type { SquashFile } from './squash-file.ts';

export type Rewrapped = { readonly facts: ImageFacts; readonly notes: readonly string[] };

const MAX_OBJECT = 16 * 1024 * 1024;

/** @throws TsrunError E_EXISTS, E_OUTPUT, E_OUTPUT_FULL, E_IMAGE_READ; `signal.reason` */
export const rewrapImage = async (
  image: SquashFile,
  target: string,
  force: boolean,
  signal: AbortSignal,
  onProgress: (done: number, total: number) => void,
): Promise<Rewrapped> => {
  refuseExisting(target, force);
  await requireFree(target, image.size, `the image needs ${image.size}`);
  const facts = factsOfFile(image);
  const others = (image.sif?.objects ?? []).filter(isCarriedOver);
  await createSif(target, {}, async (sif) => {
    await copyObjects(sif, image, others);
    const content = { type: 'partition', fileSystem: 'squashfs', role: 'primary', arch: sifArch(facts.arch) } as const;
    await sif.addStream({ content, name: OBJECTS.partition }, (fd, offset) => copyInto(fd, offset, image, signal, onProgress));
    const names = new Set(others.map(({ name }) => name));
    const add = async (name: string, text: string): Promise<void> => {
      if (!names.has(name)) await sif.add({ content: { type: 'generic-json' }, name }, Buffer.from(text));
    };
    await add(OBJECTS.metadata, metadataOfFile(image));
    await add(IMAGE_FACTS_OBJECT, factsJson(facts));
  });
  const signed = (image.sif?.objects ?? []).some(({ content }) => content.type === 'signature');
  return { facts, notes: signed ? ['its signatures were left out: they are about the other file'] : [] };
};

/** Partitions are made anew, and signatures would be about another file. */
const isCarriedOver = ({ content }: SifObject): boolean =>
  content.type === 'definition' ||
  content.type === 'generic-json' ||
  content.type === 'labels' ||
  content.type === 'environment' ||
  content.type === 'sbom';

const copyObjects = async (sif: SifBuilder, { path }: SquashFile, objects: readonly SifObject[]): Promise<void> => {
  for (const object of objects) {
    const bytes = withFile(path, (source) => readObject(source, object, MAX_OBJECT));
    await sif.add({ content: object.content, name: object.name }, bytes);
  }
};

const copyInto = async (
  fd: number,
  offset: number,
  image: SquashFile,
  signal: AbortSignal,
  onProgress: (done: number, total: number) => void,
): Promise<number> => {
  let at = offset;
  for await (const chunk of fileChunks(image.path, image.offset, image.size)) {
    signal.throwIfAborted();
    for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done, chunk.length - done, at + done);
    at += chunk.length;
    onProgress(at - offset, image.size);
  }
  return at - offset;
};
