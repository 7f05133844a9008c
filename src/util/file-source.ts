/** An open file as a ByteSource. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { ByteSource } from './bytes.ts';

/** @throws Node's error of read, and RangeError when the file has become shorter */
export const fileSource = (fd: number): ByteSource => ({
  size: fstatSync(fd).size,
  read: (offset, length) => {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const count = readSync(fd, bytes, done, length - done, offset + done);
      if (count === 0) throw new RangeError(`the file ended at ${offset + done} while it was read`);
      done += count;
    }
    return bytes;
  },
});

/** Calls `use` with the file open for reading. */
export const withFile = <T>(path: string, use: (source: ByteSource, fd: number) => T): T => {
  const fd = openSync(path, 'r');
  try {
    return use(fileSource(fd), fd);
  } finally {
    closeSync(fd);
  }
};
