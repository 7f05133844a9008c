/** --stage: the image is copied to this node before it is used, once for all runs of the user there. */
import type { SquashImage } from '../image/image.ts';
import { stagedIn, stagedInMemory } from '../store/staged.ts';
import type { Op } from './ops.ts';
import type { Situation } from './situation.ts';

/**
 * The copy is named after the file's identity: device and inode, then size and times, by which a changed file is
 * another one.
 * @param local the node-local place of the user
 */
export const stageOps = (where: 'local' | 'memory', { identity }: Situation, image: SquashImage, local: string): Op[] => {
  const { key, device } = image.identity();
  const memory = where === 'memory';
  const directory = memory ? stagedInMemory(identity.ids.euid) : stagedIn(local);
  const flags = memory ? ['memory'] : [];
  return [
    {
      op: 'stage',
      path: `${directory}/${device}-${key}`,
      flags,
      why: `--stage: copied to ${memory ? 'memory' : 'this node'} by the first run, used by all`,
    },
  ];
};
