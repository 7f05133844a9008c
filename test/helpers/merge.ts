/** mergeLayers with a writer that keeps the contents in memory, and the result as text. */

import type { LayerSource } from '../../src/oci/layer.ts';
import { DEFAULT_LIMITS } from '../../src/oci/limits.ts';
import { type ExactContents, type Merged, type MergeOptions, mergeLayers } from '../../src/oci/merge.ts';
import {
  deviceNumber,
  FLAG,
  inodeOf,
  kindOf,
  metaOf,
  NO_NODE,
  nameOf,
  parentOf,
  symlinkTarget,
  type Tree,
} from '../../src/squashfs/tree.ts';
import type { FileContent } from '../../src/squashfs/types.ts';
import type { Writer } from '../../src/squashfs/writer.ts';
import { makeTar, type TestEntry } from './layers.ts';

export type MemoryWriter = Writer & { readonly contents: readonly string[] };

/** Content 0 is the empty file, as in the real one. */
const memoryWriter = (): MemoryWriter => {
  const contents: string[] = [''];
  let parts: Buffer[] = [];
  return {
    contents,
    beginFile: () => {
      parts = [];
    },
    write: (chunk) => {
      parts.push(Buffer.from(chunk));
    },
    hole: (length) => {
      parts.push(Buffer.alloc(length));
    },
    endFile: () => {
      const text = Buffer.concat(parts).toString('latin1');
      return (text === '' ? 0 : contents.push(text) - 1) as FileContent;
    },
    finish: () => Promise.reject(new Error('not a real writer')),
    abort: () => Promise.resolve(),
  };
};

export const memoryLayer = (tar: Uint8Array, at: number, count: number, more: Partial<LayerSource> = {}): LayerSource => ({
  label: `layer ${at + 1} of ${count}`,
  mediaType: undefined,
  digest: undefined,
  size: undefined,
  diffId: undefined,
  reopenable: true,
  open: async function* () {
    yield tar;
  },
  ...more,
});

export type Merging = { readonly lines: string[]; readonly contents: readonly string[]; readonly merged: Merged };

/** Runs the merge, a second time when it asks for it. @param stacks entries of each layer, base first */
export const mergeTars = async (tars: readonly Uint8Array[], options: Partial<MergeOptions> = {}): Promise<Merging> => {
  let exact: ExactContents | undefined;
  for (;;) {
    const writer = memoryWriter();
    const merged = await mergeLayers({
      name: 'test image',
      layers: tars.map((tar, at) => memoryLayer(tar, at, tars.length)),
      writer,
      limits: DEFAULT_LIMITS,
      keep: () => 0,
      onBytes: () => {},
      signal: new AbortController().signal,
      exact,
      ...options,
    });
    if (merged.rewrite === undefined) return { lines: treeLines(merged.tree, writer.contents), contents: writer.contents.slice(1), merged };
    exact = merged.rewrite;
  }
};

export const mergeEntries = (stacks: readonly (readonly TestEntry[])[], options: Partial<MergeOptions> = {}): Promise<Merging> =>
  mergeTars(stacks.map(makeTar), options);

/** One line for each name that is left: path, kind, mode, and content or target; hard links are marked with the first name of their inode. */
const treeLines = (tree: Tree, contents: readonly string[]): string[] => {
  const lines: string[] = [];
  const seen = new Map<number, string>();
  for (let node = 1; node < tree.count; node++) {
    const path = pathOf(tree, node);
    if (path === undefined) continue;
    const kind = kindOf(tree, node);
    const inode = inodeOf(tree, node);
    const text =
      kind === 'file'
        ? (contents[tree.payload[inode] as number] ?? '?')
        : kind === 'symlink'
          ? `-> ${Buffer.from(symlinkTarget(tree, node)).toString('latin1')}`
          : kind === 'character' || kind === 'block'
            ? Object.values(deviceNumber(tree, node)).join(':')
            : '';
    const twin = kind === 'directory' ? undefined : seen.get(inode);
    seen.set(inode, twin ?? path);
    lines.push(
      `${path} ${kind} ${metaOf(tree, node).mode.toString(8)}${text === '' ? '' : ` ${text}`}${twin === undefined ? '' : ` =${twin}`}`,
    );
  }
  return lines.sort();
};

const pathOf = (tree: Tree, node: number): string | undefined => {
  const parts: string[] = [];
  for (let at = node; at !== 0; at = parentOf(tree, at)) {
    if (at === NO_NODE || ((tree.flags[at] as number) & FLAG.removed) !== 0) return undefined;
    parts.unshift(Buffer.from(nameOf(tree, at)).toString('latin1'));
  }
  return `/${parts.join('/')}`;
};
