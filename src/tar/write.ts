/** Entries → a tar stream: ustar headers (POSIX.1-2017 pax, "ustar Interchange Format"), with a PAX header where ustar is too narrow. Byte-exact. */
import type { TarEntry, TarEntryType } from './entry.ts';

const BLOCK = 512;

const TYPE_FLAGS: Readonly<Record<TarEntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

/** The two zero blocks that end an archive. */
export const TAR_END: Uint8Array = new Uint8Array(2 * BLOCK);

/** All blocks of an entry before its data. The data of a file follow, then `tarPadding`. */
export const tarHeader = (entry: TarEntry): Buffer => {
  const path = entry.type === 'directory' && !entry.path.endsWith('/') ? `${entry.path}/` : entry.path;
  const records: Buffer[] = [];
  const record = (key: string, value: string): void => {
    records.push(paxRecord(Buffer.from(key, 'latin1'), Buffer.from(value, 'latin1')));
  };
  if (path.length > 100) record('path', path);
  if (entry.linkpath.length > 100) record('linkpath', entry.linkpath);
  if (entry.size >= 8 ** 11) record('size', String(entry.size));
  if (entry.uid >= 8 ** 7) record('uid', String(entry.uid));
  if (entry.gid >= 8 ** 7) record('gid', String(entry.gid));
  if (entry.mtimeNanos !== 0 || entry.mtime < 0 || entry.mtime >= 8 ** 11) record('mtime', paxTime(entry.mtime, entry.mtimeNanos));
  for (const { name, value } of entry.xattrs ?? []) records.push(paxRecord(Buffer.concat([Buffer.from('SCHILY.xattr.'), name]), value));
  const own = block({ ...entry, path: path.slice(0, 100), linkpath: entry.linkpath.slice(0, 100) }, TYPE_FLAGS[entry.type]);
  if (records.length === 0) return own;
  const body = Buffer.concat(records);
  const meta = {
    ...entry,
    path: 'PaxHeader',
    linkpath: '',
    size: body.length,
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime: 0,
    devMajor: 0,
    devMinor: 0,
  };
  return Buffer.concat([block(meta, 'x'), body, tarPadding(body.length), own]);
};

/** Zeros up to the next block. */
export const tarPadding = (size: number): Buffer => Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);

const octal = (value: number, digits: number): string =>
  value >= 0 && value < 8 ** digits ? value.toString(8).padStart(digits, '0') : '0'.repeat(digits);

const block = (entry: TarEntry, typeflag: string): Buffer => {
  const header = Buffer.alloc(BLOCK);
  const put = (text: string, at: number): void => {
    header.write(text, at, 'latin1');
  };
  put(entry.path, 0);
  put(octal(entry.mode & 0o7777, 7), 100);
  put(octal(entry.uid, 7), 108);
  put(octal(entry.gid, 7), 116);
  put(octal(entry.size, 11), 124);
  put(octal(entry.mtime, 11), 136);
  put(' '.repeat(8), 148);
  put(typeflag, 156);
  put(entry.linkpath, 157);
  put('ustar\x0000', 257);
  put(octal(entry.devMajor, 7), 329);
  put(octal(entry.devMinor, 7), 337);
  put(
    `${octal(
      header.reduce((sum, byte) => sum + byte, 0),
      6,
    )}\0 `,
    148,
  );
  return header;
};

/** "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
const paxRecord = (key: Uint8Array, value: Uint8Array): Buffer => {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (rest + String(length).length > length) length++;
  return Buffer.concat([Buffer.from(`${length} `), key, Buffer.from('='), value, Buffer.from('\n')]);
};

/** Seconds and nanoseconds as `entryOf` reads them: rounded down, so a negative time with nanoseconds lies above its seconds. */
const paxTime = (seconds: number, nanos: number): string => {
  if (nanos === 0) return String(seconds);
  if (seconds >= 0) return `${seconds}.${String(nanos).padStart(9, '0')}`;
  return `-${-seconds - 1}.${String(1e9 - nanos).padStart(9, '0')}`;
};

/** An entry with the bytes of its file; for all else none. */
export type TarItem = { readonly entry: TarEntry; readonly content?: Iterable<Uint8Array> | AsyncIterable<Uint8Array> | undefined };

/** The whole archive. Contents must have exactly the length that their entry says. */
export async function* writeTar(items: Iterable<TarItem> | AsyncIterable<TarItem>): AsyncGenerator<Uint8Array> {
  for await (const { entry, content } of items) {
    yield tarHeader(entry);
    if (entry.type !== 'file' || entry.size === 0) continue;
    let left = entry.size;
    for await (const chunk of content ?? []) {
      left -= chunk.length;
      if (left < 0) break;
      yield chunk;
    }
    if (left !== 0) throw new Error(`${entry.path} changed its length while it was read`);
    const pad = tarPadding(entry.size);
    if (pad.length > 0) yield pad;
  }
  yield TAR_END;
}
