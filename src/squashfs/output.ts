/** The image file: written at explicit positions, so that duplicates can be overwritten and several images can share one descriptor's file. */
import { ftruncateSync, writeSync } from 'node:fs';
import { TsrunError } from '../util/errors.ts';

export type Output = {
  /** Where the next append goes, from the start of the image. */
  position: number;
  readonly append: (bytes: Uint8Array) => void;
  readonly writeAt: (position: number, bytes: Uint8Array) => void;
  /** Cuts the file behind `bytes` of the image, or extends it with zeros. */
  readonly setLength: (bytes: number) => void;
};

export const createOutput = (fd: number, offset: number): Output => {
  const guard = <T>(action: () => T): T => {
    try {
      return action();
    } catch (error) {
      throw new TsrunError({
        code: 'E_SQUASHFS_WRITE',
        what: 'cannot write the image',
        why: error instanceof Error ? error.message : String(error),
        hint: 'check free space and quota where the image is written',
        cause: error,
      });
    }
  };
  const writeAt = (position: number, bytes: Uint8Array): void =>
    guard(() => {
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + position + done);
    });
  const output: Output = {
    position: 0,
    writeAt,
    append: (bytes) => {
      writeAt(output.position, bytes);
      output.position += bytes.length;
    },
    setLength: (bytes) => guard(() => ftruncateSync(fd, offset + bytes)),
  };
  return output;
};
