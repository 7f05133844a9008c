/** Everything a tar reader says of an archive, collected; the archive arrives in chunks of a chosen size. */
import type { TarEntry } from '../../src/tar/entry.ts';
import { createTarReader } from '../../src/tar/read.ts';

export type ReadFile = TarEntry & { readonly data: Buffer };

export const readTar = async (archive: Uint8Array, chunk = archive.length || 1, requireEnd = true): Promise<ReadFile[]> => {
  const entries: { entry: TarEntry; parts: Buffer[] }[] = [];
  const reader = createTarReader({
    name: 'test.tar',
    requireEnd,
    handler: {
      entry: (entry) => {
        entries.push({ entry, parts: [] });
        return true;
      },
      data: (bytes) => {
        entries.at(-1)?.parts.push(Buffer.from(bytes));
      },
      // Alternately at once and later: both ways must do.
      hole: (length) => {
        if (length > 1 << 28) throw new Error(`a hole of ${length} bytes in a test`);
        entries.at(-1)?.parts.push(Buffer.alloc(length));
        return length % 2 === 0 ? undefined : Promise.resolve();
      },
      endFile: () => {},
    },
  });
  for (let at = 0; at < archive.length; at += chunk) await reader.push(archive.subarray(at, at + chunk));
  reader.end();
  return entries.map(({ entry, parts }) => ({ ...entry, data: Buffer.concat(parts) }));
};
