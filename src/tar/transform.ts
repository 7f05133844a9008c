/** A tar stream through a function of its entries: some are left out, some are renamed or given other owners; the bytes of files pass by unchanged. */
import type { TarEntry } from './entry.ts';
import { createTarReader } from './read.ts';
import { TAR_END, tarHeader, tarPadding } from './write.ts';

const ZEROS = new Uint8Array(1 << 20);

/**
 * @param name what errors call the archive
 * @param rewrite `undefined` leaves the entry out
 * @throws TsrunError E_TAR
 */
export async function* transformTar(
  source: AsyncIterable<Uint8Array>,
  name: string,
  rewrite: (entry: TarEntry) => TarEntry | undefined,
): AsyncGenerator<Uint8Array> {
  let out: Uint8Array[] = [];
  let size = 0;
  const zeros = (length: number): void => {
    for (let left = length; left > 0; left -= ZEROS.length) out.push(ZEROS.subarray(0, Math.min(left, ZEROS.length)));
  };
  const reader = createTarReader({
    name,
    requireEnd: true,
    handler: {
      entry: (entry) => {
        const made = rewrite(entry);
        if (made === undefined) return false;
        size = entry.size;
        out.push(tarHeader({ ...made, size: made.type === 'file' ? entry.size : 0 }));
        return true;
      },
      data: (chunk) => {
        out.push(chunk);
      },
      hole: zeros,
      endFile: () => {
        out.push(tarPadding(size));
      },
    },
  });
  for await (const chunk of source) {
    await reader.push(chunk);
    yield* out;
    out = [];
  }
  reader.end();
  yield TAR_END;
}
