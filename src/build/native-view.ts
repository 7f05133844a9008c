/** A SquashFS file as an image to look into, by way of the native reader (`tsrun @image`), so that there is one reader of hostile images. */
import { spawnSync } from 'node:child_process';
import type { ImageNode, ImageView } from '../image/view.ts';
import { TsrunError } from '../util/errors.ts';
import type { FileKind } from '../util/host.ts';
import { nativeProgram } from '../util/native-program.ts';
import type { SquashFile } from './squash-file.ts';

const MAX_OUTPUT = 64 * 1024 * 1024;
/** Beyond it a directory is none that image facts are about. */
const MAX_ENTRIES = 65_536;
const MAX_FILE = 16 * 1024 * 1024;

type Listed = ImageNode & { readonly name: string; readonly fileKind: FileKind; readonly target: string };

/** Every directory is listed once, every file read once. @throws TsrunError E_IMAGE_READ */
export const nativeView = (image: SquashFile): ImageView => {
  const listings = new Map<string, ReadonlyMap<string, Listed> | null>();
  const files = new Map<string, string | null>();

  const list = (directory: string): ReadonlyMap<string, Listed> | null => {
    const known = listings.get(directory);
    if (known !== undefined) return known;
    const parent = directory === '/' ? undefined : nodeAt(directory);
    const listing =
      directory !== '/' && parent?.kind !== 'directory' ? null : parseListing(runImage(image, 'tree', ['-d', '1'], [directory]), directory);
    listings.set(directory, listing);
    return listing;
  };

  const nodeAt = (path: string): Listed | null => {
    const slash = path.lastIndexOf('/');
    return list(slash === 0 ? '/' : path.slice(0, slash))?.get(path.slice(slash + 1)) ?? null;
  };

  const readFile = (path: string): string | null => {
    const known = files.get(path);
    if (known !== undefined) return known;
    const text = nodeAt(path)?.kind === 'file' ? parseContent(runImage(image, 'read', ['-l', String(MAX_FILE)], [path])) : null;
    files.set(path, text);
    return text;
  };

  return {
    lstat: (path) => (path === '/' ? { kind: 'directory', mode: 0o755, size: 0 } : nodeAt(path)),
    readlink: (path) => {
      const node = path === '/' ? null : nodeAt(path);
      return node?.kind === 'link' ? node.target : null;
    },
    readdir: (path) => {
      const listing = list(path);
      if (listing === null || listing.size > MAX_ENTRIES) return null;
      return [...listing.values()].map(({ name, fileKind }) => ({ name, kind: fileKind }));
    },
    read: (path, limit, offset = 0) => readFile(path)?.slice(offset, offset + limit) ?? null,
  };
};

/** Output as a byte string. */
const runImage = (image: SquashFile, command: string, options: readonly string[], paths: readonly string[]): string => {
  const raw = paths.map((path) => Buffer.from(path, 'latin1').toString('utf8'));
  const args = ['@image', command, ...options, image.path, String(image.offset), String(image.size), ...raw];
  const { status, stdout, stderr, error } = spawnSync(nativeProgram(), args, { maxBuffer: MAX_OUTPUT });
  if (error === undefined && status === 0) return stdout.toString('latin1');
  throw new TsrunError({
    code: 'E_IMAGE_READ',
    what: `cannot look into the image ${image.path}`,
    why:
      error?.message ??
      (stderr
        .toString('utf8')
        .trim()
        .replace(/^tsrun: /, '') ||
        `the reader ended with status ${status}`),
    hint: 'the image is damaged: fetch or build it again',
  });
};

const FIELDS = 10;
const KINDS: Readonly<Record<string, { kind: ImageNode['kind']; fileKind: FileKind }>> = {
  d: { kind: 'directory', fileKind: 'directory' },
  f: { kind: 'file', fileKind: 'file' },
  l: { kind: 'link', fileKind: 'link' },
  b: { kind: 'other', fileKind: 'block' },
  c: { kind: 'other', fileKind: 'char' },
  p: { kind: 'other', fileKind: 'pipe' },
  s: { kind: 'other', fileKind: 'socket' },
};

/** The fields are described in native/image.h. */
const parseListing = (output: string, directory: string): ReadonlyMap<string, Listed> => {
  const fields = output.split('\0');
  const listing = new Map<string, Listed>();
  for (let at = 0; at + FIELDS <= fields.length; at += FIELDS) {
    const [path = '', type = '', mode = '', , , size = '', , , , target = ''] = fields.slice(at, at + FIELDS);
    if (path === directory) continue;
    const name = path.slice(path.lastIndexOf('/') + 1);
    listing.set(name, {
      name,
      ...(KINDS[type] ?? { kind: 'other', fileKind: 'other' }),
      mode: Number.parseInt(mode, 8),
      size: Number(size),
      target,
    });
  }
  return listing;
};

/** PATH NUL ERRNO NUL LENGTH NUL CONTENT */
const parseContent = (output: string): string | null => {
  const header = /^[^\0]*\0(\d+)\0(\d+)\0/.exec(output);
  if (header === null || header[1] !== '0') return null;
  return output.slice(header[0].length, header[0].length + Number(header[2]));
};
