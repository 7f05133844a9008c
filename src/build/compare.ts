/**
 * Two images compared: every name that differs, with what of it differs and a guess why. Both listings are read side by side (they are sorted
 * alike), then the contents of files that have the same length, in long streams. Memory does not grow with the contents.
 *
 * Equal tree digests settle it without reading anything.
 */
import { printableLine } from '../util/printable.ts';
import { decodeUtf8 } from '../util/utf8.ts';
import { sniff, type TwoContents } from './compare-guess.ts';
import { contentsOf, type ListedName, listImage, readWhole } from './native-stream.ts';
import { OBJECTS } from './records.ts';
import { objectText, openSquashFile, type SquashFile } from './squash-file.ts';

export type Aspect =
  | 'only in the first'
  | 'only in the second'
  | 'type'
  | 'mode'
  | 'owner'
  | 'time'
  | 'size'
  | 'content'
  | 'target'
  | 'device'
  | 'xattrs'
  | 'links';

export type Difference = {
  /** Absolute, a byte string; or the name of a SIF object, without a slash. */
  readonly path: string;
  readonly aspects: readonly Aspect[];
  /** "mode 644, 755; time 2026-01-02T…, 2026-01-03T…": first, second. */
  readonly detail: string;
  /** What usually makes such a difference; undefined when nothing is known. */
  readonly guess: string | undefined;
};

export type Comparison = {
  readonly names: number;
  readonly differences: readonly Difference[];
  /** Further ones that are not listed. */
  readonly more: number;
};

/** More are of no use to anybody. */
const MAX_DIFFERENCES = 10_000;
/** Files up to here are read whole for a guess. */
const MAX_SNIFFED = 1 << 20;

/** @throws TsrunError of openSquashFile, E_IMAGE_READ */
export const compareImages = async (first: string, second: string, signal: AbortSignal): Promise<Comparison> => {
  const [a, b] = [openSquashFile(first), openSquashFile(second)];
  const digest = treeDigestOf(a);
  const objects = compareObjects(a, b);
  if (digest !== undefined && digest === treeDigestOf(b)) return { names: 0, differences: objects, more: 0 };

  const { names, found, files } = await compareListings(a, b, signal);
  await compareContents(a, b, files, found, signal);
  const all = [...found.values()].sort((x, y) => (sortKey(x.path) < sortKey(y.path) ? -1 : 1));
  const listed = all.slice(0, MAX_DIFFERENCES);
  const differences: Difference[] = [...objects];
  for (const each of listed) differences.push(await guessed(a, b, each));
  return { names, differences, more: all.length - listed.length };
};

const treeDigestOf = (image: SquashFile): string | undefined => {
  try {
    const { treeDigest } = JSON.parse(objectText(image, 'generic-json', OBJECTS.build) || '{}') as { treeDigest?: unknown };
    return typeof treeDigest === 'string' ? treeDigest : undefined;
  } catch {
    return undefined;
  }
};

/** What lies beside the root file system and says how the image runs. */
const compareObjects = (a: SquashFile, b: SquashFile): Difference[] =>
  ([OBJECTS.definition, OBJECTS.ociConfig, OBJECTS.ociManifest] as const).flatMap((name) => {
    const type = name === OBJECTS.definition ? 'definition' : 'generic-json';
    const [one, other] = [a, b].map((image) => objectText(image, type, name));
    return one === other ? [] : [{ path: name, aspects: ['content'], detail: 'content', guess: undefined }];
  });

/** Found, but not yet looked at for a reason. */
type Found = Difference & { readonly file: boolean };
type Pair = { readonly path: string; readonly size: number };

const compareListings = async (
  a: SquashFile,
  b: SquashFile,
  signal: AbortSignal,
): Promise<{ readonly names: number; readonly found: Map<string, Found>; readonly files: readonly Pair[] }> => {
  const [left, right] = [listImage(a), listImage(b)];
  const found = new Map<string, Found>();
  const files: Pair[] = [];
  const compared = new Set<string>();
  const firstNames = [new Map<string, string>(), new Map<string, string>()] as const;
  const add = (path: string, aspects: readonly Aspect[], detail: string, file: boolean): void => {
    found.set(path, { path, aspects, detail, guess: undefined, file });
  };
  let names = 0;
  try {
    let [x, y] = [await take(left), await take(right)];
    while (x !== undefined || y !== undefined) {
      signal.throwIfAborted();
      names++;
      const [xKey, yKey] = [x && sortKey(x.path), y && sortKey(y.path)];
      if (x !== undefined && (yKey === undefined || (xKey ?? '') < yKey)) {
        firstNameOf(firstNames[0], x);
        add(x.path, ['only in the first'], 'only in the first', false);
        x = await take(left);
      } else if (y !== undefined && (xKey === undefined || yKey !== xKey)) {
        firstNameOf(firstNames[1], y);
        add(y.path, ['only in the second'], 'only in the second', false);
        y = await take(right);
      } else if (x !== undefined && y !== undefined) {
        const links = firstNameOf(firstNames[0], x) !== firstNameOf(firstNames[1], y);
        const parts = differing(x, y, links);
        if (parts.length > 0)
          add(
            x.path,
            parts.map(([aspect]) => aspect),
            parts.map(textOf).join('; '),
            x.type === 'f' && y.type === 'f',
          );
        const pair = `${x.inode} ${y.inode}`;
        if (x.type === 'f' && y.type === 'f' && x.size === y.size && x.size > 0 && !compared.has(pair) && canBeRead(x.path)) {
          compared.add(pair);
          files.push({ path: x.path, size: x.size });
        }
        [x, y] = [await take(left), await take(right)];
      }
    }
  } finally {
    await Promise.all([left.return(undefined), right.return(undefined)]);
  }
  return { names, found, files };
};

/** Programs get arguments as text from Node. */
const canBeRead = (path: string): boolean => decodeUtf8(path) !== null;

const take = async (listing: AsyncGenerator<ListedName>): Promise<ListedName | undefined> => {
  const next = await listing.next();
  return next.done === true ? undefined : next.value;
};

/** Orders paths as the listing does: a directory, what is in it, then its next sibling. */
const sortKey = (path: string): string => path.replaceAll('/', '\0');

/** The name under which the listing showed this inode first. */
const firstNameOf = (names: Map<string, string>, { type, inode, path }: ListedName): string => {
  if (type === 'd') return path;
  const known = names.get(inode);
  if (known === undefined) names.set(inode, path);
  return known ?? path;
};

type Part = readonly [aspect: Aspect, first: string, second: string];

const differing = (x: ListedName, y: ListedName, links: boolean): readonly Part[] => {
  if (x.type !== y.type) return [['type', TYPES[x.type] ?? x.type, TYPES[y.type] ?? y.type]];
  const parts: readonly Part[] = [
    ['mode', x.mode, y.mode],
    ['owner', `${x.uid}:${x.gid}`, `${y.uid}:${y.gid}`],
    ['time', dateText(x.mtime), dateText(y.mtime)],
    ['size', x.type === 'f' ? String(x.size) : '', y.type === 'f' ? String(y.size) : ''],
    ['target', x.target, y.target],
    ['device', x.device, y.device],
    ['xattrs', xattrText(x, y), xattrText(y, x)],
    ['links', '', links ? 'other names of the same file' : ''],
  ];
  return parts.filter(([, one, other]) => one !== other);
};

const TYPES: Readonly<Record<string, string>> = {
  d: 'directory',
  f: 'file',
  l: 'link',
  b: 'block device',
  c: 'character device',
  p: 'fifo',
  s: 'socket',
};

const dateText = (seconds: number): string => new Date(seconds * 1000).toISOString().replace('.000', '');

/** Names of the attributes that `other` has not, or has with another value. */
const xattrText = ({ xattrs }: ListedName, other: ListedName): string =>
  [...xattrs]
    .filter(([name, value]) => other.xattrs.get(name) !== value)
    .map(([name, value]) => `${name} (${value.length} bytes)`)
    .join(' ') || (xattrs.size === other.xattrs.size ? '' : 'none');

const textOf = ([aspect, first, second]: Part): string =>
  aspect === 'links' ? second : `${aspect} ${first || 'none'}, ${second || 'none'}`;

const BATCH_PATHS = 1000;
const BATCH_BYTES = 256 * 1024;

/** Files of one length each, in batches that fit on a command line; what differs is added to `found`. */
const compareContents = async (
  a: SquashFile,
  b: SquashFile,
  files: readonly Pair[],
  found: Map<string, Found>,
  signal: AbortSignal,
): Promise<void> => {
  for (let at = 0; at < files.length; ) {
    const batch: Pair[] = [];
    let bytes = 0;
    for (; at < files.length && batch.length < BATCH_PATHS && bytes < BATCH_BYTES; at++) {
      const file = files[at] as Pair;
      batch.push(file);
      bytes += file.path.length + 1;
    }
    const paths = batch.map(({ path }) => path);
    for (const file of await differingFiles(contentsOf(a, paths), contentsOf(b, paths), batch, signal)) {
      const known = found.get(file.path);
      const aspects: readonly Aspect[] = [...(known?.aspects ?? []), 'content'];
      const detail = [...(known === undefined ? [] : [known.detail]), 'content'].join('; ');
      found.set(file.path, { path: file.path, aspects, detail, guess: undefined, file: true });
    }
  }
};

/** Two streams of the same files, read in step. */
const differingFiles = async (
  left: AsyncGenerator<Uint8Array>,
  right: AsyncGenerator<Uint8Array>,
  files: readonly Pair[],
  signal: AbortSignal,
): Promise<readonly Pair[]> => {
  const [x, y] = [pieces(left), pieces(right)];
  const different: Pair[] = [];
  try {
    for (const file of files) {
      let same = true;
      for (let left = file.size; left > 0; ) {
        signal.throwIfAborted();
        const length = Math.min(left, await x.available(), await y.available());
        if (length === 0) throw new Error(`the reader ended inside ${file.path}`);
        same = Buffer.compare(x.take(length), y.take(length)) === 0 && same;
        left -= length;
      }
      if (!same) different.push(file);
    }
  } finally {
    await Promise.all([left.return(undefined), right.return(undefined)]);
  }
  return different;
};

const pieces = (source: AsyncGenerator<Uint8Array>) => {
  let held: Uint8Array = new Uint8Array(0);
  return {
    available: async (): Promise<number> => {
      while (held.length === 0) {
        const next = await source.next();
        if (next.done === true) return 0;
        held = next.value;
      }
      return held.length;
    },
    take: (length: number): Uint8Array => {
      const part = held.subarray(0, length);
      held = held.subarray(length);
      return part;
    },
  };
};

const guessed = async (a: SquashFile, b: SquashFile, { file, ...difference }: Found): Promise<Difference> => {
  const { path, aspects } = difference;
  if (!file || !canBeRead(path) || !(aspects.includes('content') || aspects.includes('size'))) return difference;
  const [one, other] = [await readWhole(a, path, MAX_SNIFFED), await readWhole(b, path, MAX_SNIFFED)];
  const contents: TwoContents | undefined = one !== undefined && other !== undefined ? { one, other } : undefined;
  return { ...difference, guess: sniff(path, contents) };
};

/** One line for each difference; for people. */
export const comparisonText = ({ differences, more }: Comparison): string =>
  [
    ...differences.map(({ path, detail, guess }) => `${shown(path)}: ${shown(detail)}${guess === undefined ? '' : ` (${guess})`}\n`),
    ...(more === 0 ? [] : [`and ${more} more\n`]),
  ].join('');

const shown = (bytes: string): string => printableLine(decodeUtf8(bytes) ?? bytes);
