/** Archives that ADD unpacks: tar, plain or compressed with gzip, zstd, xz (by the native program) or bzip2 (by the machine's). */
import { open, stat } from 'node:fs/promises';
import { type LayerSource, layerTar, NOTHING_PROMISED } from '../../oci/layer.ts';
import { cleanPath as cleanName } from '../../oci/layer-path.ts';
import { DEFAULT_LIMITS, RATIO_FREE_BYTES } from '../../oci/limits.ts';
import type { TarEntry } from '../../tar/entry.ts';
import { checksumMatches } from '../../tar/header.ts';
import { transformTar } from '../../tar/transform.ts';
import { TsrunError } from '../../util/errors.ts';
import { nativeProgram } from '../../util/native-program.ts';
import { fileChunks } from '../../util/read-file.ts';
import { childOutput } from '../child-stream.ts';

const BLOCK = 512;

type Packing = 'xz' | 'bzip2' | undefined;

/** By the first bytes: the xz file format 1.2.0, section 2.1.1.1; bzip2 has "BZh", the level and the first block's pi. */
const packingOf = (head: Buffer): Packing => {
  if (head.subarray(0, 6).equals(Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]))) return 'xz';
  return /^BZh[1-9]1AY&SY/.test(head.toString('latin1', 0, 10)) ? 'bzip2' : undefined;
};

const pathOf = (absolute: string): string => Buffer.from(absolute, 'latin1').toString('utf8');

/** What layerTar cannot decode itself. */
async function* unpacked(absolute: string, packing: 'xz' | 'bzip2'): AsyncGenerator<Uint8Array> {
  const path = pathOf(absolute);
  const command = packing === 'xz' ? [nativeProgram(), '@codec', 'unxz', path] : ['bzip2', '-dc', path];
  const { size } = await stat(path);
  let bytes = 0;
  for await (const chunk of childOutput(command, `cannot unpack ${path}`)) {
    bytes += chunk.length;
    if (bytes > RATIO_FREE_BYTES && bytes > size * DEFAULT_LIMITS.ratio) {
      const why = `it unpacks to more than ${DEFAULT_LIMITS.ratio} times its size`;
      throw new TsrunError({ code: 'E_LIMIT', what: `cannot unpack ${path}`, why, hint: 'copy it with COPY, and unpack it in a step' });
    }
    yield chunk;
  }
}

const sourceOf = (absolute: string, packing: Packing): LayerSource => ({
  label: 'the archive',
  ...NOTHING_PROMISED,
  open: () => (packing === undefined ? fileChunks(pathOf(absolute)) : unpacked(absolute, packing)),
});

const headOf = async (absolute: string): Promise<Buffer> => {
  const file = await open(Buffer.from(absolute, 'latin1'), 'r').catch(() => undefined);
  const head = Buffer.alloc(BLOCK);
  try {
    const { bytesRead } = (await file?.read(head, 0, BLOCK, 0)) ?? { bytesRead: 0 };
    return head.subarray(0, bytesRead);
  } finally {
    await file?.close();
  }
};

/**
 * By its content, whatever its name: a tar header stands at the beginning, behind the compression.
 * @throws TsrunError E_ADD_ARCHIVE when this machine cannot look behind it
 */
export const looksLikeArchive = async (absolute: string): Promise<boolean> => {
  const head = await headOf(absolute);
  const packing = packingOf(head);
  const word = head.length >= 4 ? head.readUInt32LE(0) : 0;
  if (packing === undefined && (word & 0xffff) !== 0x8b1f && word !== 0xfd2fb528) return head.length === BLOCK && isHeader(head);
  try {
    for await (const chunk of layerTar(sourceOf(absolute, packing), absolute, DEFAULT_LIMITS, () => {}))
      return chunk.length >= BLOCK && isHeader(Buffer.from(chunk));
  } catch (error) {
    if (packing === 'bzip2' && error instanceof TsrunError && /ENOENT/.test(error.why ?? '')) throw withoutProgram(absolute);
    // Compressed, but nothing that can be read: copied as it is.
  }
  return false;
};

const withoutProgram = (absolute: string): TsrunError =>
  new TsrunError({
    code: 'E_ADD_ARCHIVE',
    what: `cannot unpack ${pathOf(absolute)}`,
    why: 'it is compressed with bzip2, and this machine has no program bzip2',
    hint: 'install bzip2, or compress it with gzip, xz or zstd; COPY copies it as it is',
  });

const isHeader = (block: Buffer): boolean => {
  try {
    return block[0] !== 0 && checksumMatches(block, 0);
  } catch {
    return false;
  }
};

async function* archiveTar(absolute: string, name: string): AsyncGenerator<Uint8Array> {
  yield* layerTar(sourceOf(absolute, packingOf(await headOf(absolute))), name, DEFAULT_LIMITS, () => {});
}

/** @param rewrite is given the entry and its clean name; names that lead out of the archive's root are errors (E_LAYER_PATH) */
export const archiveEntries = (
  absolute: string,
  name: string,
  rewrite: (entry: TarEntry, path: string) => TarEntry,
): AsyncGenerator<Uint8Array> =>
  transformTar(archiveTar(absolute, name), name, (entry) => {
    const path = cleanName(entry.path, name);
    // The root of the archive is no business of the directory it is unpacked into.
    if (path === '') return undefined;
    return rewrite(entry.type === 'hardlink' ? { ...entry, linkpath: cleanName(entry.linkpath, name) } : entry, path);
  });
