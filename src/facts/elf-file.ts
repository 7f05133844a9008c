/** What an ELF file of the host says of itself, read in a few small pieces. */
import { type ElfInfo, readElf } from '../elf/read.ts';
import { bytesOf } from '../util/bytes.ts';
import { failed, type Host } from '../util/host.ts';

/** Covers header, program headers and, in most libraries, the dynamic section's neighbourhood in one read. */
const HEAD = 4096;

/** Null for what is no readable ELF file. */
export const elfOf = (host: Host, path: string): ElfInfo | null => {
  const stat = host.stat(path);
  if (failed(stat) || stat.kind !== 'file') return null;
  let head: string | undefined;
  const read = (offset: number, length: number): Uint8Array => {
    if (head !== undefined && offset + length <= head.length) return bytesOf(head.slice(offset, offset + length));
    const text = host.read(path, offset, offset === 0 ? Math.max(length, Math.min(HEAD, stat.size)) : length);
    if (failed(text) || text.length < length) throw new RangeError(`read of ${length} bytes at ${offset}`);
    if (offset === 0) head = text;
    return bytesOf(text.slice(0, length));
  };
  try {
    return readElf({ size: stat.size, read });
  } catch (error) {
    // The file was cut or could not be read: as good as no ELF file.
    if (error instanceof RangeError) return null;
    throw error;
  }
};

/** The highest `GLIBC_x.y` an ELF file needs; undefined when none. */
export const glibcNeed = (elf: ElfInfo): string | undefined => highestGlibc(elf.versionNeeds.flatMap((need) => need.versions));

/** The highest `x.y` among `GLIBC_x.y` names; GLIBC_PRIVATE and others do not count. */
export const highestGlibc = (names: readonly string[]): string | undefined => {
  let best: string | undefined;
  for (const name of names) {
    const version = /^GLIBC_(\d+(?:\.\d+)*)$/.exec(name)?.[1];
    if (version !== undefined && (best === undefined || isNewer(version, best))) best = version;
  }
  return best;
};

/** True when version `a` ("2.34") is newer than `b`. */
export const isNewer = (a: string, b: string): boolean => {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let at = 0; at < Math.max(left.length, right.length); at++) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
};
