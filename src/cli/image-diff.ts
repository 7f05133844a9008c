/** `tsrun image diff FIRST SECOND`: what differs between two images. */
import { compareImages, comparisonText } from '../build/compare.ts';
import { decodeUtf8 } from '../util/utf8.ts';
import { interruptible } from './interrupt.ts';

/** @returns the text for stdout. @throws TsrunError */
export const imageDiff = async (
  first: string,
  second: string,
  json: boolean,
): Promise<{ readonly text: string; readonly same: boolean }> => {
  const comparison = await interruptible((signal) => compareImages(first, second, signal));
  const same = comparison.differences.length === 0;
  if (!json) return { text: comparisonText(comparison), same };
  const differences = comparison.differences.map(({ path, detail, ...rest }) => ({
    path: decodeUtf8(path) ?? path,
    detail: decodeUtf8(detail) ?? detail,
    ...rest,
  }));
  return { text: `${JSON.stringify({ same, differences, more: comparison.more }, undefined, 2)}\n`, same };
};
