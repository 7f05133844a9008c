/**
 * A push parser for tar streams that keeps every byte: names, link targets and attribute values are never decoded.
 * It reads what GNU tar, bsdtar, star, Go, Python and BusyBox write: v7, ustar, GNU long names and sparse files, PAX with global headers.
 *
 *     const reader = createTarReader({ name: 'layer.tar', handler });
 *     for await (const chunk of source) await reader.push(chunk);
 *     reader.end();
 *
 * File data reaches the handler as views of the pushed chunk, without a copy. Nothing is kept but the header under way
 * (bounded by `MAX_HEADER_BYTES`) and a sparse map (bounded by `MAX_SPARSE_RUNS`).
 */
import { TsrunError } from '../util/errors.ts';
import { entryOf, type TarEntry } from './entry.ts';
import { createFileData } from './file-data.ts';
import { BLOCK, checksumMatches, isZeroBlock, type RawHeader, readHeader, TarFieldError } from './header.ts';
import { mergePax, type PaxRecords, parsePax } from './pax.ts';
import { oldSparseRuns, pushOldSparse, type SparseRun, sparseMapReader, sparseOfPax } from './sparse.ts';

/** An extended header or a GNU long name; Linux cannot make a file that needs more (64 KiB of attributes, 4 KiB of path). */
export const MAX_HEADER_BYTES = 1024 * 1024;

type Wait = void | Promise<void>;

export type TarHandler = {
  /** `false`: the data of this entry is of no use; then neither `data`, `hole` nor `endFile` is called for it. */
  entry(entry: TarEntry): boolean;
  /** The next bytes of a regular file, valid until `push` (or the returned promise) is done. */
  data(chunk: Uint8Array): void | Promise<void>;
  /** The next `length` bytes of a sparse file are zeros. */
  hole(length: number): void | Promise<void>;
  endFile(): void;
};

export type TarReaderOptions = {
  /** What errors call the archive. */
  readonly name: string;
  readonly handler: TarHandler;
  /** An archive that stops without its two zero blocks is an error. Say false where a digest vouches for completeness. */
  readonly requireEnd: boolean;
};

export type TarReader = {
  /** The promise, if any, is that of the handler: await it before the next call. */
  push(chunk: Uint8Array): void | Promise<void>;
  /** @throws TsrunError E_TAR when the archive is cut off. */
  end(): void;
  /** Bytes that follow and that the reader does not need to see; a source that can seek may leave them out and call `skipped`. */
  skippable(): number;
  skipped(bytes: number): void;
  /** Offset in the archive of the next byte to be pushed. */
  position(): number;
};

type State =
  | { readonly at: 'header' }
  /** Collecting the body of a PAX or GNU long header. */
  | { readonly at: 'meta'; readonly typeflag: string; readonly body: Buffer; filled: number }
  /** Extension blocks of an old GNU sparse header. */
  | { readonly at: 'old-sparse'; readonly raw: RawHeader; readonly runs: SparseRun[]; readonly realSize: number }
  /** The map that starts the data of a PAX sparse 1.0 file. */
  | { readonly at: 'sparse-map'; readonly entry: TarEntry; readonly map: ReturnType<typeof sparseMapReader>; stored: number }
  | { readonly at: 'file' }
  | { readonly at: 'skip' }
  | { readonly at: 'end' };

/** @throws TsrunError E_TAR, from push and end. */
export const createTarReader = ({ name, handler, requireEnd }: TarReaderOptions): TarReader => {
  let state: State = { at: 'header' };
  /** Of the archive: where the next pushed byte lies. */
  let offset = 0;
  const partial = Buffer.alloc(BLOCK);
  let partialLength = 0;
  let zeroBlocks = 0;
  /** Bytes to pass over: padding, and data nobody wants. */
  let padLeft = 0;
  let globalPax: PaxRecords | undefined;
  let nextPax: PaxRecords | undefined;
  let longName: string | undefined;
  let longLink: string | undefined;
  let current = '';

  const fail = (why: string): never => {
    const place = current === '' ? `at byte ${offset}` : `in the entry ${JSON.stringify(current.slice(0, 300))}`;
    throw new TsrunError({
      code: 'E_TAR',
      what: `cannot read ${name} ${place}`,
      why,
      hint: 'the archive is damaged or cut off: make or fetch it again',
    });
  };

  const expect = <T>(read: () => T): T => {
    try {
      return read();
    } catch (error) {
      if (error instanceof TarFieldError) return fail(error.message);
      throw error;
    }
  };

  const skip = (bytes: number): void => {
    padLeft = bytes;
    state = bytes > 0 ? { at: 'skip' } : { at: 'header' };
  };

  const file = createFileData(handler, () => skip(padLeft));

  /** `stored` bytes of data follow in the archive, then `pad`; they fill `runs` of a file of `entry.size` bytes. */
  const startFile = (entry: TarEntry, stored: number, runs: readonly SparseRun[], pad: number): Wait => {
    if (!handler.entry(entry)) {
      skip(stored + pad);
      return undefined;
    }
    padLeft = pad;
    state = { at: 'file' };
    return file.start(entry.size, runs);
  };

  const startMeta = (raw: RawHeader): void => {
    if (raw.size < 0 || raw.size > MAX_HEADER_BYTES) fail(`an extended header of ${raw.size} bytes, more than ${MAX_HEADER_BYTES}`);
    const body = Buffer.alloc(raw.size);
    padLeft = padding(raw.size);
    state = { at: 'meta', typeflag: raw.typeflag, body, filled: 0 };
    if (raw.size === 0) finishMeta(raw.typeflag, body);
  };

  const finishMeta = (typeflag: string, body: Buffer): void => {
    switch (typeflag) {
      case 'x':
      case 'X':
        nextPax = expect(() => parsePax(body));
        break;
      case 'g':
        globalPax = mergePax(
          globalPax,
          expect(() => parsePax(body)),
        );
        break;
      case 'L':
        longName = untilNul(body);
        break;
      case 'K':
        longLink = untilNul(body);
        break;
      default: // 'A' (Solaris ACL), 'V' (volume label): nothing of the file tree.
    }
    skip(padLeft);
  };

  /** The header of a real entry, with everything that came before it folded in. */
  const startEntry = (raw: RawHeader, oldRuns: SparseRun[] | undefined, oldRealSize: number): Wait => {
    const pax = mergePax(globalPax, nextPax);
    const entry = expect(() => entryOf(raw, pax, longName, longLink));
    current = entry.path;
    nextPax = undefined;
    longName = undefined;
    longLink = undefined;
    if (entry.type !== 'file') {
      handler.entry(entry);
      // Old archivers write a size for links and directories without storing data; GNU's dump directories do store it.
      if (raw.typeflag === 'D') skip(raw.size + padding(raw.size));
      else state = { at: 'header' };
      return undefined;
    }
    const stored = entry.size;
    const pad = padding(stored);
    if (oldRuns !== undefined)
      return startFile(
        { ...entry, size: oldRealSize },
        stored,
        expect(() => oldSparseRuns(oldRuns, stored, oldRealSize)),
        pad,
      );
    const sparse = expect(() => sparseOfPax(pax.sparse, stored));
    if (sparse === undefined) return startFile(entry, stored, [{ offset: 0, length: stored }], pad);
    const real = { ...entry, path: sparse.name ?? entry.path, size: sparse.realSize };
    current = real.path;
    if (sparse.runs !== undefined) return startFile(real, stored, sparse.runs, pad);
    state = { at: 'sparse-map', entry: real, map: sparseMapReader(sparse.realSize), stored };
    padLeft = pad;
    return undefined;
  };

  const header = (block: Buffer, at: number): Wait => {
    current = '';
    if (block[at] === 0 && isZeroBlock(block, at)) {
      zeroBlocks++;
      if (zeroBlocks === 2) state = { at: 'end' };
      return undefined;
    }
    if (zeroBlocks > 0) fail('an entry after a zero block, which marks the end');
    if (!expect(() => checksumMatches(block, at)))
      fail('the checksum of a header does not match: this is no tar archive, or it is damaged');
    const raw = expect(() => readHeader(block, at));
    switch (raw.typeflag) {
      case 'x':
      case 'X':
      case 'g':
      case 'L':
      case 'K':
      case 'A':
      case 'V':
        return startMeta(raw);
      case 'S': {
        const first = expect(() => pushOldSparse([], block, at, raw));
        state = { at: 'old-sparse', raw, runs: first.runs, realSize: first.realSize };
        return first.more ? undefined : startEntry(raw, first.runs, first.realSize);
      }
      default:
        return startEntry(raw, undefined, 0);
    }
  };

  const oldSparseBlock = (sparse: Extract<State, { at: 'old-sparse' }>, block: Buffer, at: number): Wait => {
    const { more } = expect(() => pushOldSparse(sparse.runs, block, at, undefined));
    return more ? undefined : startEntry(sparse.raw, sparse.runs, sparse.realSize);
  };

  const sparseMapBlock = (sparse: Extract<State, { at: 'sparse-map' }>, block: Buffer, at: number): Wait => {
    sparse.stored -= BLOCK;
    if (sparse.stored < 0) fail('its sparse map is longer than its data');
    const done = expect(() => sparse.map.push(block.subarray(at, at + BLOCK), sparse.stored));
    return done === undefined ? undefined : startFile(sparse.entry, sparse.stored, done, padLeft);
  };

  const wholeBlock = (block: Buffer, at: number): Wait => {
    switch (state.at) {
      case 'header':
        return header(block, at);
      case 'old-sparse':
        return oldSparseBlock(state, block, at);
      case 'sparse-map':
        return sparseMapBlock(state, block, at);
      default:
        return fail('internal error: no block is due here');
    }
  };

  /** What the handler wants to be awaited after the step under way. */
  let wait: Wait;

  /** Handles `chunk` from `at` on; returns a promise as soon as the handler asks to wait. */
  const run = (chunk: Buffer, from: number): Wait => {
    let at = from;
    while (at < chunk.length) {
      const before = at;
      wait = undefined;
      switch (state.at) {
        case 'file': {
          const fed = file.feed(chunk, at);
          at += fed.used;
          wait = fed.wait;
          break;
        }
        case 'skip': {
          const length = Math.min(padLeft, chunk.length - at);
          at += length;
          skip(padLeft - length);
          break;
        }
        case 'meta': {
          const length = Math.min(state.body.length - state.filled, chunk.length - at);
          chunk.copy(state.body, state.filled, at, at + length);
          at += length;
          state.filled += length;
          if (state.filled === state.body.length) finishMeta(state.typeflag, state.body);
          break;
        }
        case 'end':
          at = chunk.length;
          break;
        default:
          if (partialLength === 0 && chunk.length - at >= BLOCK) {
            at += BLOCK;
            wait = wholeBlock(chunk, at - BLOCK);
            break;
          }
          {
            const length = Math.min(BLOCK - partialLength, chunk.length - at);
            chunk.copy(partial, partialLength, at, at + length);
            at += length;
            partialLength += length;
          }
          if (partialLength === BLOCK) {
            partialLength = 0;
            wait = wholeBlock(partial, 0);
          }
      }
      offset += at - before;
      if (wait !== undefined) {
        const resume = at;
        return wait.then(() => run(chunk, resume));
      }
    }
    return undefined;
  };

  return {
    push: (chunk) => run(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength), 0),
    end: () => {
      if (state.at === 'end') return;
      if (state.at !== 'header' || partialLength > 0) fail('the archive ends in the middle of an entry');
      if (nextPax !== undefined || longName !== undefined || longLink !== undefined) fail('the archive ends after an extended header');
      if (requireEnd && zeroBlocks === 0) fail('the archive ends without its end mark');
    },
    skippable: () => (state.at === 'skip' ? padLeft : 0),
    skipped: (bytes) => {
      skip(padLeft - bytes);
      offset += bytes;
    },
    position: () => offset,
  };
};

const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

const untilNul = (body: Buffer): string => {
  const end = body.indexOf(0);
  return body.toString('latin1', 0, end < 0 ? body.length : end);
};
