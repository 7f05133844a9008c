/**
 * One 512-byte tar header block → fields. Formats: v7, POSIX ustar, GNU (old GNU sparse too), star.
 * Sources: POSIX.1-2017 pax "ustar Interchange Format", the GNU tar manual's "Basic Tar Format", star(4).
 * All names are byte strings (one char per byte).
 */
export const BLOCK = 512;

export type RawHeader = {
  /** One char; NUL of old archives is given as '0'. */
  readonly typeflag: string;
  readonly name: string;
  readonly linkname: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes stored in the archive; meaningless for types without data. */
  readonly size: number;
  readonly mtime: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly gnu: boolean;
};

/** A field that holds no number; `readHeader`'s caller adds where in the archive. */
export class TarFieldError extends Error {}

const SPACE = 0x20;

/** The header's checksum counts its own eight bytes as blanks; a few old writers summed signed bytes. */
export const checksumMatches = (block: Buffer, at: number): boolean => {
  let unsigned = 0;
  let negative = 0;
  for (let i = at; i < at + BLOCK; i++) {
    const byte = block[i] as number;
    unsigned += byte;
    negative += byte >> 7;
  }
  for (let i = at + 148; i < at + 156; i++) {
    const byte = block[i] as number;
    unsigned -= byte - SPACE;
    negative -= byte >> 7;
  }
  const stored = readNumber(block, at + 148, 8, 'checksum');
  return stored === unsigned || stored === unsigned - 256 * negative;
};

export const isZeroBlock = (block: Buffer, at: number): boolean => {
  for (let i = at; i < at + BLOCK; i++) if (block[i] !== 0) return false;
  return true;
};

/** @throws TarFieldError */
export const readHeader = (block: Buffer, at: number): RawHeader => {
  const magic = block.toString('latin1', at + 257, at + 265);
  const gnu = magic === 'ustar  \0';
  const posix = magic.startsWith('ustar\0');
  const star = posix && block.toString('latin1', at + 508, at + 512) === 'tar\0';
  const prefix = posix ? readText(block, at + 345, star ? 131 : 155) : '';
  const name = readText(block, at, 100);
  const flag = block[at + 156] as number;
  const hasDevice = gnu || posix;
  return {
    typeflag: flag === 0 ? '0' : String.fromCharCode(flag),
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkname: readText(block, at + 157, 100),
    mode: readNumber(block, at + 100, 8, 'mode'),
    uid: readNumber(block, at + 108, 8, 'uid'),
    gid: readNumber(block, at + 116, 8, 'gid'),
    size: readNumber(block, at + 124, 12, 'size'),
    mtime: readNumber(block, at + 136, 12, 'mtime'),
    devMajor: hasDevice ? readNumber(block, at + 329, 8, 'devmajor') : 0,
    devMinor: hasDevice ? readNumber(block, at + 337, 8, 'devminor') : 0,
    gnu,
  };
};

/** A NUL-terminated or full field. */
const readText = (block: Buffer, at: number, length: number): string => {
  let end = at;
  while (end < at + length && block[end] !== 0) end++;
  return block.toString('latin1', at, end);
};

/**
 * Octal text padded with blanks and NULs, or big-endian base 256 when the first bit is set (GNU, star).
 * @throws TarFieldError for anything else and for numbers beyond 2^53.
 */
export const readNumber = (block: Buffer, at: number, length: number, field: string): number => {
  const first = block[at] as number;
  if (first & 0x80) return readBase256(block, at, length, field);
  let i = at;
  const end = at + length;
  while (i < end && (block[i] === SPACE || block[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = (block[i] as number) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  for (; i < end; i++) {
    if (block[i] !== SPACE && block[i] !== 0) throw new TarFieldError(`its ${field} is not a number`);
  }
  return value;
};

const readBase256 = (block: Buffer, at: number, length: number, field: string): number => {
  const negative = ((block[at] as number) & 0x40) !== 0;
  let value = negative ? -1 : 0;
  for (let i = at; i < at + length; i++) {
    let byte = block[i] as number;
    if (i === at) byte = negative ? byte | 0x80 : byte & 0x7f;
    value = i === at && negative ? byte - 256 : value * 256 + byte;
    if (!Number.isSafeInteger(value)) throw new TarFieldError(`its ${field} is out of range`);
  }
  return value;
};
