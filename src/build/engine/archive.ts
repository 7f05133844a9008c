/** Archives that ADD unpacks: tar, plain or compressed with gzip or zstd. */
import { open } from 'node:fs/promises';
import { type LayerSource, layerTar } from '../../oci/layer.ts';
import { cleanPath as cleanName } from '../../oci/layer-path.ts';
import { DEFAULT_LIMITS } from '../../oci/limits.ts';
import type { TarEntry } from '../../tar/entry.ts';
import { checksumMatches } from '../../tar/header.ts';
import { transformTar } from '../../tar/transform.ts';
import { fileChunks } from '../../util/read-file.ts';

const BLOCK = 512;

const sourceOf = (absolute: string): LayerSource => ({
  label: 'the archive',
  mediaType: undefined,
  digest: undefined,
  size: undefined,
  diffId: undefined,
  reopenable: true,
  open: () => fileChunks(Buffer.from(absolute, 'latin1').toString('utf8')),
});

/** By its content, whatever its name: a tar header stands at the beginning, behind the compression. */
export const looksLikeArchive = async (absolute: string): Promise<boolean> => {
  const file = await open(Buffer.from(absolute, 'latin1'), 'r').catch(() => undefined);
  const head = Buffer.alloc(BLOCK);
  try {
    const { bytesRead } = (await file?.read(head, 0, BLOCK, 0)) ?? { bytesRead: 0 };
    const word = bytesRead >= 4 ? head.readUInt32LE(0) : 0;
    const compressed = (word & 0xffff) === 0x8b1f || word === 0xfd2fb528;
    if (!compressed) return bytesRead === BLOCK && isHeader(head);
  } finally {
    await file?.close();
  }
  try {
    for await (const chunk of layerTar(sourceOf(absolute), absolute, DEFAULT_LIMITS, () => {}))
      return chunk.length >= BLOCK && isHeader(Buffer.from(chunk));
  } catch {
    // Compressed, but nothing that can be read: copied as it is.
  }
  return false;
};

const isHeader = (block: Buffer): boolean => {
  try {
    return block[0] !== 0 && checksumMatches(block, 0);
  } catch {
    return false;
  }
};

/** @param rewrite is given the entry and its clean name; names that lead out of the archive's root are errors (E_LAYER_PATH) */
export const archiveEntries = (
  absolute: string,
  name: string,
  rewrite: (entry: TarEntry, path: string) => TarEntry,
): AsyncGenerator<Uint8Array> =>
  transformTar(
    layerTar(sourceOf(absolute), name, DEFAULT_LIMITS, () => {}),
    name,
    (entry) => {
      const path = cleanName(entry.path, name);
      // The root of the archive is no business of the directory it is unpacked into.
      if (path === '') return undefined;
      return rewrite(entry.type === 'hardlink' ? { ...entry, linkpath: cleanName(entry.linkpath, name) } : entry, path);
    },
  );
