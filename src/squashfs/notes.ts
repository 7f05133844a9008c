/** What the format could not hold of a tree, in sentences for the user. */
import type { Tree } from './tree.ts';
import { FLAG } from './tree.ts';
import type { TreeOrder } from './tree-order.ts';

const SENTENCES: readonly { readonly flag: number; readonly text: string }[] = [
  { flag: FLAG.nanoseconds, text: 'modification times are kept in whole seconds' },
  { flag: FLAG.clampedTime, text: 'modification times before 1970 or after 2106 were moved to the nearest that can be held' },
  { flag: FLAG.lostAcl, text: 'access control lists (system.posix_acl_*) cannot be held and were left out' },
  { flag: FLAG.lostXattr, text: 'extended attributes outside user., trusted. and security. cannot be held and were left out' },
];

export const notesOf = (tree: Tree, order: TreeOrder): readonly string[] => {
  const counts = SENTENCES.map(() => 0);
  for (const inode of order.inodes) {
    const flags = tree.flags[inode] as number;
    if (flags === 0) continue;
    SENTENCES.forEach(({ flag }, i) => {
      if ((flags & flag) !== 0) counts[i] = (counts[i] as number) + 1;
    });
  }
  return SENTENCES.flatMap(({ text }, i) => (counts[i] === 0 ? [] : [`${text} (${counts[i]} ${counts[i] === 1 ? 'file' : 'files'})`]));
};
