/**
 * Sparse files in tar: the old GNU header, and PAX formats 0.0, 0.1 and 1.0.
 * Source: the GNU tar manual, "Storing Sparse Files" and "The Sparse format".
 */
import { BLOCK, type RawHeader, readNumber, TarFieldError } from './header.ts';
import type { PaxSparse } from './pax.ts';

/** Bytes of real data in a file; what lies between runs is zeros. */
export type SparseRun = { readonly offset: number; readonly length: number };

export const MAX_SPARSE_RUNS = 1 << 20;

/** Runs in order, within the file, and as long together as the data that is stored. @throws TarFieldError */
const checkedRuns = (runs: readonly SparseRun[], stored: number, realSize: number): readonly SparseRun[] => {
  let end = 0;
  let sum = 0;
  for (const run of runs) {
    if (run.offset < end) throw new TarFieldError('the runs of its sparse map overlap');
    end = run.offset + run.length;
    sum += run.length;
    if (end > realSize) throw new TarFieldError('its sparse map reaches beyond its end');
  }
  if (sum !== stored) throw new TarFieldError(`its sparse map stands for ${sum} bytes, but ${stored} are stored`);
  return runs;
};

/** Numbers of one old GNU header (four pairs) or of an extension block (21 pairs). @throws TarFieldError */
export const pushOldSparse = (
  runs: SparseRun[],
  block: Buffer,
  at: number,
  first: RawHeader | undefined,
): { runs: SparseRun[]; more: boolean; realSize: number } => {
  const start = first === undefined ? at : at + 386;
  const pairs = first === undefined ? 21 : 4;
  for (let i = 0; i < pairs; i++) {
    const field = start + i * 24;
    // The list ends at the first empty field.
    if (block[field] === 0) break;
    runs.push({
      offset: positive(readNumber(block, field, 12, 'sparse map')),
      length: positive(readNumber(block, field + 12, 12, 'sparse map')),
    });
  }
  if (runs.length > MAX_SPARSE_RUNS) throw new TarFieldError(`its sparse map has more than ${MAX_SPARSE_RUNS} runs`);
  const more = block[first === undefined ? at + 504 : at + 482] !== 0;
  const realSize = first === undefined ? 0 : positive(readNumber(block, at + 483, 12, 'real size'));
  return { runs, more, realSize };
};

export const oldSparseRuns = checkedRuns;

/** `runs` is absent in format 1.0, where the map starts the data. */
export type SparseOfPax = { readonly name: string | undefined; readonly realSize: number; readonly runs: readonly SparseRun[] | undefined };

/** @throws TarFieldError */
export const sparseOfPax = (sparse: PaxSparse | undefined, stored: number): SparseOfPax | undefined => {
  if (sparse === undefined || (sparse.map === undefined && sparse.major === undefined)) return undefined;
  const realSize = whole(sparse.realsize ?? '');
  const name = sparse.name === '' ? undefined : sparse.name;
  if (sparse.major === '1' && sparse.minor === '0') return { name, realSize, runs: undefined };
  if (sparse.major !== undefined && sparse.major !== '0')
    throw new TarFieldError(`its sparse format ${sparse.major}.${sparse.minor} is unknown`);
  const map = sparse.map ?? [];
  if (map.length % 2 !== 0 || map.length / 2 > MAX_SPARSE_RUNS) throw new TarFieldError('its sparse map is malformed or too long');
  const runs: SparseRun[] = [];
  for (let i = 0; i < map.length; i += 2) runs.push({ offset: whole(map[i] ?? ''), length: whole(map[i + 1] ?? '') });
  return { name, realSize, runs: checkedRuns(runs, stored, realSize) };
};

/**
 * Format 1.0: decimal lines (count, then offset and length of each run), padded with NULs to whole blocks.
 * `push` takes one block and how many stored bytes follow it; it returns the runs with the last block of the map.
 */
export const sparseMapReader = (realSize: number): { push(block: Buffer, left: number): readonly SparseRun[] | undefined } => {
  const numbers: number[] = [];
  let wanted = 1;
  let digits = '';
  return {
    push: (block, left) => {
      for (let i = 0; i < BLOCK && numbers.length < wanted; i++) {
        const byte = block[i] as number;
        if (byte !== 0x0a) {
          digits += String.fromCharCode(byte);
          if (digits.length > 20) throw new TarFieldError('its sparse map is malformed');
          continue;
        }
        const value = whole(digits);
        digits = '';
        if (numbers.length === 0) {
          if (value > MAX_SPARSE_RUNS) throw new TarFieldError(`its sparse map has more than ${MAX_SPARSE_RUNS} runs`);
          wanted = 1 + 2 * value;
        }
        numbers.push(value);
      }
      if (numbers.length < wanted) return undefined;
      const runs: SparseRun[] = [];
      for (let i = 1; i < numbers.length; i += 2) runs.push({ offset: numbers[i] as number, length: numbers[i + 1] as number });
      return checkedRuns(runs, left, realSize);
    },
  };
};

const whole = (text: string): number => {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new TarFieldError('its sparse map holds no numbers');
  return value;
};

const positive = (value: number): number => {
  if (value < 0) throw new TarFieldError('its sparse map holds a negative number');
  return value;
};
