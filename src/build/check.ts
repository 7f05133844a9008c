/** `--check`: the same build twice, and what came out otherwise the second time. */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { TsrunError } from '../util/errors.ts';
import { type Comparison, compareImages, comparisonText } from './compare.ts';

export type TwoBuilds = {
  /** The finished image, made before. */
  readonly target: string;
  /** Builds once more, from the same base images but without results of earlier steps, into the file given. */
  readonly again: (target: string) => Promise<void>;
  readonly signal: AbortSignal;
};

/** The second image is removed again, whatever happens. @throws what `again` throws */
export const buildTwiceAndCompare = async ({ target, again, signal }: TwoBuilds): Promise<Comparison> => {
  const second = join(dirname(target), `.${basename(target)}.check-${randomBytes(6).toString('hex')}.sif`);
  try {
    await again(second);
    return await compareImages(target, second, signal);
  } finally {
    await rm(second, { force: true });
  }
};

const SHOWN = 50;

/** @throws TsrunError E_NOT_REPRODUCIBLE, exit status 1: the image is there and good, only not the same each time */
export const requireSame = (comparison: Comparison, target: string): void => {
  const { differences, more } = comparison;
  const count = differences.length + more;
  if (count === 0) return;
  const listed = comparisonText({ ...comparison, differences: differences.slice(0, SHOWN), more: Math.max(0, count - SHOWN) });
  throw new TsrunError({
    code: 'E_NOT_REPRODUCIBLE',
    what: `two builds of ${target} differ`,
    why: `in ${count} ${count === 1 ? 'name' : 'names'}\n${listed.replace(/^/gm, '  ').trimEnd()}\n`,
    hint: 'the image was written all the same; docs/reproducible.md says what helps against each',
    exitCode: 1,
  });
};
