/** Listings and contents of an image by way of the native reader (native/image.h), as streams: for images of any size. */
import { type SpawnOptions, spawn } from 'node:child_process';
import { TsrunError } from '../util/errors.ts';
import { nativeProgram } from '../util/native-program.ts';
import { gathered } from './child-stream.ts';
import type { SquashFile } from './squash-file.ts';

/** One name in an image; strings are byte strings. */
export type ListedName = {
  /** Absolute. */
  readonly path: string;
  /** One of d f l b c p s. */
  readonly type: string;
  /** Octal. */
  readonly mode: string;
  readonly uid: string;
  readonly gid: string;
  readonly size: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  /** The same for hard links. */
  readonly inode: string;
  /** "8:1" of a device, else "". */
  readonly device: string;
  /** Of a symbolic link. */
  readonly target: string;
  readonly xattrs: ReadonlyMap<string, string>;
};

const FIELDS = 11;
const MAX_MESSAGE = 4000;

/** Everything in the image, parents before children, siblings by the bytes of their names. @throws TsrunError E_IMAGE_READ */
export async function* listImage(image: SquashFile): AsyncGenerator<ListedName> {
  let fields: readonly string[] = [];
  let rest = '';
  for await (const chunk of nativeOutput(image, 'tree', ['-x'], ['/'])) {
    const parts = (rest + Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString('latin1')).split('\0');
    rest = parts.pop() ?? '';
    fields = fields.concat(parts);
    let at = 0;
    for (; at + FIELDS <= fields.length; at += FIELDS) yield nameOf(fields.slice(at, at + FIELDS));
    fields = fields.slice(at);
  }
}

const nameOf = (fields: readonly string[]): ListedName => {
  const [path = '', type = '', mode = '', uid = '', gid = '', size = '', mtime = '', inode = '', device = '', target = '', xattrs = ''] =
    fields;
  return { path, type, mode, uid, gid, size: Number(size), mtime: Number(mtime), inode, device, target, xattrs: xattrsOf(xattrs) };
};

const NONE: ReadonlyMap<string, string> = new Map();

const xattrsOf = (text: string): ReadonlyMap<string, string> => {
  if (text === '') return NONE;
  const pairs = text.split(',').filter((pair) => pair !== '');
  return new Map(pairs.map((pair) => pair.split('=').map((hex) => Buffer.from(hex, 'hex').toString('latin1')) as [string, string]));
};

/** The bytes of regular files, one behind the other, in the order of `paths` (which have to fit on a command line). */
export const contentsOf = (image: SquashFile, paths: readonly string[]): AsyncGenerator<Uint8Array> =>
  nativeOutput(image, 'cat', [], paths);

/** The whole of a file, or undefined when it is longer than `limit` or no regular file. */
export const readWhole = async (image: SquashFile, path: string, limit: number): Promise<Buffer | undefined> => {
  const parts: Uint8Array[] = [];
  for await (const chunk of nativeOutput(image, 'read', ['-l', String(limit)], [path])) parts.push(chunk);
  const all = Buffer.concat(parts);
  const errnoAt = all.indexOf(0) + 1;
  const lengthAt = all.indexOf(0, errnoAt) + 1;
  const contentAt = all.indexOf(0, lengthAt) + 1;
  return all.toString('latin1', errnoAt, lengthAt - 1) === '0' ? all.subarray(contentAt) : undefined;
};

async function* nativeOutput(
  image: SquashFile,
  command: string,
  options: readonly string[],
  paths: readonly string[],
): AsyncGenerator<Uint8Array> {
  // Node takes arguments as text: a name that is not UTF-8 cannot be passed, and is not compared by content.
  const raw = paths.map((path) => Buffer.from(path, 'latin1').toString('utf8'));
  const stdio: SpawnOptions['stdio'] = ['ignore', 'pipe', 'pipe'];
  const child = spawn(nativeProgram(), ['@image', command, ...options, image.path, String(image.offset), String(image.size), ...raw], {
    stdio,
  });
  let message = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    message = (message + text).slice(0, MAX_MESSAGE);
  });
  const ended = new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', (status, signal) =>
      resolve(status === 0 ? undefined : message.trim() || `the reader ended with ${signal ?? status}`),
    );
  });
  try {
    yield* gathered(child.stdout as AsyncIterable<Uint8Array>);
    const failure = await ended;
    if (failure === undefined) return;
    throw new TsrunError({
      code: 'E_IMAGE_READ',
      what: `cannot look into the image ${image.path}`,
      why: failure.replace(/^tsrun: /, ''),
      hint: 'the image is damaged: fetch or build it again',
    });
  } finally {
    child.kill('SIGKILL');
  }
}
