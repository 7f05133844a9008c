/** Which file contents the finished tree shows: a file is part of the image as long as one of its names is. */
import { FLAG, inodeOf, KIND, NO_NODE, type Tree } from '../squashfs/tree.ts';
import type { FileContent } from '../squashfs/types.ts';
import { growU8, nextCapacity } from '../util/growing.ts';
import type { MissingContent } from './apply.ts';
import type { LayerLog } from './layer-log.ts';
import type { ExactContents } from './merge.ts';

/** The writer's handle of the empty file, which every new file node has. */
export const EMPTY = 0 as FileContent;

/** One byte for each node that holds a regular file: 1 when some name of it is left. */
const aliveFiles = (tree: Tree): Uint8Array => {
  const alive = new Uint8Array(tree.count);
  const gone = removedNodes(tree);
  for (let node = 1; node < tree.count; node++) {
    if (gone[node] === 1 || tree.parent[node] === NO_NODE) continue;
    const inode = inodeOf(tree, node);
    if (tree.kind[inode] === KIND.file) alive[inode] = 1;
  }
  return alive;
};

/** A directory stands before what is in it, so one pass is enough. */
const removedNodes = (tree: Tree): Uint8Array => {
  const gone = new Uint8Array(tree.count);
  for (let node = 1; node < tree.count; node++) {
    const parent = tree.parent[node] as number;
    const removed = ((tree.flags[node] as number) & FLAG.removed) !== 0;
    if (removed || (parent !== NO_NODE && gone[parent] === 1)) gone[node] = 1;
  }
  return gone;
};

/** Of the contents that were left out, those the tree needs. */
export const stillMissing = (tree: Tree, missing: readonly MissingContent[]): readonly MissingContent[] => {
  if (missing.length === 0) return missing;
  const alive = aliveFiles(tree);
  return missing.filter(({ inode }) => alive[inode] === 1);
};

/** `has` for each content handle that some name shows, and how many there are. */
export const aliveContents = (tree: Tree): { readonly count: number; has(content: number): boolean } => {
  const alive = aliveFiles(tree);
  let seen = new Uint8Array(tree.count);
  let count = 0;
  for (let node = 1; node < tree.count; node++) {
    const content = tree.payload[node] as number;
    if (alive[node] !== 1 || content === EMPTY) continue;
    // Handles are given out one by one.
    if (content >= seen.length) seen = growU8(seen, nextCapacity(seen.length, content + 1));
    if (seen[content] === 0) count++;
    seen[content] = 1;
  }
  return { count, has: (content) => seen[content] === 1 };
};

/** For each layer, the records whose content belongs to the image. */
export const exactContents = (tree: Tree, logs: readonly LayerLog[], fetched: readonly MissingContent[]): ExactContents => {
  const { has } = aliveContents(tree);
  const layers = logs.map((log) => {
    const wanted = new Set<number>();
    log.each((record, index) => {
      if (record.content !== undefined && has(record.content)) wanted.add(index);
    });
    return wanted;
  });
  for (const { layer, index } of fetched) layers[layer]?.add(index);
  return layers;
};
