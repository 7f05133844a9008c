/** Where the members of a tar file lie, so that they can be read like files: one pass over the headers, data is seeked over. */
import { open } from 'node:fs/promises';
import { TsrunError } from '../util/errors.ts';
import type { TarEntry } from './entry.ts';
import { createTarReader } from './read.ts';

export type TarMember = { readonly entry: TarEntry; readonly offset: number };

const CHUNK = 64 * 1024;
const MAX_MEMBERS = 100_000;

/**
 * @param path of an uncompressed tar file
 * @param visit is called for every entry; `offset` is where its data starts in the file. Sparse files are not to be trusted here.
 * @throws TsrunError E_TAR; Node's errors of open and read
 */
export const indexTarFile = async (path: string, name: string, visit: (member: TarMember) => void): Promise<void> => {
  const file = await open(path, 'r');
  let members = 0;
  let pending: TarEntry | undefined;
  const reader = createTarReader({
    name,
    requireEnd: false,
    handler: {
      entry: (entry) => {
        pending = entry;
        members++;
        return false;
      },
      data: () => {},
      hole: () => {},
      endFile: () => {},
    },
  });
  try {
    const chunk = Buffer.alloc(CHUNK);
    const { size } = await file.stat();
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(chunk, 0, CHUNK, at);
      if (bytesRead === 0) break;
      // Block by block: the place of an entry's data is known only right after its header.
      for (let used = 0; used < bytesRead; ) {
        const step = Math.min(512 - (reader.position() % 512), bytesRead - used);
        await reader.push(chunk.subarray(used, used + step));
        used += step;
        at += step;
        if (pending !== undefined) {
          visit({ entry: pending, offset: reader.position() });
          pending = undefined;
          if (members > MAX_MEMBERS) throw tooMany(name);
        }
        const skippable = Math.min(reader.skippable(), size - at);
        if (skippable > bytesRead - used) {
          reader.skipped(skippable);
          at += skippable;
          break;
        }
      }
    }
    reader.end();
  } finally {
    await file.close();
  }
};

const tooMany = (name: string): TsrunError =>
  new TsrunError({
    code: 'E_TAR',
    what: `cannot read ${name}`,
    why: `it has more than ${MAX_MEMBERS} members, which no archive of an image has`,
    hint: 'a root file system is given as tar:FILE',
  });
