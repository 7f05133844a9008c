/** SHA-256 of files and of what passes by. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** "sha256:…", or with another algorithm of Node's in its place. */
export const digestOfFile = async (path: string, algorithm = 'sha256'): Promise<string> => {
  const hash = createHash(algorithm);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
  return `${algorithm}:${hash.digest('hex')}`;
};

/** What passes by, unchanged; `then` is awaited with its "sha256:…" before the end is told. */
export async function* digested(
  chunks: AsyncIterable<Uint8Array>,
  then: (digest: string) => Promise<void> | void,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
  await then(`sha256:${hash.digest('hex')}`);
}
