/**
 * The codec of the native program for one thread: `COMMAND… xz|lz4 BLOCKSIZE`. Both ways a block is a u32 (little-endian) length and that many
 * bytes; an answer of length 0 means that the block would not get shorter. The process ends when its input is closed.
 */
import { spawn } from 'node:child_process';
import type { Codec, CodecOptions } from './codec.ts';

const MAX_MESSAGE = 2000;

export const createProcessCodec = ({ compressor, blockSize, codecCommand }: CodecOptions): Codec => {
  const [program, ...args] = codecCommand;
  if (program === undefined) throw new Error(`no codec program for ${compressor}`);
  const child = spawn(program, [...args, compressor, String(blockSize)], { stdio: ['pipe', 'pipe', 'pipe'] });
  const answers = createAnswerReader(blockSize);
  let waiting: { resolve(answer: Uint8Array | undefined): void; reject(error: Error): void } | undefined;
  let complaint = '';
  let failure: Error | undefined;

  const fail = (error: Error): void => {
    failure ??= error;
    waiting?.reject(failure);
    waiting = undefined;
  };
  child.stderr.on('data', (text: Buffer) => {
    complaint = (complaint + text.toString('utf8')).slice(0, MAX_MESSAGE);
  });
  child.stdout.on('data', (bytes: Buffer) => {
    try {
      if (!answers.push(bytes)) return;
    } catch (error) {
      fail(error as Error);
      return;
    }
    const answer = answers.take();
    waiting?.resolve(answer.length === 0 ? undefined : answer);
    waiting = undefined;
  });
  child.stdin.on('error', () => {}); // the exit below says why
  child.on('error', (error) => fail(new Error(`cannot run ${program}: ${error.message}`)));
  child.on('close', (status, signal) => fail(new Error(`${program} ended (${signal ?? status}) ${complaint.trim()}`)));

  return {
    compress: (block) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) {
          reject(failure);
          return;
        }
        waiting = { resolve, reject };
        const length = Buffer.alloc(4);
        length.writeUInt32LE(block.length);
        child.stdin.write(length);
        child.stdin.write(block);
      }),
    close: () => child.stdin.end(),
  };
};

/** Collects one answer; only one block is under way at a time, so bytes beyond it are an error. */
const createAnswerReader = (blockSize: number): { push(bytes: Buffer): boolean; take(): Uint8Array } => {
  const buffer = Buffer.alloc(4 + blockSize);
  let used = 0;
  const wanted = (): number => (used < 4 ? 4 : 4 + buffer.readUInt32LE(0));
  return {
    push: (bytes) => {
      if (used + bytes.length > buffer.length) throw new Error('the codec answered with more than a block');
      used += bytes.copy(buffer, used);
      if (wanted() > buffer.length || used > wanted()) throw new Error('the codec answered with a wrong length');
      return used >= 4 && used === wanted();
    },
    take: () => {
      const answer = buffer.subarray(4, used);
      used = 0;
      return answer;
    },
  };
};
