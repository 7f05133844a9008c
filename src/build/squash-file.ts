/** A SIF or bare SquashFS file: where its root file system lies, and the data objects beside it. */

import { explainOpen } from '../oci/files.ts';
import type { SifImage } from '../sif/format.ts';
import { findObject, isSif, primaryPartition, readObject, readSif } from '../sif/read.ts';
import type { ByteSource } from '../util/bytes.ts';
import { TsrunError } from '../util/errors.ts';
import { withFile } from '../util/file-source.ts';

export type SquashFile = {
  readonly path: string;
  /** Of the SquashFS in the file, bytes. */
  readonly offset: number;
  readonly size: number;
  /** `undefined` for a bare SquashFS. */
  readonly sif: SifImage | undefined;
};

const MAX_OBJECT = 16 * 1024 * 1024;

/** @throws TsrunError E_SIF_…, E_IMAGE_NOT, E_SOURCE */
export const openSquashFile = (path: string): SquashFile => {
  try {
    return withFile(path, (source) => locate(path, source));
  } catch (error) {
    if (error instanceof TsrunError && !error.what.includes(path)) {
      throw new TsrunError({ code: error.code, what: `cannot use image ${path}`, why: error.why, hint: error.hint });
    }
    throw explainOpen(error, path);
  }
};

const locate = (path: string, source: ByteSource): SquashFile => {
  const head = source.read(0, Math.min(source.size, 128));
  if (isSif(head)) {
    const sif = readSif(source);
    const { offset, size, content } = primaryPartition(sif);
    if (content.fileSystem !== 'squashfs') {
      throw new TsrunError({
        code: 'E_IMAGE_NOT',
        what: `cannot use image ${path}`,
        why: `its root file system is of the kind ${content.fileSystem}`,
        hint: 'convert it once: apptainer build new.sif old.sif',
      });
    }
    requireSquash(path, source, offset, size);
    return { path, offset, size, sif };
  }
  requireSquash(path, source, 0, source.size);
  return { path, offset: 0, size: source.size, sif: undefined };
};

/** The super block's magic, and that the file has the bytes it claims. */
const requireSquash = (path: string, source: ByteSource, offset: number, size: number): void => {
  const refuse = (why: string): TsrunError =>
    new TsrunError({ code: 'E_IMAGE_NOT', what: `cannot use image ${path}`, why, hint: 'fetch or build it again' });
  if (size < 96) throw refuse('it ends inside the SquashFS super block');
  const block = Buffer.from(source.read(offset, 96));
  if (block.toString('latin1', 0, 4) !== 'hsqs') throw refuse('it is neither a SIF nor a SquashFS file');
  if (block.readUInt16LE(28) !== 4) throw refuse(`it is SquashFS version ${block.readUInt16LE(28)}, not 4`);
  const used = Number(block.readBigUInt64LE(40));
  if (used > size) throw refuse(`its SquashFS has ${used} bytes, the file only ${size} for it: it is cut off`);
};

/** The text of a data object, "" when the image has none of that name. */
export const objectText = (image: SquashFile, type: 'definition' | 'generic-json', name?: string): string => {
  const { sif } = image;
  if (sif === undefined) return '';
  const object = name === undefined ? sif.objects.find((each) => each.content.type === type) : findObject(sif, type, name);
  if (object === undefined) return '';
  return withFile(image.path, (source) => Buffer.from(readObject(source, object, MAX_OBJECT)).toString('utf8'));
};
